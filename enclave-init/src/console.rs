//! The console: standard streams of init and of the application, and init's own messages.
//!
//! Outside debug mode the hypervisor throws away what is written here, but the device must exist: programs
//! expect standard streams that take what is written to them.
#![expect(unsafe_code, reason = "asking how much output is still on its way needs an ioctl")]

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Longest wait for the console's output to reach the host before the machine restarts.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Pause between two looks at the remaining output: about what a serial line at 115200 baud needs for 10 bytes.
const DRAIN_STEP: Duration = Duration::from_millis(1);

/// Writes one line to the console. Nobody can be told if that fails, so nothing is returned.
pub fn say(message: impl fmt::Display) {
    let line = format!("enclave-init: {message}\n");
    let mut rest = line.as_bytes();
    while let Ok(written) = rustix::io::write(rustix::stdio::stderr(), rest) {
        match rest.get(written..) {
            Some(remaining) if written > 0 && !remaining.is_empty() => rest = remaining,
            _ => return,
        }
    }
}

/// Makes /dev/console standard input, output and error.
///
/// A kernel without a console still runs applications: then the streams are /dev/null and the kernel log says
/// why nothing is seen.
pub fn open() {
    if let Err(error) = attach(c"/dev/console") {
        note_in_kernel_log(&format!("enclave-init: cannot open /dev/console: {error}; output is lost\n"));
        if let Err(error) = attach(c"/dev/null") {
            note_in_kernel_log(&format!("enclave-init: cannot open /dev/null: {error}\n"));
        }
    }
}

/// Waits until what was written has left for the host, at most [`DRAIN_LIMIT`]: a restart drops the rest.
pub fn drain() {
    let deadline = Instant::now() + DRAIN_LIMIT;
    while pending_bytes() > 0 && Instant::now() < deadline {
        std::thread::sleep(DRAIN_STEP);
    }
}

fn attach(path: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    // When the kernel gave us no streams, `opened` is one of them: move it away, or closing it closes a stream.
    let moved: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&opened, 3)?;
    drop(opened);
    rustix::stdio::dup2_stdin(&moved)?;
    rustix::stdio::dup2_stdout(&moved)?;
    rustix::stdio::dup2_stderr(&moved)
}

fn note_in_kernel_log(line: &str) {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(log) = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()) {
        // The last resort for a message: if it fails there is no other.
        let _ = rustix::io::write(&log, line.as_bytes());
    }
}

/// Bytes that the terminal driver has not sent yet; 0 if the console is no terminal.
fn pending_bytes() -> libc::c_int {
    let mut pending: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to the given address, which is that of a live int.
    let status =
        unsafe { libc::ioctl(rustix::stdio::stderr().as_raw_fd(), libc::TIOCOUTQ, &raw mut pending) };
    if status == 0 { pending } else { 0 }
}
