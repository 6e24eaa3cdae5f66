//! What can be wrong with a store.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use thiserror::Error;

use super::private_file::FileError;
use crate::key::{KeyId, RandomnessError};

/// Why a store could not do what it was asked for. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No such key: never made, or destroyed.
    #[error("there is no key {0}")]
    NoSuchKey(KeyId),
    /// A key of that id is there already.
    #[error("there is a key {0} already")]
    KeyExists(KeyId),
    /// No such alias.
    #[error("there is no alias {0}")]
    NoSuchAlias(String),
    /// An alias of that name is there already.
    #[error("there is an alias {0} already")]
    AliasExists(String),
    /// A text or material is longer than any that the service makes.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which one.
        what: &'static str,
        /// The longest that is stored.
        limit: usize,
    },
    /// A time that the database cannot hold.
    #[error("a time is before 1970 or after 2262")]
    Time,
    /// A file or folder could not be used, is not private, or is in use by another process.
    #[error(transparent)]
    File(FileError),
    /// The file is not one of ours.
    #[error("{} is not a database of the key service; check the path", .0.display())]
    Foreign(PathBuf),
    /// A newer version of this software wrote it.
    #[error(
        "the database has format {found}, this program knows {}; use a newer `enclave`, or restore a backup",
        super::schema::FORMAT
    )]
    Newer {
        /// Its format's version.
        found: i64,
    },
    /// The file is damaged: SQLite, or the schema, says so.
    #[error("the database is damaged: {0}; restore a backup")]
    Damaged(String),
    /// The file, or its file system, cannot be written.
    #[error(
        "the database cannot be written; make its file, folder and file system writable for the service's user"
    )]
    ReadOnly,
    /// No space is left.
    #[error("the file system is full; free space on it: the change was not made")]
    Full,
    /// The master key is another one than that which sealed this database.
    #[error(
        "this is not the master key of the database; give the one with which it was made, or last rotated"
    )]
    WrongMasterKey,
    /// The file was changed by someone who has not the master key. No restart makes this go away.
    #[error(
        "{0} was changed outside of the service; find out who can write the database, then restore a backup"
    )]
    Tampered(String),
    /// The random number generator failed.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The master key's place.
    #[error(transparent)]
    MasterKey(#[from] super::master_key::MasterKeyError),
    /// Any other failure of the database.
    #[error("the database failed: {0}; see the system's log for errors of the disk")]
    Database(rusqlite::Error),
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        use std::io::ErrorKind;
        match &error {
            FileError::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
                ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
                _ => Self::File(error),
            },
            _ => Self::File(error),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;
        match &error {
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full,
                ErrorCode::ReadOnly => Self::ReadOnly,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TooBig => {
                    Self::Damaged(error.to_string())
                }
                _ => Self::Database(error),
            },
            // Our tables are strict: a value of another type was not written by us.
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => Self::Tampered(format!("a row ({error})")),
            _ => Self::Database(error),
        }
    }
}
