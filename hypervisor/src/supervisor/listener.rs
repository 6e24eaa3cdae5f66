//! A listening socket that rests for a moment when it cannot accept. Without descriptors to spare it would stay ready, and keep
//! the event loop from sleeping.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;

/// How long it rests.
const REST: Duration = Duration::from_millis(100);

/// A listening socket, in non-blocking mode.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    rests_until: Option<Instant>,
}

impl Listener {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket, rests_until: None }
    }

    /// A connection, if one waits. `Err` if there are no descriptors left, for example: it rests from then on.
    pub(super) fn accept(&mut self, flags: SocketFlags) -> io::Result<Option<OwnedFd>> {
        match rustix::net::accept_with(&self.socket, flags | SocketFlags::CLOEXEC) {
            Ok(stream) => Ok(Some(stream)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => {
                self.rests_until = Some(Instant::now() + REST);
                Err(errno.into())
            }
        }
    }

    /// When it is to be looked at again, if it rests.
    pub(super) fn rests_until(&mut self) -> Option<Instant> {
        self.rests_until = self.rests_until.filter(|until| *until > Instant::now());
        self.rests_until
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
