//! What stands at the host's end of connections: a trait, so that Unix sockets are one answer and AF_VSOCK another.
//!
//! The device never opens a socket itself. Its process may have no right to: the supervisor connects and accepts, and
//! passes the descriptors on.

use std::os::fd::{BorrowedFd, OwnedFd};

/// Identifies a connection that the guest asked for, until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectRequest(pub u64);

/// Makes connections to host programs and takes theirs.
pub trait HostEnd: Send {
    /// The guest wants to reach `port`. Answered later, by an event: never blocks. Answers that come after the guest
    /// has lost patience are recognised by their number and dropped.
    fn connect(&mut self, request: ConnectRequest, port: u32);

    /// Readable while [`Self::next_event`] has something to say. Stays the same.
    fn event_source(&self) -> BorrowedFd<'_>;

    /// The next event, if there is one. Never blocks.
    fn next_event(&mut self) -> Option<HostEvent>;
}

/// What a [`HostEnd`] reports. All streams are connected stream sockets of the host.
#[derive(Debug)]
pub enum HostEvent {
    /// A host program listens on the port the guest asked for.
    Connected {
        /// Which request this answers.
        request: ConnectRequest,
        /// The connection to the program.
        stream: OwnedFd,
    },
    /// Nobody listens there: the guest's connect fails.
    Refused {
        /// Which request this answers.
        request: ConnectRequest,
    },
    /// A host program wants to reach the guest. It still has to say `CONNECT <port>\n`.
    Incoming {
        /// The connection to the program.
        stream: OwnedFd,
    },
}
