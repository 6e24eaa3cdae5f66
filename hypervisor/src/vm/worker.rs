//! The threads that let virtio devices work: one each, asleep while there is nothing to do.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::VmError;
use super::machine::MmioDevice;
use super::stop::{Ending, Stop};
use crate::exit_reason::ExitReason;
use crate::system_calls;

/// Bytes of a thread's stack.
pub(super) const STACK: usize = 256 * 1024;

/// Times a device is asked to work after the machine has stopped. A guest reports its end right before it resets the
/// machine; what it has put into a queue is still seen.
const FAREWELL: u32 = 64;

/// Starts the thread of one device. It ends after the machine's end.
pub(super) fn spawn(
    name: &str,
    device: Arc<dyn MmioDevice>,
    stop: Arc<Stop>,
) -> Result<JoinHandle<()>, VmError> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Err(error) = system_calls::device().narrow() {
                stop.end(Ending::new(ExitReason::StartFailed, error.to_string()));
                return;
            }
            while stop.wait_for(device.event_source(), PollFlags::IN) {
                device.handle_events();
            }
            finish(device.as_ref());
        })
        .map_err(VmError::system("starting a device's thread"))
}

/// Does what is left to do at once.
fn finish(device: &dyn MmioDevice) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    for _ in 0..FAREWELL {
        let mut source = [PollFd::from_borrowed_fd(device.event_source(), PollFlags::IN)];
        if poll(&mut source, Some(&at_once)).unwrap_or_default() == 0 {
            return;
        }
        device.handle_events();
    }
}
