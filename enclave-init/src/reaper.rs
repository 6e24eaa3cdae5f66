//! Reaping: process 1 inherits every orphan and must collect each one, or the process table fills up.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::failure::Failure;
use crate::report::Ending;

/// Collects children until the application itself ends, and says how it ended.
pub fn wait_for(application: Pid) -> Result<Ending, Failure> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == application => {
                if let Some(ending) = ending(status) {
                    return Ok(ending);
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::system("lost track of the application", error)),
        }
    }
}

/// `None` for a child that only stopped or went on.
fn ending(status: WaitStatus) -> Option<Ending> {
    if let Some(code) = status.exit_status() {
        return Some(Ending::Exited(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    status.terminating_signal().map(|signal| Ending::Signalled(u8::try_from(signal).unwrap_or(u8::MAX)))
}
