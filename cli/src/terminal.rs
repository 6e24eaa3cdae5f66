//! A guest's console on a terminal: its control sequences must not drive the reader's terminal.

use std::io::{self, IsTerminal, Read, Write};

use thiserror::Error;

use crate::error::Failure;
use crate::output::stdout_failure;

/// Bytes that are passed on at a time.
const CHUNK: usize = 16 * 1024;
/// What stands in the place of a control character.
const MARK: u8 = b'?';
/// First byte of the two that are one of the control characters U+0080 to U+009F in UTF-8.
const C1_LEAD: u8 = 0xc2;

/// A stream that is passed on byte for byte, unless it is a terminal: then control characters other than tabs and line
/// ends are marked.
#[derive(Debug)]
pub(crate) struct Shown<W> {
    inner: W,
    terminal: bool,
    after_lead: bool,
}

impl<W: Write + IsTerminal> Shown<W> {
    /// Looks at what `inner` is.
    pub(crate) fn new(inner: W) -> Self {
        let terminal = inner.is_terminal();
        Self { inner, terminal, after_lead: false }
    }
}

impl<W> Shown<W> {
    fn harmless(&mut self, byte: u8) -> u8 {
        let c1 = self.after_lead && matches!(byte, 0x80..=0x9f);
        self.after_lead = byte == C1_LEAD;
        match byte {
            b'\n' | b'\r' | b'\t' => byte,
            0..0x20 | 0x7f => MARK,
            _ if c1 => MARK,
            _ => byte,
        }
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.terminal {
            return self.inner.write(bytes);
        }
        let shown: Vec<u8> = bytes.iter().map(|byte| self.harmless(*byte)).collect();
        self.inner.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Why a console is not shown to its end.
#[derive(Debug, Error)]
pub(crate) enum ConsoleError {
    /// Nothing more can be read of it.
    #[error("the console broke off: {0}")]
    Read(#[source] io::Error),
    /// Nothing more can be written.
    #[error("cannot write to standard output: {0}")]
    Write(#[source] io::Error),
}

impl From<ConsoleError> for Failure {
    fn from(error: ConsoleError) -> Self {
        match error {
            ConsoleError::Read(_) => Self::new(
                error,
                "look at the enclave with `enclave describe`; `enclave logs` prints what was kept",
            ),
            ConsoleError::Write(error) => stdout_failure(&error),
        }
    }
}

/// Copies a console to its end, at once and byte for byte as far as `output` is no terminal.
///
/// # Errors
/// If either side fails.
pub(crate) fn pass_on(mut console: impl Read, mut output: impl Write) -> Result<(), ConsoleError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match console.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ConsoleError::Read(error)),
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        output.write_all(bytes).and_then(|()| output.flush()).map_err(ConsoleError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool, parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = Shown { inner: Vec::new(), terminal, after_lead: false };
        for part in parts {
            stream.write_all(part).unwrap();
        }
        stream.inner
    }

    #[test]
    fn control_sequences_are_marked_on_a_terminal_alone() {
        let text = b"a\x1b[2J\x07\tb\r\n\x7f";
        assert_eq!(shown(true, &[text]), b"a?[2J?\tb\r\n?");
        assert_eq!(shown(false, &[text]), text);
    }

    #[test]
    fn a_control_character_of_two_bytes_is_marked_across_writes() {
        assert_eq!(shown(true, &[b"\xc2", b"\x9b2J\xc3\x9b"]), b"\xc2?2J\xc3\x9b");
    }
}
