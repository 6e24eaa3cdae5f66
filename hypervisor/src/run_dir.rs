//! The folder under which every enclave of a user has its own folder, named by its EnclaveID.
//!
//! Only its owner, or root, can enter either. One lock, `.lock`, guards what concerns several enclaves at once: names
//! are unique among living enclaves, and a folder is either being made or removed, never both.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use thiserror::Error;

use crate::description::{Description, State};
use crate::exit_reason::ExitReason;
use crate::state::{self, Record, StateError};
use crate::unix_socket::{open_folder, open_folder_in};

/// The supervisor's control socket.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Where host programs connect to reach the guest; `vsock.sock_<port>` is where the guest reaches them.
pub const VSOCK_SOCKET: &str = "vsock.sock";

/// What the supervisor did, for people.
pub const LOG_FILE: &str = "supervisor.log";

/// Guards changes that concern several enclaves.
const LOCK_FILE: &str = ".lock";

/// What can be wrong with the folder of run-time state.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// An ordinary user without the folder that a login session gives.
    #[error(
        "there is no folder for run-time state: XDG_RUNTIME_DIR is not set; set ENCLAVE_RUN_DIR to a folder that only you \
         can write to"
    )]
    NoFolder,
    /// The folder could not be made or opened.
    #[error("{path}: {error}; set ENCLAVE_RUN_DIR to a folder that you can write to")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Somebody else could plant things in the folder.
    #[error("{path} can be written by others; make it yours alone: chown {user} {path} && chmod go-w {path}")]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// Who should own it.
        user: u32,
    },
    /// Something in an enclave's folder failed.
    #[error("{path}: {error}")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The state of one enclave could not be read or written.
    #[error("{path}: {error}")]
    State {
        /// The enclave's folder.
        path: PathBuf,
        /// What is wrong.
        error: StateError,
    },
    /// An EnclaveID that is none.
    #[error("{0:?} is not an EnclaveID: i-<hexadecimal digits>-enc<hexadecimal digits>")]
    NotAnId(String),
}

/// The folder of one user's run-time state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRoot {
    path: PathBuf,
}

/// One enclave's folder.
#[derive(Debug)]
pub struct EnclaveFolder {
    path: PathBuf,
    folder: OwnedFd,
}

/// The run root's lock, held until dropped.
#[derive(Debug)]
pub struct RootLock {
    _file: OwnedFd,
    /// The folder that was found to be private: everything under the lock is done in this one, whatever its path leads to by then.
    root: OwnedFd,
}

impl RunRoot {
    /// The folder that this user's environment names: `$ENCLAVE_RUN_DIR`, else /run/enclave for root and
    /// `$XDG_RUNTIME_DIR/enclave` for everybody else.
    ///
    /// # Errors
    /// [`RunDirError::NoFolder`] if there is none.
    pub fn from_environment() -> Result<Self, RunDirError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("ENCLAVE_RUN_DIR") {
            return Ok(Self::at(path));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self::at("/run/enclave"));
        }
        variable("XDG_RUNTIME_DIR").map(|path| Self::at(path.join("enclave"))).ok_or(RunDirError::NoFolder)
    }

    /// The folder at `path`, made absolute. Nothing is created yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path: std::path::absolute(&path).unwrap_or(path) }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder if need be, and refuses one that others can write to.
    ///
    /// # Errors
    /// [`RunDirError::Unusable`] and [`RunDirError::NotPrivate`].
    pub fn prepare(&self) -> Result<(), RunDirError> {
        self.make_root().map(drop)
    }

    /// Makes the folder if need be, and opens it.
    fn make_root(&self) -> Result<OwnedFd, RunDirError> {
        use std::os::unix::fs::DirBuilderExt;
        let unusable = |error| RunDirError::Unusable { path: self.path.clone(), error };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(unusable)?;
        self.open_root()
    }

    /// Opens the folder, and refuses one that others can write to. What is opened is what was checked.
    fn open_root(&self) -> Result<OwnedFd, RunDirError> {
        let unusable = |errno: Errno| RunDirError::Unusable { path: self.path.clone(), error: errno.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(unusable)?;
        let found = rustix::fs::fstat(&root).map_err(unusable)?;
        let user = rustix::process::geteuid();
        let ours = found.st_uid == user.as_raw() || found.st_uid == 0 || user.is_root();
        if !ours || found.st_mode & 0o022 != 0 {
            return Err(RunDirError::NotPrivate { path: self.path.clone(), user: user.as_raw() });
        }
        Ok(root)
    }

    /// Takes the lock that guards names, new folders and removals; waits for its turn.
    ///
    /// # Errors
    /// If the folder is unusable.
    pub fn lock(&self) -> Result<RootLock, RunDirError> {
        let root = self.make_root()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = || {
            let file = rustix::fs::openat(&root, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR)?;
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
            Ok(file)
        };
        let file = lock().map_err(|errno: Errno| RunDirError::Unusable {
            path: self.path.join(LOCK_FILE),
            error: errno.into(),
        })?;
        Ok(RootLock { _file: file, root })
    }

    /// The EnclaveIDs of all folders, sorted. None if the run root does not exist.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn enclave_ids(&self) -> Result<Vec<String>, RunDirError> {
        let unusable = |error| RunDirError::Unusable { path: self.path.clone(), error };
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(unusable)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            if let Ok(name) = entry.map_err(unusable)?.file_name().into_string()
                && is_enclave_id(&name)
            {
                ids.push(name);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Opens an enclave's folder, or `None` if there is none.
    ///
    /// # Errors
    /// For an id that is none, and the system's.
    pub fn open(&self, enclave_id: &str) -> Result<Option<EnclaveFolder>, RunDirError> {
        if !is_enclave_id(enclave_id) {
            return Err(RunDirError::NotAnId(enclave_id.to_owned()));
        }
        let path = self.path.join(enclave_id);
        let root = match self.open_root() {
            Err(RunDirError::Unusable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        match open_folder_in(root.as_fd(), enclave_id) {
            Ok(folder) => Ok(Some(EnclaveFolder { path, folder })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RunDirError::Folder { path, error }),
        }
    }

    /// Makes an enclave's folder, for its owner alone. The caller holds the lock.
    ///
    /// # Errors
    /// For an id that is none, in a root that belongs to somebody else, and the system's: `AlreadyExists` if the id is in use.
    pub fn create(&self, lock: &RootLock, enclave_id: &str) -> Result<EnclaveFolder, RunDirError> {
        if !is_enclave_id(enclave_id) {
            return Err(RunDirError::NotAnId(enclave_id.to_owned()));
        }
        let path = self.path.join(enclave_id);
        let user = rustix::process::geteuid().as_raw();
        let create = || {
            // Its owner could put another folder into the place of this one.
            if rustix::fs::fstat(&lock.root)?.st_uid != user {
                return Ok(None);
            }
            rustix::fs::mkdirat(&lock.root, enclave_id, Mode::RWXU)?;
            open_folder_in(lock.root.as_fd(), enclave_id).map(Some)
        };
        match create() {
            Ok(Some(folder)) => Ok(EnclaveFolder { path, folder }),
            Ok(None) => Err(RunDirError::NotPrivate { path: self.path.clone(), user }),
            Err(error) => Err(RunDirError::Folder { path, error }),
        }
    }

    /// Whom the enclaves' folders belong to.
    ///
    /// # Errors
    /// The system's.
    pub fn owners(&self, lock: &RootLock) -> Result<BTreeSet<u32>, RunDirError> {
        let mut owners = BTreeSet::new();
        for id in self.enclave_ids()? {
            match rustix::fs::statat(&lock.root, &*id, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => drop(owners.insert(found.st_uid)),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(RunDirError::Folder { path: self.path.join(id), error: errno.into() });
                }
            }
        }
        Ok(owners)
    }
}

impl EnclaveFolder {
    /// The working directory, which is the folder that lies at `path` for everybody else.
    ///
    /// # Errors
    /// The system's.
    pub fn here(path: PathBuf) -> io::Result<Self> {
        Ok(Self { path, folder: open_folder(Path::new("."))? })
    }

    /// A second handle.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { path: self.path.clone(), folder: self.folder.try_clone()? })
    }

    /// Gives it to the user and group of this number.
    ///
    /// # Errors
    /// The system's: `InvalidInput` or `PermissionDenied` where this process may not, in a container for example.
    pub fn give_to(&self, user: u32) -> io::Result<()> {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
        Ok(rustix::fs::chownat(&self.folder, "", user, group, AtFlags::EMPTY_PATH)?)
    }

    /// The names of all that is in it.
    ///
    /// # Errors
    /// The system's.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = Dir::new(rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?)?;
        let mut names = Vec::new();
        for entry in folder {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a plain file to read.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for anything that is no plain file.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        open_plain_file(self.as_fd(), name)
    }

    /// Removes every file in it.
    ///
    /// # Errors
    /// The system's.
    pub fn clear(&self) -> Result<(), RunDirError> {
        let names = self.names().map_err(|error| RunDirError::Folder { path: self.path.clone(), error })?;
        names.iter().try_for_each(|name| self.remove_file(name))
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The enclave's recorded state and whether its supervisor lives; `None` while the folder is being made. The
    /// state of an enclave whose supervisor was killed is told as it is: ended.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn read_state(&self) -> Result<Option<(Record, bool)>, RunDirError> {
        let read = state::read(self.as_fd())
            .map_err(|error| RunDirError::State { path: self.path.clone(), error })?;
        Ok(read.map(|(mut record, alive)| {
            if !alive {
                mark_killed(&mut record.description);
            }
            (record, alive)
        }))
    }

    /// Removes the folder and everything in it. The caller holds the run root's lock, so that nobody makes it anew.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(self, lock: &RootLock) -> Result<(), RunDirError> {
        let Some(name) = self.path.file_name() else {
            return Err(RunDirError::NotAnId(self.path.display().to_string()));
        };
        let root = PathBuf::from(format!("/proc/self/fd/{}", lock.root.as_raw_fd()));
        match std::fs::remove_dir_all(root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RunDirError::Folder { path: self.path, error })
            }
            _ => Ok(()),
        }
    }

    /// Makes a new file to write to, for its owner alone.
    ///
    /// # Errors
    /// The system's: `AlreadyExists` for anything of that name, a link included.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)?)
    }

    /// Opens a new or existing file to append to, for its owner alone.
    ///
    /// # Errors
    /// The system's.
    pub fn append_to(&self, name: &str) -> Result<File, RunDirError> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| RunDirError::Folder { path: self.path.join(name), error: errno.into() })
    }

    /// Removes a file; none there is fine.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_file(&self, name: &str) -> Result<(), RunDirError> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(RunDirError::Folder { path: self.path.join(name), error: errno.into() }),
        }
    }
}

impl AsFd for EnclaveFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Opens a plain file in a folder to read, and nothing that could block or lies elsewhere.
///
/// # Errors
/// The system's; `InvalidInput` for anything that is no plain file.
pub(crate) fn open_plain_file(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
    }
    Ok(file.into())
}

/// Makes the description of an enclave whose supervisor has ended without saying why tell so.
pub fn mark_killed(description: &mut Description) {
    if description.state != State::Exited {
        description.state = State::Exited;
        description.exit_reason = Some(ExitReason::SupervisorKilled);
    }
}

/// `i-<hex>-enc<hex>`: also what keeps an id from being a path.
#[must_use]
pub fn is_enclave_id(text: &str) -> bool {
    /// Longer names would not fit a folder.
    const MAX_ID: usize = 128;
    let hexadecimal =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.len() <= MAX_ID
        && text
            .strip_prefix("i-")
            .and_then(|rest| rest.split_once("-enc"))
            .is_some_and(|(instance, enclave)| hexadecimal(instance) && hexadecimal(enclave))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn ids_are_checked_before_they_become_paths() {
        for good in ["i-0123456789abcdef0-enc1943c5eaab3ad6a", "i-1-enc2"] {
            assert!(is_enclave_id(good), "{good}");
        }
        for bad in ["", "..", "i-1", "i-1-enc", "i--enc1", "i-1-enc2/..", "i-1-enc2-enc3", "I-1-enc2"] {
            assert!(!is_enclave_id(bad), "{bad}");
        }
        let root = RunRoot::at("/nonexistent");
        assert!(matches!(root.open("../etc"), Err(RunDirError::NotAnId(_))));
        assert!(root.open("i-1-enc2").unwrap().is_none());
        assert!(root.enclave_ids().unwrap().is_empty());
    }

    #[test]
    fn a_folder_is_for_its_owner_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path().join("a/b"));
        let lock = root.lock().unwrap();
        let folder = root.create(&lock, "i-1-enc2").unwrap();
        assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(root.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(root.enclave_ids().unwrap(), ["i-1-enc2"]);
        assert!(matches!(root.create(&lock, "i-1-enc2"), Err(RunDirError::Folder { .. })));
        folder.remove(&lock).unwrap();
        assert!(root.enclave_ids().unwrap().is_empty());
    }

    #[test]
    fn a_root_that_others_can_write_to_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("open");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(RunRoot::at(&path).lock(), Err(RunDirError::NotPrivate { .. })));
    }
}
