//! An error as nitro-cli tells it: the number with its text, a link, a log file of its own, and the number as exit status.
//!
//! What nitro-cli hides in its backtrace, the cause, is always told here, with what to do about it.

use core::fmt;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::Location;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;

use super::codes::Code;
use crate::error::Failure;
use crate::output;

/// Where AWS explains the numbers.
const HELP: &str = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html";
/// Names the folder of error logs.
const LOGS_VARIABLE: &str = "NITRO_CLI_LOGS_PATH";
/// That folder without the variable.
const LOGS_FOLDER: &str = "/var/log/nitro_enclaves";
/// With the value 1, the backtrace is shown as well.
const BACKTRACE_VARIABLE: &str = "BACKTRACE";

/// The result of a subcommand.
pub(super) type Result<T> = core::result::Result<T, Error>;

/// Why a subcommand failed.
#[derive(Debug)]
pub(super) struct Error {
    code: Code,
    /// What stands in the text of this number.
    parameters: Vec<String>,
    cause: String,
    next: String,
    place: &'static Location<'static>,
}

impl Error {
    /// A failure with a cause and what to do about it; both may have several lines.
    #[track_caller]
    pub(super) fn new(code: Code, cause: impl fmt::Display, next: impl fmt::Display) -> Self {
        Self {
            code,
            parameters: Vec::new(),
            cause: cause.to_string(),
            next: next.to_string(),
            place: Location::caller(),
        }
    }

    /// A failure that the rest of the command has described.
    #[track_caller]
    pub(super) fn of(code: Code, failure: Failure) -> Self {
        match failure {
            Failure::Told { cause, next, .. } => Self::new(code, cause, next),
            Failure::PipeClosed => {
                Self::new(code, "nobody reads standard output any more", "read it to its end")
            }
        }
    }

    /// A failed operation on a file; `operation` is "Open", "Read" or the like.
    #[track_caller]
    pub(super) fn file(path: &Path, operation: &str, error: &io::Error) -> Self {
        let failure = Failure::file(&operation.to_lowercase(), path, error);
        Self::of(Code::FILE_OPERATION, failure).with([&path.display().to_string(), operation])
    }

    /// Adds what the text of this number names, in nitro-cli's order.
    pub(super) fn with<const N: usize>(mut self, parameters: [&str; N]) -> Self {
        self.parameters.extend(parameters.iter().map(|parameter| output::printable(parameter)));
        self
    }

    /// The same failure with another number.
    pub(super) fn coded(mut self, code: Code) -> Self {
        (self.code, self.parameters) = (code, Vec::new());
        self
    }

    /// Tells it on standard error, logs it, and returns the exit status. `action` is the subcommand in words.
    pub(super) fn report(&self, action: &str) -> u8 {
        let backtrace = self.backtrace(action);
        let mut text = format!("{}\n{}", self.description(), self.cause_and_next());
        text.push_str(&format!("\nFor more details, please visit {HELP}#{}\n", self.code.text()));
        if env::var_os(BACKTRACE_VARIABLE).is_some_and(|value| value == "1") {
            text.push_str(&format!("\nBacktrace:\n{backtrace}\n"));
        }
        text.push_str(&match log(&backtrace) {
            Ok(path) => format!(
                "\nIf you open a support ticket, please provide the error log found at \"{}\"",
                path.display()
            ),
            Err((path, error)) => format!(
                "\nNo error log was written to {}: {error}; set {LOGS_VARIABLE} to a folder that you can write to",
                path.display()
            ),
        });
        output::tell(text);
        self.code.number()
    }

    /// The number and nitro-cli's text for it, with its parameters.
    fn description(&self) -> String {
        let (_, meaning) = self.code.meaning();
        let parameters: Vec<&str> = self.parameters.iter().map(String::as_str).collect();
        let text = described(self.code, &parameters).unwrap_or_else(|| meaning.to_owned());
        format!("[ {} ] {text}", self.code.text())
    }

    fn cause_and_next(&self) -> String {
        let lines = |label: &str, text: &str| -> String {
            text.trim().lines().map(|line| format!("{label}: {}\n", output::printable(line))).collect()
        };
        format!("{}{}", lines("Cause", &self.cause), lines("Next", &self.next))
    }

    fn backtrace(&self, action: &str) -> String {
        format!(
            "  Action: {action}\n  Subactions:\n    {}\n  Root error file: {}\n  Root error line: {}\n  Version: {}",
            self.cause.trim().replace('\n', "\n    "),
            self.place.file(),
            self.place.line(),
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The cause and what to do about it, for one of several enclaves.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause_and_next().trim_end())
    }
}

/// The texts of the numbers that name what the user gave. `None` for the others, and without the parameters.
fn described(code: Code, parameters: &[&str]) -> Option<String> {
    let (_, meaning) = code.meaning();
    let (first, rest) = meaning.split_once(". ")?;
    let text = match (code, parameters) {
        (Code::MISSING_ARGUMENT, [name]) => format!("User did not provide the `{name}` argument."),
        (Code::CONFLICTING_ARGUMENT, [one, other]) => format!("User provided both `{one}` and `{other}`."),
        (Code::INVALID_ARGUMENT, [name, value]) => {
            format!("The parameter `{name}` is not a valid integer (`{value}`)")
        }
        (Code::FILE_OPERATION, [file, operation]) => {
            format!("{rest}\nFile: '{file}', failing operation: '{operation}'.")
        }
        (Code::INVALID_CPU_CONFIGURATION, [name, cpus]) => {
            format!("User provided `{name}` contains same CPU(s) (CPU(s) {cpus}) multiple times.")
        }
        (Code::NO_SUCH_CPU_IN_POOL, [name, cpu]) => {
            format!("User provided `{name}` contains CPU {cpu}, which is not available in the pool.")
        }
        (Code::INSUFFICIENT_CPUS, [name, count]) => {
            format!("User provided `{name}` is {count}, which is more than the configured CPU pool size.")
        }
        (Code::INSUFFICIENT_MEMORY_REQUESTED, [name, memory, least]) => format!(
            "User provided `{name}` is {memory} MB, but based on the EIF file size, the minimum memory should be {least} MB"
        ),
        (Code::INSUFFICIENT_MEMORY_AVAILABLE, [name, memory]) => {
            format!("User provided `{name}` is {memory} MB, which is more than the available memory.")
        }
        _ => return None,
    };
    Some(format!("{first}. {text}"))
}

/// Writes the backtrace into a file of its own, and returns its path; of a failure, the folder.
fn log(backtrace: &str) -> core::result::Result<PathBuf, (PathBuf, io::Error)> {
    let folder = env::var_os(LOGS_VARIABLE).filter(|value| !value.is_empty()).unwrap_or(LOGS_FOLDER.into());
    let folder = PathBuf::from(folder);
    let write = || {
        fs::create_dir_all(&folder)?;
        // As RFC 3339 writes it with an offset, which nitro-cli's file names have.
        let now = Timestamp::now().display_with_offset(Offset::UTC).to_string();
        let path = folder.join(format!("err{now}.log"));
        // Others may write to the folder: never through a link of theirs.
        File::create_new(&path)?.write_all(backtrace.as_bytes())?;
        Ok(path)
    };
    write().map_err(|error| (folder.clone(), error))
}
