//! How a command fails: a message that names the cause, the next step, and an exit status.

use core::fmt;
use std::path::Path;

/// Exit status of a command that failed.
pub(crate) const STATUS_FAILED: u8 = 1;
/// Exit status of `wait` when there is no status of the application to exit with.
pub(crate) const STATUS_NO_APPLICATION: u8 = 255;
/// Exit status when nobody reads standard output any more: what SIGPIPE gives other programs.
const STATUS_PIPE_CLOSED: u8 = 128 + 13;

/// A command's result.
pub(crate) type Result<T> = core::result::Result<T, Failure>;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something went wrong that the user should read about.
    Told {
        /// What failed and why, without a full stop.
        cause: String,
        /// What to do about it; may have several lines.
        next: String,
        /// The exit status.
        status: u8,
    },
    /// The reader of standard output went away: nobody to tell.
    PipeClosed,
}

impl Failure {
    /// A failure with the usual exit status.
    pub(crate) fn new(cause: impl fmt::Display, next: impl fmt::Display) -> Self {
        Self::Told { cause: cause.to_string(), next: next.to_string(), status: STATUS_FAILED }
    }

    /// A library's error. Many carry advice of their own after a semicolon: it replaces the general one.
    pub(crate) fn advised(error: impl fmt::Display, next: &str) -> Self {
        let message = error.to_string();
        let (cause, advice) = message.split_once("; ").unwrap_or((&message, next));
        Self::new(cause, advice)
    }

    /// A failed operation on a file; `action` is a verb phrase such as "read".
    pub(crate) fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format_args!("cannot {action} {}: {error}", path.display()), file_advice(error))
    }

    /// The same failure with another exit status.
    pub(crate) fn with_status(self, status: u8) -> Self {
        match self {
            Self::Told { cause, next, .. } => Self::Told { cause, next, status },
            Self::PipeClosed => self,
        }
    }

    /// The exit status.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Told { status, .. } => *status,
            Self::PipeClosed => STATUS_PIPE_CLOSED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { cause, next, .. } => {
                write!(f, "error: {}", cause.trim_end())?;
                next.lines().try_for_each(|line| write!(f, "\n  next: {line}"))
            }
            Self::PipeClosed => Ok(()),
        }
    }
}

/// What to do about a failed operation on a file.
pub(crate) fn file_advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "check the owner and the permissions, or run as the user who owns it",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space on that file system",
        ErrorKind::IsADirectory => "give a file, not a folder",
        ErrorKind::NotADirectory => "give a folder, or check the path",
        ErrorKind::AlreadyExists => "choose another path, or move the existing one away",
        ErrorKind::ReadOnlyFilesystem => "choose a path on a file system that can be written",
        _ => "check the path and the file system",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_cause_and_each_next_step() {
        let failure = Failure::new("no /dev/kvm", "load the module\nrun `enclave doctor`");
        assert_eq!(
            failure.to_string(),
            "error: no /dev/kvm\n  next: load the module\n  next: run `enclave doctor`"
        );
        assert_eq!((failure.status(), failure.with_status(9).status()), (1, 9));
    }
}
