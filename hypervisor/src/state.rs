//! The state file of an enclave's folder, and the lock on it that says whether the supervisor lives.
//!
//! The supervisor holds an exclusive flock(2) on the file for as long as it lives; the kernel drops it however the
//! process ends, so no process id is ever compared. The file is replaced as a whole: a new one is written and locked
//! under another name, then renamed over the old. A reader therefore sees one complete state, and takes a lock that
//! it got as a sign of death only if the file it locked is still the one of that name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::channel::in_few_words;
use crate::description::Description;
use crate::run_dir::open_plain_file;

/// Name of the state file.
pub const STATE_FILE: &str = "state.json";

/// Name under which a new state is written before it takes the old one's place.
const NEW_STATE_FILE: &str = ".state.json.new";

/// Version of the file's format.
pub const STATE_VERSION: u32 = 2;

/// Bytes in the longest state file that is read; ours has a few KiB.
const MAX_STATE: u64 = 1 << 20;

/// What can be wrong with a state file.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file could not be read, written or locked.
    #[error("the state file could not be read or written: {0}")]
    Io(#[from] io::Error),
    /// Another version of this software wrote it.
    #[error(
        "the state file has version {0}, this program knows version {STATE_VERSION}; use the version of `enclave` that \
         started this enclave"
    )]
    Version(u32),
    /// Not a state file.
    #[error("the state file is damaged: {0}; remove the enclave's folder if no such enclave runs")]
    Damaged(String),
}

impl From<Errno> for StateError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`STATE_VERSION`].
    #[serde(rename = "Version")]
    pub version: u32,
    /// When the enclave ended, in seconds since 1970.
    #[serde(rename = "EndedAt", default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// What `describe` shows.
    #[serde(rename = "Enclave")]
    pub description: Description,
}

impl Record {
    /// A record of this version.
    #[must_use]
    pub const fn new(description: Description, ended_at: Option<u64>) -> Self {
        Self { version: STATE_VERSION, ended_at, description }
    }
}

/// Just the version, which every version of the format has.
#[derive(Deserialize)]
struct VersionOnly {
    #[serde(rename = "Version")]
    version: u32,
}

/// The lock on an enclave's state, and the right to replace it.
#[derive(Debug)]
pub struct StateLock {
    folder: OwnedFd,
    file: OwnedFd,
}

impl StateLock {
    /// Writes the first state into an enclave's new folder and holds its lock.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(folder: BorrowedFd<'_>, record: &Record) -> Result<Self, StateError> {
        let folder = folder.try_clone_to_owned()?;
        let file = write_locked(folder.as_fd(), record)?;
        Ok(Self { folder, file })
    }

    /// Replaces the state. The lock is never free in between.
    ///
    /// # Errors
    /// If the file cannot be written; the old state stays.
    pub fn replace(&mut self, record: &Record) -> Result<(), StateError> {
        self.file = write_locked(self.folder.as_fd(), record)?;
        Ok(())
    }

    /// Takes the lock of a state whose supervisor has ended, or `None` while it lives.
    ///
    /// # Errors
    /// If the file cannot be opened or locked.
    pub fn take_over(folder: BorrowedFd<'_>) -> Result<Option<Self>, StateError> {
        match lock_current(folder, FlockOperation::NonBlockingLockExclusive)? {
            Some(file) => Ok(Some(Self { folder: folder.try_clone_to_owned()?, file })),
            None => Ok(None),
        }
    }
}

/// The state, and whether its supervisor lives. `None` if there is no state file.
///
/// # Errors
/// If it cannot be read or is not a state file of this version.
pub fn read(folder: BorrowedFd<'_>) -> Result<Option<(Record, bool)>, StateError> {
    let (file, alive) = match lock_current(folder, FlockOperation::NonBlockingLockShared) {
        Ok(Some(file)) => (file, false),
        Ok(None) => (open(folder)?, true),
        Err(StateError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    File::from(file).take(MAX_STATE).read_to_end(&mut text)?;
    Ok(Some((decode(&text)?, alive)))
}

/// The record that a file's content is.
pub(crate) fn decode(text: &[u8]) -> Result<Record, StateError> {
    let damaged = |error: serde_json::Error| StateError::Damaged(in_few_words(error));
    let VersionOnly { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version != STATE_VERSION {
        return Err(StateError::Version(version));
    }
    serde_json::from_slice(text).map_err(damaged)
}

/// A record as a file's content.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec_pretty(record).map_err(|error| StateError::Damaged(error.to_string()))
}

/// Blocks until the supervisor has ended. Returns at once if there is no state file.
///
/// # Errors
/// If the file cannot be opened or locked.
pub fn wait_until_free(folder: BorrowedFd<'_>) -> Result<(), StateError> {
    match lock_current(folder, FlockOperation::LockShared) {
        Ok(_) => Ok(()),
        Err(StateError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(folder: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(open_plain_file(folder, STATE_FILE)?.into())
}

/// Locks the file that has the state's name at the moment the lock is got; `None` if another holds it.
fn lock_current(folder: BorrowedFd<'_>, operation: FlockOperation) -> Result<Option<OwnedFd>, StateError> {
    loop {
        let file = open(folder)?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let locked = rustix::fs::fstat(&file)?;
        let named = rustix::fs::statat(folder, STATE_FILE, AtFlags::SYMLINK_NOFOLLOW)?;
        if (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino) {
            return Ok(Some(file));
        }
    }
}

/// Writes and locks a new state, then gives it the state's name.
fn write_locked(folder: BorrowedFd<'_>, record: &Record) -> Result<OwnedFd, StateError> {
    let text = encode(record)?;
    // A leftover of a process killed while writing; only the lock's holder writes here.
    match rustix::fs::unlinkat(folder, NEW_STATE_FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, NEW_STATE_FILE, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let mut file = File::from(file);
    file.write_all(&text)?;
    rustix::fs::renameat(folder, NEW_STATE_FILE, folder, STATE_FILE)?;
    Ok(OwnedFd::from(file))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::unix_socket::open_folder;

    fn record(name: &str) -> Record {
        let description = Description { name: name.to_owned(), ..Description::example() };
        Record::new(description, None)
    }

    #[test]
    fn the_lock_says_who_lives_across_replacements() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = open_folder(temporary.path()).unwrap();
        let folder = folder.as_fd();
        assert!(read(folder).unwrap().is_none());
        let mut lock = StateLock::create(folder, &record("a")).unwrap();
        assert_eq!(read(folder).unwrap().unwrap(), (record("a"), true));
        lock.replace(&record("b")).unwrap();
        assert_eq!(read(folder).unwrap().unwrap(), (record("b"), true));
        assert!(StateLock::take_over(folder).unwrap().is_none());
        drop(lock);
        assert_eq!(read(folder).unwrap().unwrap(), (record("b"), false));
        let mut lock = StateLock::take_over(folder).unwrap().unwrap();
        assert!(read(folder).unwrap().unwrap().1);
        lock.replace(&record("c")).unwrap();
        drop(lock);
        assert_eq!(read(folder).unwrap().unwrap(), (record("c"), false));
    }

    #[test]
    fn waiting_returns_when_the_holder_ends_even_if_it_replaced_the_file() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = open_folder(temporary.path()).unwrap();
        wait_until_free(folder.as_fd()).unwrap();
        let mut lock = StateLock::create(folder.as_fd(), &record("a")).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_until_free(folder.as_fd()));
            for _ in 0..100 {
                lock.replace(&record("b")).unwrap();
            }
            assert!(!waiting.is_finished());
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn another_version_and_damage_are_refused_by_name() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = open_folder(temporary.path()).unwrap();
        let path = temporary.path().join(STATE_FILE);
        std::fs::write(&path, r#"{"Version": 77, "Something": "else"}"#).unwrap();
        assert!(matches!(read(folder.as_fd()), Err(StateError::Version(77))));
        std::fs::write(&path, "half a fil").unwrap();
        assert!(matches!(read(folder.as_fd()), Err(StateError::Damaged(_))));
        std::fs::write(&path, format!(r#"{{"Version": {STATE_VERSION}}}"#)).unwrap();
        assert!(matches!(read(folder.as_fd()), Err(StateError::Damaged(_))));
    }
}
