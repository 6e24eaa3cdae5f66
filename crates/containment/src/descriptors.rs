//! Closes descriptors by number.
#![expect(unsafe_code, reason = "descriptors that nothing in this process owns are closed by number")]

use std::io;

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller runs before anything in the process owns a descriptor in this range, so that none is closed
    // under its owner; the call touches no memory.
    let result = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
