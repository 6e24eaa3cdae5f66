//! A folder of private files that is written whole and read with suspicion.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};

use zeroize::Zeroizing;

use crate::error::{Failure, Result};

/// The longest file that is read.
const MAX_FILE_LEN: u64 = 64 * 1024;
/// No file that is written here is longer: a certificate in PEM is less than 2 KiB.
const USUAL_FILE_LEN: usize = 4096;
/// Permission bits that group and others may not have.
const OF_OTHERS: u32 = 0o077;
const LOCK: &str = "pki.lock";

/// An existing folder that belongs to this user alone.
#[derive(Debug)]
pub(super) struct PrivateFolder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl PrivateFolder {
    /// `None` if there is no such folder.
    ///
    /// # Errors
    /// If it cannot be opened, is a symbolic link, or is not this user's alone.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Failure::file("open", path, &errno.into())),
        };
        require_private(&descriptor, path)?;
        Ok(Some(Self { descriptor, path: path.to_owned() }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of one file in it, wiped when dropped: it may be a key.
    ///
    /// # Errors
    /// If it cannot be opened, is no ordinary file of this user alone, or is too long.
    pub(super) fn read(&self, name: &str) -> Result<Zeroizing<String>> {
        let path = self.path.join(name);
        let failed = |error: &io::Error| Failure::file("read", &path, error);
        // A FIFO in the file's place must not block the command.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty())
            .map_err(|errno| failed(&errno.into()))?;
        require_private(&descriptor, &path)?;
        let file = File::from(descriptor);
        if !file.metadata().map_err(|error| failed(&error))?.is_file() {
            return Err(failed(&io::Error::from(io::ErrorKind::InvalidData)));
        }
        // Not to grow, which would leave a part of it behind.
        let mut text = Zeroizing::new(String::with_capacity(USUAL_FILE_LEN));
        file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(|error| failed(&error))?;
        Ok(text)
    }
}

/// A folder that is filled beside its place and then put there.
#[derive(Debug)]
pub(super) struct NewFolder {
    temporary: PathBuf,
    place: PathBuf,
}

impl NewFolder {
    /// Begins a folder that shall be `parent/name`. The caller holds the lock: what an earlier attempt left is removed.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn make(parent: &Path, name: &str) -> Result<Self> {
        let temporary = parent.join(format!("{name}.new"));
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::file("remove what an interrupted command left in", &temporary, &error));
            }
            _ => {}
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .map_err(|error| Failure::file("make the folder", &temporary, &error))?;
        Ok(Self { temporary, place: parent.join(name) })
    }

    /// Writes one file, readable by this user alone, to the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.temporary.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let write = || -> io::Result<()> {
            let mut file = File::from(rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|error| Failure::file("write", &path, &error))
    }

    /// Puts the folder into its place, where nothing may be yet.
    ///
    /// # Errors
    /// If that fails; the place is then as before.
    pub(super) fn finish(self) -> Result<()> {
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        let finish = || -> io::Result<()> {
            sync(&self.temporary)?;
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &self.temporary, here, &self.place, RenameFlags::NOREPLACE)?;
            self.place.parent().map_or(Ok(()), sync)
        };
        finish().map_err(|error| Failure::file("put into place", &self.place, &error))
    }
}

/// Holds the state folder's lock until dropped; makes the folder if there is none.
///
/// # Errors
/// If the folder or the lock cannot be made.
pub(super) fn lock(state: &Path) -> Result<OwnedFd> {
    make_private_folder(state)?;
    let path = state.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = || -> rustix::io::Result<OwnedFd> {
        let descriptor = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&descriptor, FlockOperation::LockExclusive))?;
        Ok(descriptor)
    };
    lock().map_err(|errno| Failure::file("lock", &path, &errno.into()))
}

/// Makes `folder` with mode 0700, and the folders above it as the system makes folders.
fn make_private_folder(folder: &Path) -> Result<()> {
    let failed = |error: &io::Error| Failure::file("make the folder", folder, error);
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(&error)),
        _ => refuse_writable_by_others(folder),
    }
}

/// Keys are not made in a folder where somebody else can put others in their place.
fn refuse_writable_by_others(folder: &Path) -> Result<()> {
    let metadata = fs::metadata(folder).map_err(|error| Failure::file("look at", folder, &error))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if own && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Failure::new(
        format_args!(
            "{} is another user's or can be written by others: keys in it would not be safe",
            folder.display()
        ),
        format_args!(
            "chown it to this user and chmod go-w {}, or choose another with ENCLAVE_STATE_DIR",
            folder.display()
        ),
    ))
}

fn require_private(descriptor: &OwnedFd, path: &Path) -> Result<()> {
    let status = rustix::fs::statat(descriptor, "", AtFlags::EMPTY_PATH)
        .map_err(|errno| Failure::file("look at", path, &errno.into()))?;
    let owner = rustix::process::geteuid().as_raw();
    if status.st_uid != owner {
        return Err(Failure::new(
            format_args!(
                "{} belongs to user {}, this command runs as user {owner}",
                path.display(),
                status.st_uid
            ),
            "run the command as that user, or choose another state folder with ENCLAVE_STATE_DIR",
        ));
    }
    if status.st_mode & OF_OTHERS == 0 {
        return Ok(());
    }
    let mode = if FileType::from_raw_mode(status.st_mode) == FileType::Directory { "0700" } else { "0600" };
    Err(Failure::new(
        format_args!(
            "{} can be read or written by others (mode {:04o})",
            path.display(),
            status.st_mode & 0o7777
        ),
        format_args!(
            "if nobody else had access, chmod {mode} {}; if somebody had, make a new root of trust",
            path.display()
        ),
    ))
}
