//! Standard output carries the result and nothing else; everything for people to follow goes to standard error.
//!
//! Neither ever panics: a closed standard output ends the command quietly, a closed standard error is ignored.

use core::fmt;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::args::Format;
use crate::error::{Failure, Result};

/// Prints a command's result: JSON if asked for, else what `text` makes of it.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
    match format {
        Format::Json => json(value),
        Format::Text => write(text(value).as_bytes()),
    }
}

/// Prints one JSON value to standard output.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<()> {
    let mut json = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(
            format_args!("the result cannot be written as JSON: {error}"),
            "report this with the command",
        )
    })?;
    json.push('\n');
    write(json.as_bytes())
}

/// Writes bytes to standard output and flushes them.
///
/// # Errors
/// If standard output cannot be written; [`Failure::PipeClosed`] if nobody reads it.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| stdout_failure(&error))
}

/// Standard output's failure.
pub(crate) fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::PipeClosed;
    }
    Failure::new(
        format_args!("cannot write to standard output: {error}"),
        "check where standard output goes, and its free space",
    )
}

/// Tells the user something, on standard error.
pub(crate) fn tell(message: impl fmt::Display) {
    // A closed standard error leaves nobody to tell.
    // One write for all of it: standard error has no buffer.
    let _ = io::stderr().write_all(format!("{message}\n").as_bytes());
}

/// True if a person watches standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Lines of `label  value` with the values in one column.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds a line.
    pub(crate) fn add(&mut self, label: impl Into<String>, value: impl fmt::Display) -> &mut Self {
        self.0.push((label.into(), value.to_string()));
        self
    }

    /// The lines, each indented by `indent` spaces.
    pub(crate) fn render(&self, indent: usize) -> String {
        let width = self.0.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        self.0.iter().map(|(label, value)| format!("{:indent$}{label:<width$}  {value}\n", "")).collect()
    }
}

/// `text` without control characters: what a guest or a file says must not drive the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One name for `count` things.
pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_one_column() {
        let mut fields = Fields::default();
        fields.add("Name", "a").add("Memory", 3);
        assert_eq!(fields.render(2), "  Name    a\n  Memory  3\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
