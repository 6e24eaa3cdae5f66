//! Claims of which a host has one each, whoever makes them and in whatever run folder: abstract Unix sockets.
//!
//! The kernel knows one of each name and drops it with the process that holds it. Such names are one space for each network
//! namespace (unix(7)): those who claim in different containers do not see each other.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A claim, held until it is dropped.
#[derive(Debug)]
pub(super) struct HostClaim {
    _socket: OwnedFd,
}

impl HostClaim {
    /// Claims a name, or `None` if somebody else holds it.
    pub(super) fn take(name: &str) -> io::Result<Option<Self>> {
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        match rustix::net::bind(&socket, &address) {
            Ok(()) => Ok(Some(Self { _socket: socket })),
            Err(Errno::ADDRINUSE) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
