//! Signals of process 1: all blocked, so that nothing but the application's end decides what it does.
#![expect(unsafe_code, reason = "sigprocmask(2) and signal(2) have no safe wrapper")]

use std::mem::MaybeUninit;

/// Blocks every signal in this process.
pub fn block_all() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set that it is given; sigprocmask only reads it, and the old mask is not asked for.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Gives a child the signal state that programs expect: nothing blocked, SIGPIPE deadly.
///
/// Safe to call between fork and exec: it neither allocates nor locks.
pub fn restore_defaults() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: as above with sigemptyset; SIGPIPE is a valid signal and SIG_DFL a valid disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}
