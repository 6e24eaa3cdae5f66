//! Starts one of the enclave's processes so that it holds exactly the descriptors it is meant to.
#![expect(unsafe_code, reason = "between fork and exec descriptors are placed by number")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What the processes are called in lists of processes, whatever path they were started by.
const NAME: &str = "enclave-hypervisor";

/// Number of the first descriptor that is given.
pub const FIRST_DESCRIPTOR: RawFd = 3;

/// Descriptors are copied above this number before they are placed, so that placing one never overwrites another.
const CLEAR_OF_TARGETS: RawFd = 64;

/// Starts `program role` with `descriptors` as numbers 3, 4 and so on, standard error as given, standard input and
/// output on /dev/null, and nothing else, whatever this process has inherited. The working directory is `/` and the
/// environment is empty.
///
/// # Errors
/// The system's.
pub fn spawn(
    program: &Path,
    role: &str,
    descriptors: &[BorrowedFd<'_>],
    standard_error: Stdio,
) -> io::Result<Child> {
    let copies = descriptors
        .iter()
        .map(|descriptor| Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, CLEAR_OF_TARGETS)?))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    let end = FIRST_DESCRIPTOR
        .checked_add(RawFd::try_from(copies.len()).unwrap_or(RawFd::MAX))
        .filter(|end| *end <= CLEAR_OF_TARGETS)
        .ok_or(io::ErrorKind::InvalidInput)?;
    // The standard library reports a failed exec through a pipe that it opens now: it must not get a number that is
    // about to be overwritten, so every such number that is free is taken.
    let mut placeholders = Vec::new();
    if let Some(any) = copies.first() {
        loop {
            let placeholder = rustix::io::fcntl_dupfd_cloexec(any, FIRST_DESCRIPTOR)?;
            if placeholder.as_raw_fd() >= end {
                break;
            }
            placeholders.push(placeholder);
        }
    }
    let moves: Vec<(RawFd, RawFd)> = copies.iter().map(AsRawFd::as_raw_fd).zip(FIRST_DESCRIPTOR..).collect();
    let mut command = Command::new(program);
    command
        .arg0(NAME)
        .arg(role)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(standard_error);
    // SAFETY: the closure only makes system calls that are allowed between fork and exec, on memory that was
    // allocated before the fork.
    unsafe { command.pre_exec(move || place(&moves, end)) };
    command.spawn()
}

/// In the new process, before exec: moves descriptors to their numbers and lets exec close all others.
fn place(moves: &[(RawFd, RawFd)], end: RawFd) -> io::Result<()> {
    let first_other = u32::try_from(end).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).map_err(|_| io::ErrorKind::InvalidInput)?;
    for (from, to) in moves {
        // SAFETY: dup2 touches no memory; the overwritten numbers are placeholders or the parent's, unused here.
        if unsafe { libc::dup2(*from, *to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only marks descriptors; nothing is closed before exec.
    if unsafe { libc::close_range(first_other, libc::c_uint::MAX, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
