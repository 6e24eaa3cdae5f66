//! The host's end of vsock connections: Unix sockets that the supervisor connects and accepts.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use vsock_device::{ConnectRequest, HostEnd, HostEvent};

use super::error::VmError;
use crate::channel::Channel;
use crate::messages::{FromVm, ToVm};

/// The channel to the supervisor, shared by the threads that have something to say.
pub(super) type Supervisor = Channel<FromVm, ToVm>;

/// Descriptors from the supervisor on their way to the vsock device.
#[derive(Debug)]
pub(super) struct Arrivals {
    events: Mutex<VecDeque<HostEvent>>,
    /// As high as the number of events.
    arrived: OwnedFd,
}

impl Arrivals {
    pub(super) fn new() -> Result<Arc<Self>, VmError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let arrived = eventfd(0, flags).map_err(VmError::system("making an event"))?;
        Ok(Arc::new(Self { events: Mutex::new(VecDeque::new()), arrived }))
    }

    /// Hands an event to the device.
    pub(super) fn push(&self, event: HostEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        // Fails only at 2^64 events.
        let _readable_already = rustix::io::write(&self.arrived, &1u64.to_ne_bytes()).is_err();
    }

    fn pop(&self) -> Option<HostEvent> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = [0; 8];
        let _nothing_there = rustix::io::read(&self.arrived, &mut count).is_err();
        events.pop_front()
    }
}

/// What the vsock device sees of the host.
#[derive(Debug)]
pub(super) struct UnixHostEnd {
    supervisor: Arc<Supervisor>,
    arrivals: Arc<Arrivals>,
}

impl UnixHostEnd {
    pub(super) fn new(supervisor: Arc<Supervisor>, arrivals: Arc<Arrivals>) -> Self {
        Self { supervisor, arrivals }
    }
}

impl HostEnd for UnixHostEnd {
    fn connect(&mut self, request: ConnectRequest, port: u32) {
        if let Err(error) = self.supervisor.send(&FromVm::Connect { request: request.0, port }, &[]) {
            tracing::warn!(%error, port, "a connection could not be asked for");
            self.arrivals.push(HostEvent::Refused { request });
        }
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        self.arrivals.arrived.as_fd()
    }

    fn next_event(&mut self) -> Option<HostEvent> {
        self.arrivals.pop()
    }
}
