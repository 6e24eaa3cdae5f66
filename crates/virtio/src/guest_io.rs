//! Bytes between guest buffers and sockets without a copy: one `sendmsg` or `recvmsg` over many guest ranges.
#![expect(
    unsafe_code,
    reason = "vectored socket I/O on memory that a running guest may write at any time, \
    which must never be seen as a Rust slice: rustix and the standard library only take slices"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use vm_memory::{GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

use crate::Buffers;

/// The most guest ranges one transfer covers. Enough for sixteen receive buffers of a few ranges each, and small
/// enough for the stack. What does not fit is left for the next transfer.
pub const MAX_SEGMENTS: usize = 64;

/// Why bytes could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum GuestIoError {
    /// The range is not in guest memory.
    #[error("guest memory: {0}")]
    Memory(#[from] GuestMemoryError),
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

impl GuestIoError {
    /// Whether the socket merely has no room or no data at the moment.
    #[must_use]
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Socket(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A list of guest ranges for one vectored transfer.
pub struct IoVecs<'m> {
    vectors: [libc::iovec; MAX_SEGMENTS],
    used: usize,
    bytes: usize,
    memory: &'m GuestMemoryMmap,
}

impl std::fmt::Debug for IoVecs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoVecs").field("used", &self.used).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<'m> IoVecs<'m> {
    /// An empty list over `memory`.
    #[must_use]
    pub fn new(memory: &'m GuestMemoryMmap) -> Self {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self { vectors: [empty; MAX_SEGMENTS], used: 0, bytes: 0, memory }
    }

    /// Total length of the ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to transfer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends `length` bytes of `buffers` from `offset` on; returns how many fitted before the list was full.
    ///
    /// # Errors
    /// A range is not in guest memory.
    pub fn push(&mut self, buffers: &Buffers, offset: usize, length: usize) -> Result<usize, GuestIoError> {
        let mut pushed = 0;
        for segment in buffers.segments(offset, length) {
            let Some(vector) = self.vectors.get_mut(self.used) else { break };
            let slice = self.memory.get_slice(segment.address, segment.length)?;
            vector.iov_base = slice.ptr_guard_mut().as_ptr().cast();
            vector.iov_len = slice.len();
            self.used += 1;
            pushed += segment.length;
        }
        self.bytes += pushed;
        Ok(pushed)
    }

    /// Sends the ranges; returns how many bytes the socket took. Never blocks, never raises SIGPIPE.
    ///
    /// # Errors
    /// [`GuestIoError::would_block`] if the socket has no room, otherwise what is wrong with it.
    pub fn send(&self, socket: BorrowedFd<'_>) -> Result<usize, GuestIoError> {
        let message = self.message();
        retrying(|| {
            // SAFETY: `message` points to `used` vectors in `self`, each of them a range of guest memory that stays
            // mapped while `memory` is borrowed. The kernel only reads them; that the guest may write them meanwhile
            // is no data race of this process.
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, SEND_FLAGS) }
        })
    }

    /// Fills the ranges from the socket; returns how many bytes came, zero at the end of the stream. Never blocks.
    ///
    /// # Errors
    /// [`GuestIoError::would_block`] if nothing has come, otherwise what is wrong with the socket.
    pub fn receive(&self, socket: BorrowedFd<'_>) -> Result<usize, GuestIoError> {
        let mut message = self.message();
        retrying(|| {
            // SAFETY: as for `send`, but the kernel writes the ranges. They are guest memory, of which no Rust
            // reference exists anywhere, and all of them were obtained for writing.
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, RECEIVE_FLAGS) }
        })
    }

    fn message(&self) -> libc::msghdr {
        // SAFETY: a msghdr is integers and pointers, for which zero is a value (no address, no control data).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.vectors.as_ptr().cast_mut();
        message.msg_iovlen = self.used;
        message
    }
}

/// The socket may be one that blocks: this call does not.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Descriptors that a peer attaches are not received: there is no room for control data.
const RECEIVE_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;

/// Makes a call again when a signal came between.
fn retrying(mut call: impl FnMut() -> libc::ssize_t) -> Result<usize, GuestIoError> {
    loop {
        if let Ok(bytes) = usize::try_from(call()) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
}
