//! The few AF_VSOCK calls that init makes: connect, write, read, all within a time limit. See vsock(7).
#![expect(unsafe_code, reason = "socket addresses and options of AF_VSOCK have no safe wrapper")]

use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};

/// Socket option: how long connect(2) waits, a timeval (`SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD` in
/// linux/vm_sockets.h, the one for a 64-bit time_t's native layout). The kernel's default is 2 seconds.
const SO_VM_SOCKETS_CONNECT_TIMEOUT: libc::c_int = 6;

/// A connected stream.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// Connects to a port of a context; connecting and every later read and write take at most `limit`.
    ///
    /// # Errors
    /// `AFNOSUPPORT` without vsock in the kernel, `NODEV` or `NETUNREACH` without a device, `CONNRESET` when
    /// nobody listens, `TIMEDOUT` when nobody answers.
    pub fn connect(cid: u32, port: u32, limit: Duration) -> Result<Self, Errno> {
        // SAFETY: socket(2) takes no pointers.
        let raw = check(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: `raw` was just returned by socket(2) and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        set_connect_timeout(&socket, limit)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(limit))?;
        set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
        // SAFETY: sockaddr_vm is plain data for which all zeros is a valid value.
        let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
        address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(|_| Errno::AFNOSUPPORT)?;
        address.svm_cid = cid;
        address.svm_port = port;
        let length = socklen_of::<libc::sockaddr_vm>()?;
        // SAFETY: the address is a live sockaddr_vm of the given length.
        check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(Self(socket))
    }

    /// Sends all bytes.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = rustix::net::send(&self.0, rest, SendFlags::NOSIGNAL)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives some bytes; 0 is the end of the stream. `AGAIN` means that the time is up.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::net::recv(&self.0, buffer, RecvFlags::empty()).map(|(received, _)| received)
    }
}

fn set_connect_timeout(socket: &OwnedFd, limit: Duration) -> Result<(), Errno> {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(limit.as_secs()).map_err(|_| Errno::INVAL)?,
        tv_usec: limit.subsec_micros().into(),
    };
    let length = socklen_of::<libc::timeval>()?;
    // SAFETY: the option's value is a live timeval of the given length.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::AF_VSOCK,
            SO_VM_SOCKETS_CONNECT_TIMEOUT,
            (&raw const value).cast(),
            length,
        )
    };
    check(status).map(|_| ())
}

fn socklen_of<T>() -> Result<libc::socklen_t, Errno> {
    libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::INVAL)
}

fn check(status: libc::c_int) -> Result<libc::c_int, Errno> {
    if status < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(status)
}
