//! Unix sockets in an enclave's folder, however long the folder's path is.
//!
//! A socket address holds 107 bytes of path (unix(7)). The supervisor, whose working directory the folder is, uses bare names. A
//! command reaches a socket through its descriptor, as `/proc/self/fd/N`, which the kernel resolves like any other path.
#![expect(unsafe_code, reason = "getsockopt(2) fills a structure")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that wait for a listener's `accept`.
const BACKLOG: i32 = 128;

/// Listens on a new socket `name` in the working directory: close-on-exec, non-blocking.
///
/// # Errors
/// The system's; `AddrInUse` if the name exists.
pub fn listen_here(name: &str, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(name)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects to the socket `name` in the working directory. A symbolic link is refused. Whoever could put one there between this
/// check and the use is the folder's owner, and leads a supervisor whose root it is nowhere else.
///
/// As [`connect`] otherwise.
///
/// # Errors
/// As [`connect`].
pub fn connect_here(name: &str, kind: SocketType, flags: SocketFlags) -> io::Result<OwnedFd> {
    check_socket(rustix::fs::statat(CWD, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags | SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(name)?)?;
    Ok(socket)
}

fn check_socket(mode: rustix::fs::RawMode) -> io::Result<()> {
    if FileType::from_raw_mode(mode) == FileType::Socket {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"))
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
    check_socket(rustix::fs::fstat(&target)?.st_mode)?;
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

/// Opens the folder `name` in another, and nothing that lies elsewhere.
///
/// # Errors
/// The system's; symbolic links are refused, and what is mounted over it.
pub fn open_folder_in(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(folder, name, flags, Mode::empty(), inside)?)
}

/// The peer's user id, as the kernel recorded it at `connect`. (rustix's function does not take a peer outside this process's PID
/// namespace, whose process id is 0.)
///
/// # Errors
/// The system's.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let size = size_of::<libc::ucred>();
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, all of which are `peer`'s; any bytes are a ucred.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match result {
        0 if usize::try_from(length) == Ok(size) => Ok(peer.uid),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a folder the working directory of this thread alone, for tests.
#[cfg(test)]
pub(crate) fn work_in(folder: BorrowedFd<'_>) {
    #[expect(deprecated, reason = "the safe form; descriptors stay shared")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::FS).unwrap();
    rustix::process::fchdir(folder).unwrap();
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    fn enter(path: &Path) -> OwnedFd {
        let folder = open_folder(path).unwrap();
        work_in(folder.as_fd());
        folder
    }

    fn reaches(path: &Path) {
        let folder = enter(path);
        let listener = listen_here("s", SocketType::STREAM).unwrap();
        for connected in [
            connect(folder.as_fd(), "s", SocketType::STREAM, SocketFlags::NONBLOCK),
            connect_here("s", SocketType::STREAM, SocketFlags::NONBLOCK),
        ] {
            let _connected = connected.unwrap();
            let accepted = rustix::net::accept(&listener).unwrap();
            assert_eq!(peer_user(accepted.as_fd()).unwrap(), rustix::process::geteuid().as_raw());
        }
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
        let folder = enter(path);
        let _listener = listen_here("real", SocketType::STREAM).unwrap();
        symlink(path.join("real"), path.join("link")).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        for name in ["link", "file"] {
            let error = connect(folder.as_fd(), name, SocketType::STREAM, SocketFlags::NONBLOCK).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
            let error = connect_here(name, SocketType::STREAM, SocketFlags::NONBLOCK).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_folder_is_no_link_and_lies_where_it_is_said_to() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let folder = open_folder(path).unwrap();
        std::fs::create_dir(path.join("inside")).unwrap();
        open_folder_in(folder.as_fd(), "inside").unwrap();
        symlink(path, path.join("link")).unwrap();
        symlink("inside", path.join("short")).unwrap();
        assert!(open_folder(&path.join("link")).is_err());
        for name in ["link", "short", "link/inside", "..", "/", "inside/../.."] {
            assert!(open_folder_in(folder.as_fd(), name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_full_backlog_does_not_block() {
        let temporary = tempfile::tempdir().unwrap();
        let _folder = enter(temporary.path());
        let _listener = listen_here("s", SocketType::STREAM).unwrap();
        let mut held = Vec::new();
        loop {
            match connect_here("s", SocketType::STREAM, SocketFlags::NONBLOCK) {
                Ok(socket) => held.push(socket),
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(held.len() < 10_000);
        }
    }
}
