//! Unix sockets to listen on: however long their path is, for one user alone, and never in the place of one that is in use.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::limits::BACKLOG;

/// For the owner alone.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// How long a folder that another has locked is waited for, and how long between two attempts.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A socket that listens, and its name in the file system, which goes with it.
#[derive(Debug)]
pub(super) struct BoundSocket {
    listener: Option<UnixListener>,
    folder: File,
    name: PathBuf,
    identity: (u64, u64),
}

/// Listens on `name` in `folder`, mode 0600, and gives the socket to `owner` if that is somebody else. What a service that ended left
/// there is removed.
///
/// # Errors
/// The system's: `AddrInUse` if somebody listens there or is about to, `AlreadyExists` if there is something other than a socket of
/// this user's or the owner's.
pub(super) fn bind(folder: File, name: &Path, owner: Option<(u32, u32)>) -> io::Result<BoundSocket> {
    // Two that start at once must not both find the same stale socket.
    lock(&folder)?;
    remove_stale(&folder, name, owner)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // Linux makes the name with the mode that the socket has: at no moment can others connect.
    rustix::fs::fchmod(&socket, PRIVATE)?;
    rustix::net::bind(&socket, &address(&folder, name)?)?;
    let status = hand_over(&folder, name, owner)?;
    rustix::net::listen(&socket, BACKLOG)?;
    rustix::fs::flock(&folder, FlockOperation::Unlock)?;
    let identity = (status.st_dev, status.st_ino);
    Ok(BoundSocket { listener: Some(socket.into()), folder, name: name.to_owned(), identity })
}

/// Opens a folder for [`bind`].
///
/// # Errors
/// The system's.
pub(super) fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Locks the folder. Who has it locked makes a socket, which takes no time: the service and what gives credentials start together.
fn lock(folder: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_LIMIT => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(io::ErrorKind::AddrInUse.into()),
            other => return Ok(other?),
        }
    }
}

/// Such an address holds 107 bytes of path (unix(7)): the folder is reached through its descriptor.
fn address(folder: &File, name: &Path) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))?)
}

fn remove_stale(folder: &File, name: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let status = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let ours = status.st_uid == rustix::process::geteuid().as_raw()
        || owner.is_some_and(|(user, _)| user == status.st_uid);
    if !ours || !is_socket(&status) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something that is not this user's socket",
        ));
    }
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match rustix::net::connect(&probe, &address(folder, name)?) {
        Err(Errno::CONNREFUSED) => Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?),
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives the socket that was just made to its owner. In a folder that is the owner's, somebody may have put something else there: what
/// is given away is what was looked at.
fn hand_over(folder: &File, name: &Path, owner: Option<(u32, u32)>) -> io::Result<Stat> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made: OwnedFd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&made)?;
    let own = rustix::process::geteuid().as_raw();
    if !is_socket(&status) || status.st_uid != own || status.st_nlink != 1 {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "somebody replaced the socket"));
    }
    if let Some((user, group)) = owner.filter(|(user, _)| *user != own) {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        rustix::fs::chownat(&made, "", user, group, AtFlags::EMPTY_PATH)?;
    }
    Ok(status)
}

fn is_socket(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::Socket
}

impl BoundSocket {
    /// The listening socket, once.
    pub(super) fn take(&mut self) -> io::Result<UnixListener> {
        self.listener.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let same = |status: &Stat| (status.st_dev, status.st_ino) == self.identity;
        // What else could be done about a name that cannot be removed? The next service does it.
        if rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| same(&found))
        {
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bound(folder: &Path) -> io::Result<BoundSocket> {
        bind(open_folder(folder)?, Path::new("s"), None)
    }

    #[test]
    fn a_socket_is_for_its_owner_alone_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = bound(folder.path()).unwrap();
        let path = folder.path().join("s");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let _first = bound(folder.path()).unwrap();
        assert_eq!(bound(folder.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(folder.path().join("s")).unwrap();
    }

    #[test]
    fn all_that_start_together_in_one_folder_listen() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let names: Vec<String> = (0..8).map(|name| format!("s{round}-{name}")).collect();
            std::thread::scope(|scope| {
                let folder = folder.path();
                let bound: Vec<_> = names
                    .iter()
                    .map(|name| scope.spawn(move || bind(open_folder(folder)?, Path::new(name), None)))
                    .collect();
                bound.into_iter().for_each(|bound| drop(bound.join().unwrap().unwrap()));
            });
        }
    }

    #[test]
    fn a_folder_that_somebody_keeps_locked_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let locked = open_folder(folder.path()).unwrap();
        rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
        assert_eq!(bound(folder.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        UnixStream::connect(&path).unwrap_err();
        let _socket = bound(folder.path()).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(bound(folder.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
        std::fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(folder.path().join("real")).unwrap());
        symlink("real", &path).unwrap();
        assert_eq!(bound(folder.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_folder_may_lie_deeper_than_an_address_is_long() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let _socket = bound(&deep).unwrap();
        let folder = File::open(&deep).unwrap();
        UnixStream::connect(format!("/proc/self/fd/{}/s", folder.as_raw_fd())).unwrap();
    }

    #[test]
    fn a_name_that_is_another_socket_by_now_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = bound(folder.path()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
