//! What is wrong with a configuration.

use core::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::store::FileError;

/// Why a configuration cannot be used: which file, which key, and what to do, which stands behind a semicolon.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read, or is not the service's user's alone.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not TOML, or has a key that is not known, or a value of another kind.
    #[error("{} is not valid: {message}; mend the file", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A value cannot be used.
    #[error("{}: {key}: {problem}; {advice}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: String,
    },
}

impl ConfigError {
    pub(super) fn value(
        file: &Path,
        key: impl fmt::Display,
        problem: impl fmt::Display,
        advice: impl fmt::Display,
    ) -> Self {
        Self::Value {
            file: file.to_owned(),
            key: key.to_string(),
            problem: problem.to_string(),
            advice: advice.to_string(),
        }
    }
}
