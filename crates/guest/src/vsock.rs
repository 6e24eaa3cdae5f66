//! AF_VSOCK streams, see vsock(7): an enclave's only connection to anything.
//!
//! Once connected, a stream behaves like any other: it is a [`UnixStream`] in all but its address, which is why
//! that type carries it here.
#![expect(unsafe_code, reason = "addresses of AF_VSOCK have no safe wrapper")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Any context id, to listen on (`VMADDR_CID_ANY`).
pub const CID_ANY: u32 = u32::MAX;
/// The hypervisor's host, as KVM guests address it (`VMADDR_CID_HOST`).
pub const CID_HOST: u32 = 2;
/// The parent instance, as AWS's enclaves address their host.
pub const CID_PARENT: u32 = 3;

/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 128;

/// Socket option: how long connect(2) waits (`SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD` of linux/vm_sockets.h).
const SO_VM_SOCKETS_CONNECT_TIMEOUT: libc::c_int = 6;

/// A context and a port in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Context id.
    pub cid: u32,
    /// Port.
    pub port: u32,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CID {}, port {}", self.cid, self.port)
    }
}

impl From<Address> for libc::sockaddr_vm {
    fn from(address: Address) -> Self {
        // SAFETY: sockaddr_vm is plain data for which all zeros is a valid value.
        let mut raw: Self = unsafe { std::mem::zeroed() };
        raw.svm_family = FAMILY;
        raw.svm_cid = address.cid;
        raw.svm_port = address.port;
        raw
    }
}

/// AF_VSOCK as a socket address has it.
const FAMILY: libc::sa_family_t = 40;
const _: () = assert!(libc::AF_VSOCK == 40, "the two types hold the same number");

/// Length of `sockaddr_vm` as the socket calls take it.
const ADDRESS_LENGTH: libc::socklen_t = 16;
const _: () = assert!(size_of::<libc::sockaddr_vm>() == 16, "the layout of linux/vm_sockets.h");

/// A connected stream.
#[derive(Debug)]
pub struct Stream(UnixStream);

impl Stream {
    /// Connects, within the kernel's usual 2 seconds.
    ///
    /// # Errors
    /// `ECONNRESET` when nobody listens, `ETIMEDOUT`, `ENODEV` without a device, `EAFNOSUPPORT` without a driver.
    pub fn connect(address: Address) -> io::Result<Self> {
        connect(new_socket()?, address)
    }

    /// Connects, within `limit`.
    ///
    /// # Errors
    /// As [`Stream::connect`].
    pub fn connect_within(address: Address, limit: Duration) -> io::Result<Self> {
        let socket = new_socket()?;
        let value = libc::timeval {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: limit.subsec_micros().into(),
        };
        const LENGTH: libc::socklen_t = 16;
        const { assert!(size_of::<libc::timeval>() == 16, "a 64-bit system") };
        // SAFETY: the option's value is a live timeval of the given length.
        check(unsafe {
            let option = SO_VM_SOCKETS_CONNECT_TIMEOUT;
            libc::setsockopt(socket.as_raw_fd(), libc::AF_VSOCK, option, (&raw const value).cast(), LENGTH)
        })?;
        connect(socket, address)
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// `ENOTCONN` when the connection has ended already.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how)
    }

    /// Limits how long a read waits; `None` is for ever.
    ///
    /// # Errors
    /// A limit of zero is refused.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(limit)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Any connected stream socket will do; tests use pairs of Unix sockets.
impl From<OwnedFd> for Stream {
    fn from(socket: OwnedFd) -> Self {
        Self(UnixStream::from(socket))
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.0.into()
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens; with [`CID_ANY`] on every address that this machine has.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EACCES` for ports below 1024 without the capability, `EAFNOSUPPORT` without a driver.
    pub fn bind(address: Address) -> io::Result<Self> {
        let socket = new_socket()?;
        let raw = libc::sockaddr_vm::from(address);
        // SAFETY: the address is a live sockaddr_vm of the given length.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), ADDRESS_LENGTH) })?;
        // SAFETY: listen(2) takes no pointers.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(Self(socket))
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of accept(2); `EMFILE` passes when connections are closed.
    pub fn accept(&self) -> io::Result<(Stream, Address)> {
        let mut raw = libc::sockaddr_vm::from(Address { cid: 0, port: 0 });
        let mut length = ADDRESS_LENGTH;
        // SAFETY: the kernel writes at most `length` bytes to the address, which is that of a live sockaddr_vm.
        let accepted = check(unsafe {
            libc::accept4(self.0.as_raw_fd(), (&raw mut raw).cast(), &raw mut length, libc::SOCK_CLOEXEC)
        })?;
        // SAFETY: accept4(2) just returned this descriptor and it belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
        Ok((Stream::from(socket), Address { cid: raw.svm_cid, port: raw.svm_port }))
    }
}

fn connect(socket: OwnedFd, address: Address) -> io::Result<Stream> {
    let raw = libc::sockaddr_vm::from(address);
    // SAFETY: the address is a live sockaddr_vm of the given length.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), ADDRESS_LENGTH) })?;
    Ok(Stream::from(socket))
}

fn new_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers.
    let raw = check(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: socket(2) just returned this descriptor and it belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn check(status: libc::c_int) -> io::Result<libc::c_int> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reaches_the_kernel_as_it_is() {
        let raw = libc::sockaddr_vm::from(Address { cid: 3, port: 9000 });
        assert_eq!((i32::from(raw.svm_family), raw.svm_cid, raw.svm_port), (libc::AF_VSOCK, 3, 9000));
    }

    #[test]
    fn bytes_and_half_closes_go_through() {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (Stream::from(OwnedFd::from(near)), Stream::from(OwnedFd::from(far)));
        (&near).write_all(b"there").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        (&far).read_to_string(&mut text).unwrap();
        assert_eq!(text, "there");
        (&far).write_all(b"and back").unwrap();
        drop(far);
        text.clear();
        (&near).read_to_string(&mut text).unwrap();
        assert_eq!(text, "and back");
    }
}
