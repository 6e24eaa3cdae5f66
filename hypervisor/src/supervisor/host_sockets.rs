//! The host's side of vsock: Unix sockets in the enclave's folder, which only the supervisor opens.
//!
//! The virtual machine process never names a path. It asks for a port; the supervisor connects to `vsock.sock_<port>`, if
//! that is a socket and no symbolic link, and hands the stream over. Nothing here blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{SocketFlags, SocketType};

use crate::description::{MAX_VSOCK_PROBLEMS, VsockProblem};
use crate::run_dir::{EnclaveFolder, VSOCK_SOCKET};
use crate::supervisor::listener::Listener;
use crate::unix_socket;

/// The listening socket and what was found wrong with others.
#[derive(Debug)]
pub(super) struct HostSockets {
    listener: Listener,
}

impl HostSockets {
    /// Listens on `vsock.sock` in the working directory, which is the enclave's folder.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { listener: Listener::new(unix_socket::listen_here(VSOCK_SOCKET, SocketType::STREAM)?) })
    }

    /// A host program's connection, if one waits. `Err` if there are no descriptors left, for example.
    pub(super) fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        self.listener.accept(SocketFlags::NONBLOCK)
    }

    /// When it is to be looked at again, if it cannot accept for now.
    pub(super) fn rests_until(&mut self) -> Option<Instant> {
        self.listener.rests_until()
    }

    /// A stream to the host program that stands for `port` in the working directory, which is `folder`, or what is wrong and what
    /// mends it.
    pub(super) fn connect(folder: &EnclaveFolder, port: u32) -> Result<OwnedFd, VsockProblem> {
        let name = format!("{VSOCK_SOCKET}_{port}");
        unix_socket::connect_here(&name, SocketType::STREAM, SocketFlags::NONBLOCK)
            .map_err(|error| VsockProblem { port, path: folder.path().join(name), problem: problem(&error) })
    }
}

impl AsFd for HostSockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Adds a problem to those that are shown. True if it is new.
pub(super) fn note(problems: &mut Vec<VsockProblem>, problem: VsockProblem) -> bool {
    if problems.iter().any(|known| known.port == problem.port) || problems.len() >= MAX_VSOCK_PROBLEMS {
        return false;
    }
    problems.push(problem);
    true
}

/// What an error of `connect` means here.
fn problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "nothing is there; a host program that is to be reached must listen on this Unix socket".to_owned()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens on the socket any more; remove the file and start the program that made it".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "the supervisor's user may not write to the socket; let it: chmod a+w (nobody else can enter this folder)".to_owned()
        }
        io::ErrorKind::WouldBlock => {
            "the program's queue of connections is full; it must accept faster or listen with a longer backlog"
                .to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "it is not a socket; symbolic links are not followed: listen on a Unix stream socket at this very path"
                .to_owned()
        }
        _ if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
            "the socket is of another type; listen with a stream socket".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;
    use crate::run_dir::RunRoot;

    #[test]
    fn each_way_of_not_being_there_says_what_mends_it() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let folder = root.create(&root.lock().unwrap(), "i-1-enc2").unwrap();
        unix_socket::work_in(folder.as_fd());
        let path = |port: u32| folder.path().join(format!("vsock.sock_{port}"));
        let problem = |port| HostSockets::connect(&folder, port).unwrap_err();

        assert!(problem(1).problem.contains("nothing is there"));
        drop(UnixListener::bind(path(2)).unwrap());
        assert!(problem(2).problem.contains("remove the file"));
        std::os::unix::fs::symlink("/dev/log", path(3)).unwrap();
        assert!(problem(3).problem.contains("symbolic links"));
        let _datagram = UnixDatagram::bind(path(4)).unwrap();
        assert!(problem(4).problem.contains("stream socket"));
        assert_eq!(problem(4).path, path(4));
        let _listener = UnixListener::bind(path(5)).unwrap();
        HostSockets::connect(&folder, 5).unwrap();
    }

    #[test]
    fn problems_are_kept_once_for_each_port_and_within_a_bound() {
        let mut problems = Vec::new();
        let problem = |port| VsockProblem { port, path: "p".into(), problem: String::new() };
        assert!(note(&mut problems, problem(1)));
        assert!(!note(&mut problems, problem(1)));
        for port in 2..1000 {
            note(&mut problems, problem(port));
        }
        assert_eq!(problems.len(), MAX_VSOCK_PROBLEMS);
    }
}
