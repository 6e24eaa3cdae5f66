//! Unix sockets in an enclave's folder, however long the folder's path is.
//!
//! A socket address holds 107 bytes of path (unix(7)). Longer ones are reached through the folder's descriptor,
//! as `/proc/self/fd/N/name`, which the kernel resolves like any other path.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that wait for a listener's `accept`.
const BACKLOG: i32 = 128;

/// The path by which the system calls of this process reach `name` in an open folder.
fn path_in(folder: BorrowedFd<'_>, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// The address to bind or connect to: the plain path where it fits, since that is what `ss` shows.
fn address(folder: BorrowedFd<'_>, path: &Path, name: &str) -> io::Result<SocketAddrUnix> {
    match SocketAddrUnix::new(path.join(name)) {
        Err(Errno::NAMETOOLONG) => Ok(SocketAddrUnix::new(path_in(folder, name))?),
        other => Ok(other?),
    }
}

/// Listens on a new socket `name` in `folder`, which lies at `path`: close-on-exec, non-blocking.
///
/// # Errors
/// The system's; `AddrInUse` if the name exists.
pub fn listen(folder: BorrowedFd<'_>, path: &Path, name: &str, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::bind(&socket, &address(folder, path, name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the socket `name` in `folder`, which must be a socket and no symbolic link: whoever can write to
/// the folder cannot make this process reach a socket elsewhere.
///
/// `flags` are those of the new socket. A Unix stream socket connects at once or not at all: in non-blocking mode
/// a listener whose backlog is full gives `WouldBlock`.
///
/// # Errors
/// The system's; `InvalidInput` for a name that is not a socket.
pub fn connect(
    folder: BorrowedFd<'_>,
    name: &str,
    kind: SocketType,
    flags: SocketFlags,
) -> io::Result<OwnedFd> {
    // Opened as a path without following, then reached through the descriptor: what was checked is what is used.
    let target =
        rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&target)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
    }
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", target.as_raw_fd()))?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags | SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Removes the socket `name`; none there is fine.
///
/// # Errors
/// The system's.
pub fn remove(folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a folder for the functions above.
///
/// # Errors
/// The system's; a symbolic link is refused.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The peer's user id, as the kernel recorded it at `connect`.
///
/// # Errors
/// The system's.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket.as_fd())?.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn reaches(path: &Path) {
        let folder = open_folder(path).unwrap();
        let listener = listen(folder.as_fd(), path, "s", SocketType::STREAM).unwrap();
        connect(folder.as_fd(), "s", SocketType::STREAM, SocketFlags::NONBLOCK).unwrap();
        let accepted = rustix::net::accept(&listener).unwrap();
        assert_eq!(peer_user(accepted.as_fd()).unwrap(), rustix::process::geteuid().as_raw());
        remove(folder.as_fd(), "s").unwrap();
        remove(folder.as_fd(), "s").unwrap();
    }

    #[test]
    fn short_and_long_paths_are_reached() {
        let temporary = tempfile::tempdir().unwrap();
        reaches(temporary.path());
        let long = temporary.path().join("x".repeat(200)).join("y".repeat(200));
        std::fs::create_dir_all(&long).unwrap();
        reaches(&long);
    }

    #[test]
    fn a_symbolic_link_and_a_plain_file_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let folder = open_folder(path).unwrap();
        let _listener = listen(folder.as_fd(), path, "real", SocketType::STREAM).unwrap();
        symlink(path.join("real"), path.join("link")).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        for name in ["link", "file"] {
            let error = connect(folder.as_fd(), name, SocketType::STREAM, SocketFlags::NONBLOCK).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        symlink(path, path.join("folder")).unwrap();
        assert!(open_folder(&path.join("folder")).is_err());
    }

    #[test]
    fn a_full_backlog_does_not_block() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = open_folder(temporary.path()).unwrap();
        let _listener = listen(folder.as_fd(), temporary.path(), "s", SocketType::STREAM).unwrap();
        let mut held = Vec::new();
        loop {
            match connect(folder.as_fd(), "s", SocketType::STREAM, SocketFlags::NONBLOCK) {
                Ok(socket) => held.push(socket),
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(held.len() < 10_000);
        }
    }
}
