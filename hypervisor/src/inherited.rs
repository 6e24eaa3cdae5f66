//! The descriptors that a process of the enclave was started with, by number.
#![expect(unsafe_code, reason = "inherited descriptors are known by number only")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::FileType;

/// Takes ownership of an inherited socket. To be called once for each number, at the start of the process.
///
/// # Errors
/// `NotFound` if the number is not open or is no socket: the program was started by hand.
pub fn take_socket(number: RawFd) -> io::Result<OwnedFd> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    if number < 0 {
        return Err(not_found());
    }
    // SAFETY: the number is not -1; a number that is not open makes the calls below fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let status = rustix::fs::fstat(borrowed).map_err(|_| not_found())?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
        return Err(not_found());
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and by this function's contract nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
