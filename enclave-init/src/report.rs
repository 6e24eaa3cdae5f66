//! Tells the host how the application ended: one line to (CID 2, port 9001), answered by `ok`.
//!
//! The line is `exited <0..255>`, `signalled <1..64>` or `failed <text>` (the application never started). It is
//! a claim by the guest and shown as such. A hypervisor that does not know the service (AWS's) resets the
//! connection or ignores it, so everything here is bounded and every failure is passed over.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

use crate::vsock::Stream;

/// The host's well-known context id (`VMADDR_CID_HOST`).
const HOST_CID: u32 = 2;
/// Port of the service.
const PORT: u32 = 9001;
/// Longest wait for each of connecting, sending and the answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest text of a failure, in characters; what is longer is cut.
pub const MAX_TEXT: usize = 256;

/// How the application ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Signalled(u8),
    /// It could not be started, for this reason.
    Failed(String),
}

impl Ending {
    /// The line that is sent: ASCII, at most 512 bytes, ended by a line feed.
    pub fn line(&self) -> String {
        match self {
            Self::Exited(status) => format!("exited {status}\n"),
            Self::Signalled(signal) => format!("signalled {signal}\n"),
            Self::Failed(text) => format!("failed {}\n", printable(text)),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "the application exited with status {status}"),
            Self::Signalled(signal) => write!(f, "the application was killed by signal {signal}"),
            Self::Failed(text) => write!(f, "the application did not start: {text}"),
        }
    }
}

/// Sends the report and waits, briefly, until the host has it.
///
/// # Errors
/// Only for those who want to know; the enclave ends in any case.
pub fn send(ending: &Ending) -> Result<(), Errno> {
    let stream = Stream::connect(HOST_CID, PORT, LIMIT)?;
    stream.send(ending.line().as_bytes())?;
    // The answer's content does not matter: it only says that the line was read before the machine restarts.
    let mut answer = [0; 16];
    stream.receive(&mut answer).map(|_| ())
}

/// What the protocol takes: printable ASCII, at most [`MAX_TEXT`] characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|character| if character == ' ' || character.is_ascii_graphic() { character } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_are_those_of_the_protocol() {
        assert_eq!(Ending::Exited(0).line(), "exited 0\n");
        assert_eq!(Ending::Exited(255).line(), "exited 255\n");
        assert_eq!(Ending::Signalled(9).line(), "signalled 9\n");
        assert_eq!(Ending::Failed("no /app".into()).line(), "failed no /app\n");
    }

    #[test]
    fn a_failures_text_cannot_break_the_line() {
        let line = Ending::Failed("a\nexited 0\r\t\u{1b}[0mé".into()).line();
        assert_eq!(line, "failed a?exited 0???[0m?\n");
    }

    #[test]
    fn the_longest_text_is_kept_and_a_longer_one_cut() {
        let text = "x".repeat(MAX_TEXT);
        assert_eq!(Ending::Failed(text.clone()).line(), format!("failed {text}\n"));
        assert_eq!(Ending::Failed(format!("{text}y")).line(), format!("failed {text}\n"));
    }

    proptest! {
        #[test]
        fn every_text_gives_one_short_line(text: String) {
            let line = Ending::Failed(text).line();
            prop_assert!(line.len() <= 512);
            prop_assert!(line.strip_suffix('\n').unwrap().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }
}
