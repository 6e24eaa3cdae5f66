//! The end of a machine: who may cause it, and how everybody hears of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::error::VmError;
use crate::exit_reason::ExitReason;

/// Why the machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) reason: ExitReason,
    /// For people.
    pub(super) detail: String,
}

impl Ending {
    pub(super) fn new(reason: ExitReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A switch that is turned once. All threads of the machine look at it before they block.
#[derive(Debug)]
pub(super) struct Stop {
    requested: AtomicBool,
    event: OwnedFd,
    ending: Mutex<Option<Ending>>,
}

impl Stop {
    pub(super) fn new() -> Result<Self, VmError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(VmError::system("making an event"))?;
        Ok(Self { requested: AtomicBool::new(false), event, ending: Mutex::new(None) })
    }

    /// Ends the machine. Only the first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
        self.request();
    }

    /// Ends the machine without a reason of its own.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        // Fails only when the counter is full, which is as good.
        let _readable_already = rustix::io::write(&self.event, &1u64.to_ne_bytes()).is_err();
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Why the machine ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `descriptor` is ready for `flags` (true) or the machine ends (false).
    pub(super) fn wait_for(&self, descriptor: BorrowedFd<'_>, flags: PollFlags) -> bool {
        let mut descriptors = [
            PollFd::from_borrowed_fd(descriptor, flags),
            PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN),
        ];
        // An error is an interrupted wait: the caller comes back.
        let _interrupted = poll(&mut descriptors, None).is_err();
        !self.is_requested()
    }
}

/// Readable once the machine ends.
impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
