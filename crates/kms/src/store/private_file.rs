//! Files that belong to the service's user alone: opened with suspicion, written whole.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tempfile::TempDir;
use thiserror::Error;
use zeroize::Zeroizing;

/// Permission bits that group and others may not have.
const OF_OTHERS: u32 = 0o077;
/// For the owner alone.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);
/// The same of a folder.
const PRIVATE_FOLDER: u32 = 0o700;

/// Why a file could not be used. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb phrase such as "open".
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others could read or change it, or it is no ordinary file.
    #[error("{} {why}; make it an ordinary file of the service's user with mode 0600", path.display())]
    NotPrivate {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is longer than any that we write.
    #[error("{} is longer than {limit} bytes; check that it is the right file", path.display())]
    TooLong {
        /// Which one.
        path: PathBuf,
        /// The most that is read.
        limit: usize,
    },
    /// Another process uses it.
    #[error("{} is in use by another process; stop that service first", .0.display())]
    InUse(PathBuf),
}

impl FileError {
    /// An operation that failed.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// Whether there is no such file.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens an existing file, never through a symbolic link in the last place; a FIFO there does not block.
///
/// # Errors
/// If it cannot be opened, or is not an ordinary file of this user alone.
pub(crate) fn open(path: &Path, access: OFlags) -> Result<File, FileError> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, PRIVATE) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::LOOP) => {
            return Err(FileError::NotPrivate { path: path.to_owned(), why: "is a symbolic link" });
        }
        Err(errno) => return Err(FileError::io("open", path, errno)),
    };
    require_private(&file, path)?;
    Ok(file)
}

/// A new file of this user alone, where nothing may be yet.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn create(path: &Path) -> Result<File, FileError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor =
        rustix::fs::open(path, flags, PRIVATE).map_err(|errno| FileError::io("make", path, errno))?;
    Ok(File::from(descriptor))
}

/// What a file of this user alone says, up to `limit` bytes; wiped when dropped, as it may be a key.
///
/// # Errors
/// If it cannot be read, is not private, or is longer.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_open(open(path, OFlags::RDONLY)?, path, limit)
}

/// The same of an open file, whatever its mode.
///
/// # Errors
/// If it cannot be read or is longer.
pub(crate) fn read_open(file: File, path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // One buffer that never grows: growing would leave a copy behind.
    let room = limit.saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    let bound = u64::try_from(room).unwrap_or(u64::MAX);
    file.take(bound).read_to_end(&mut content).map_err(|error| FileError::io("read", path, error))?;
    if content.len() > limit {
        return Err(FileError::TooLong { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Writes a new private file, and its name, to the disk.
///
/// # Errors
/// If there is something of that name, or it cannot be written.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut file = create(path)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|error| FileError::io("write", path, error))?;
    sync_folder(path)
}

/// A new folder of this user alone beside `path`, in which its content is made before it is put into place. It goes with the value.
///
/// Its name is random and nobody else's: nothing is in its way, and nothing needs to be cleared away for it. What a process that was killed
/// leaves (`.kms-XXXXXX.new`) is not touched again, for nobody can tell whose it is.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn workplace(path: &Path) -> Result<TempDir, FileError> {
    tempfile::Builder::new()
        .prefix(".kms-")
        .suffix(".new")
        .permissions(Permissions::from_mode(PRIVATE_FOLDER))
        .tempdir_in(folder_of(path))
        .map_err(|error| FileError::io("make a folder beside", path, error))
}

/// Gives a file another name, whatever had that name before, on the disk too.
///
/// # Errors
/// If that fails; both names are then as before.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(|error| FileError::io("put into place", to, error))?;
    sync_folder(to)
}

/// The same where nothing may have the new name yet.
///
/// # Errors
/// If that fails; both names are then as before.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<(), FileError> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|errno| FileError::io("put into place", to, errno))?;
    sync_folder(to)
}

/// Gives a file a second name, which nothing may have yet, on the disk too.
///
/// # Errors
/// If that fails.
pub(crate) fn link(path: &Path, second: &Path) -> Result<(), FileError> {
    std::fs::hard_link(path, second).map_err(|error| FileError::io("keep as", second, error))?;
    sync_folder(second)
}

/// Whether an open file is the one of that name, itself and not through a symbolic link.
///
/// # Errors
/// If the system does not say.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, FileError> {
    let open = rustix::fs::fstat(file).map_err(|errno| FileError::io("look at", path, errno))?;
    match rustix::fs::lstat(path) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(FileError::io("look at", path, errno)),
    }
}

/// Removes what may be of that name.
///
/// # Errors
/// If there is something that cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock that says that a process uses what is at `path`, until the value is dropped or the process ends.
///
/// The lock is a file of its own: a lock of SQLite's would be dropped if this process closed another descriptor of the database.
///
/// # Errors
/// [`FileError::InUse`] if another holds it.
pub(super) fn lock(path: &Path) -> Result<Lock, FileError> {
    let lock = beside(path, ".lock");
    let file = open(&lock, OFlags::RDWR | OFlags::CREATE)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(Errno::WOULDBLOCK) => Err(FileError::InUse(path.to_owned())),
        Err(errno) => Err(FileError::io("lock", &lock, errno)),
    }
}

/// A lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(pub(crate) File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does not suffice: a child that is just being started has the descriptor too, until it executes its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The absolute path of a file in an existing folder, without symbolic links in the folders above it.
///
/// # Errors
/// If the folder cannot be reached.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let folder = folder_of(path);
    let folder = folder.canonicalize().map_err(|error| FileError::io("use", folder, error))?;
    let name = path
        .file_name()
        .ok_or_else(|| FileError::io("use", path, io::Error::from(io::ErrorKind::InvalidInput)))?;
    Ok(folder.join(name))
}

/// Refuses what is no ordinary file, not this user's, or open to others.
fn require_private(file: &File, path: &Path) -> Result<(), FileError> {
    let status = rustix::fs::fstat(file).map_err(|errno| FileError::io("look at", path, errno))?;
    let refuse = |why| Err(FileError::NotPrivate { path: path.to_owned(), why });
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return refuse("is no ordinary file");
    }
    if status.st_uid != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    if status.st_mode & OF_OTHERS != 0 {
        return refuse("can be used by others");
    }
    Ok(())
}

/// The folder of a path that may be a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

/// Writes to the disk that a file of `path`'s folder has its name.
fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| FileError::io("write to the disk the folder", folder, error))
}
