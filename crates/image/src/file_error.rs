//! What every part of this crate says of a file that cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A file or folder that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {step}: {source}", path.display())]
pub struct FileError {
    /// Which one.
    pub path: PathBuf,
    /// What was being done.
    pub step: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Turns what the system said into an error that names the file.
pub(crate) fn file<E: Into<io::Error>>(
    path: impl Into<PathBuf>,
    step: &'static str,
) -> impl FnOnce(E) -> FileError {
    move |source| FileError { path: path.into(), step, source: source.into() }
}
