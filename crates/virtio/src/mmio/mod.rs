//! The virtio-mmio transport, version 2: VIRTIO 1.2 section 4.2.
//!
//! vCPU threads call [`MmioTransport::read`] and [`MmioTransport::write`]; a worker thread calls
//! [`MmioTransport::handle_events`]. What a guest does again and again (reading why it was interrupted,
//! acknowledging that, notifying) takes no lock, so that a vCPU never waits for a device at work.
//!
//! Accesses that the specification does not allow are defined here: registers are read and written with 32 bits at
//! their own address; any other access to them reads as zero and writes nothing. So do registers we do not have.

pub mod registers;
mod setup;
mod state;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use self::registers as register;
pub use self::setup::SetupError;
use self::setup::{set_high, set_low};
use self::state::{Configuration, State, Transition};
use crate::queue::borrow;
use crate::{ActivateError, Activation, Interrupt, ReadyQueue, VirtioDevice};

/// Why a transport could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Each queue needs one notification eventfd.
    #[error("the device has {queues} queues, but {kicks} notification eventfds were given")]
    Kicks {
        /// Queues of the device.
        queues: usize,
        /// Descriptors given.
        kicks: usize,
    },
    /// The host refused a system call.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why the driver could not start the device.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("queue {0} was not set up")]
    QueueNotReady(usize),
    #[error("queue {0}: {1}")]
    Queue(usize, SetupError),
    #[error(transparent)]
    Activate(#[from] ActivateError),
}

/// A virtio-mmio device: the registers in front of a [`VirtioDevice`].
#[derive(Debug)]
pub struct MmioTransport<D> {
    inner: Mutex<Inner<D>>,
    interrupt: Arc<Interrupt>,
    kicks: Vec<Arc<EventFd>>,
    events: OwnedFd,
    /// Whether notifications have a receiver; a copy of "state is `DriverOk`" that is read without the lock.
    live: AtomicBool,
}

#[derive(Debug)]
struct Inner<D> {
    device: D,
    memory: GuestMemoryMmap,
    state: State,
    device_features_sel: u32,
    driver_features_sel: u32,
    queue_sel: u32,
}

impl<D: VirtioDevice> MmioTransport<D> {
    /// Puts registers in front of `device`. `irq` raises its interrupt; `kicks`, one for each queue, are what the VM
    /// signals on a write of the queue's number to QueueNotify (ioeventfd with a data match).
    ///
    /// # Errors
    /// The number of `kicks` is not that of the queues, or a descriptor cannot be prepared.
    pub fn new(
        device: D,
        memory: GuestMemoryMmap,
        irq: EventFd,
        kicks: Vec<EventFd>,
    ) -> Result<Self, TransportError> {
        let queues = device.queue_max_sizes().len();
        if queues != kicks.len() {
            return Err(TransportError::Kicks { queues, kicks: kicks.len() });
        }
        for eventfd in kicks.iter().chain([&irq]) {
            set_nonblocking(eventfd)?;
        }
        let events = device.event_source().try_clone_to_owned().map_err(|source| TransportError::System {
            what: "duplicating the device's event source",
            source,
        })?;
        let inner = Inner {
            device,
            memory,
            state: State::Reset,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            interrupt: Arc::new(Interrupt::new(irq)),
            kicks: kicks.into_iter().map(Arc::new).collect(),
            events,
            live: AtomicBool::new(false),
        })
    }

    /// The notification eventfd of a queue, to be connected to QueueNotify.
    #[must_use]
    pub fn kick(&self, queue: usize) -> Option<&EventFd> {
        self.kicks.get(queue).map(Arc::as_ref)
    }

    /// Readable while [`Self::handle_events`] has work.
    #[must_use]
    pub fn event_source(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Lets the device work, a bounded amount. A device that fails is reset, and its driver told that it needs one.
    pub fn handle_events(&self) {
        let mut inner = self.lock();
        if let Err(error) = inner.device.handle_events() {
            tracing::warn!(device = inner.device.device_id(), %error, "virtio device stopped");
            self.stop(&mut inner);
        }
    }

    /// The driver reads `data.len()` bytes at `offset` from the start of the device's range.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(register::CONFIG) {
            self.lock().device.read_config(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    /// The driver writes `data` at `offset`. None of our devices has configuration that a driver may write.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }

    /// Runs `work` on the device, while neither driver nor worker touch it.
    pub fn with_device<R>(&self, work: impl FnOnce(&mut D) -> R) -> R {
        work(&mut self.lock().device)
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            register::MAGIC_VALUE => register::MAGIC,
            register::VERSION_REGISTER => register::VERSION,
            register::VENDOR_ID => register::VENDOR,
            register::INTERRUPT_STATUS => self.interrupt.status(),
            register::CONFIG_GENERATION => self.interrupt.generation(),
            register::SHM_FIRST..=register::SHM_LAST if offset.is_multiple_of(4) => register::SHM_NONE,
            _ => self.lock().read_register(offset),
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        match offset {
            register::QUEUE_NOTIFY => self.notify(value),
            register::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            register::STATUS => self.write_status(value),
            _ => {
                let mut inner = self.lock();
                if offset == register::QUEUE_READY && value == 0 && inner.is_live_queue_selected() {
                    self.reset(&mut inner);
                } else {
                    inner.write_register(offset, value);
                }
            }
        }
    }

    /// What an ioeventfd does, for the time before one is connected and for other ways of writing.
    fn notify(&self, queue: u32) {
        let kick = usize::try_from(queue).ok().and_then(|queue| self.kicks.get(queue));
        if let Some(kick) = kick.filter(|_| self.live.load(Ordering::SeqCst)) {
            // A counter at its maximum is a notification that is pending already.
            let _pending_already = kick.write(1).is_err();
        }
    }

    fn write_status(&self, value: u32) {
        let mut inner = self.lock();
        let offered = inner.offered();
        let transition = inner.state.transition(value, offered, inner.device.queue_max_sizes());
        match transition {
            Transition::Ignored => {
                tracing::debug!(value, status = inner.state.bits(), "ignored a status write");
            }
            Transition::To(state) => inner.state = state,
            Transition::Reset => self.reset(&mut inner),
            Transition::GiveUp(bits) => {
                self.live.store(false, Ordering::SeqCst);
                inner.device.reset();
                inner.state = State::Failed(bits);
            }
            Transition::Activate(configuration) => self.start(&mut inner, &configuration),
        }
    }

    fn start(&self, inner: &mut Inner<D>, configuration: &Configuration) {
        inner.state = State::DriverOk(configuration.features);
        match self.activate(inner, configuration) {
            Ok(()) => self.live.store(true, Ordering::SeqCst),
            Err(error) => {
                tracing::warn!(device = inner.device.device_id(), %error, "virtio device did not start");
                self.stop(inner);
            }
        }
    }

    fn activate(&self, inner: &mut Inner<D>, configuration: &Configuration) -> Result<(), StartError> {
        let features = configuration.features;
        let mut queues = Vec::with_capacity(configuration.queues.len());
        for (index, (setup, kick)) in configuration.queues.iter().zip(&self.kicks).enumerate() {
            if !setup.ready {
                return Err(StartError::QueueNotReady(index));
            }
            let queue = setup
                .build(features & register::F_EVENT_IDX != 0)
                .map_err(|error| StartError::Queue(index, error))?;
            queues.push(ReadyQueue::new(
                queue,
                inner.memory.clone(),
                Arc::clone(kick),
                Arc::clone(&self.interrupt),
                features & register::F_INDIRECT_DESC != 0,
            ));
        }
        inner.device.activate(Activation {
            memory: inner.memory.clone(),
            features,
            queues,
            interrupt: Arc::clone(&self.interrupt),
        })?;
        Ok(())
    }

    /// The device cannot go on: takes its queues away and tells the driver.
    fn stop(&self, inner: &mut Inner<D>) {
        self.live.store(false, Ordering::SeqCst);
        inner.device.reset();
        inner.state = inner.state.needs_reset();
        self.interrupt.signal_configuration_change();
    }

    fn reset(&self, inner: &mut Inner<D>) {
        self.live.store(false, Ordering::SeqCst);
        inner.device.reset();
        inner.state = State::Reset;
        inner.device_features_sel = 0;
        inner.driver_features_sel = 0;
        inner.queue_sel = 0;
        self.interrupt.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: VirtioDevice> Inner<D> {
    fn offered(&self) -> u64 {
        self.device.device_features() | register::OFFERED
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            register::DEVICE_ID => self.device.device_id(),
            register::DEVICE_FEATURES => word(self.offered(), self.device_features_sel),
            register::QUEUE_NUM_MAX => self.selected_max().map_or(0, u32::from),
            register::QUEUE_READY => u32::from(self.selected_is_ready()),
            register::STATUS => self.state.bits(),
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match offset {
            register::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            register::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            register::QUEUE_SEL => self.queue_sel = value,
            register::DRIVER_FEATURES => self.write_driver_features(value),
            register::QUEUE_READY => self.write_queue_ready(value),
            _ => self.write_queue(offset, value),
        }
    }

    fn write_driver_features(&mut self, value: u32) {
        let State::Driver(negotiation) = &mut self.state else { return };
        match self.driver_features_sel {
            0 => set_low(&mut negotiation.features, value),
            1 => set_high(&mut negotiation.features, value),
            _ => negotiation.beyond |= value != 0,
        }
    }

    /// The registers that say where a queue is; only for a queue that is not ready yet.
    fn write_queue(&mut self, offset: u64, value: u32) {
        let State::FeaturesOk(configuration) = &mut self.state else { return };
        let Some(queue) = selected(&mut configuration.queues, self.queue_sel) else { return };
        if queue.ready {
            return;
        }
        match offset {
            register::QUEUE_NUM => queue.size = value,
            register::QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            register::QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            register::QUEUE_DRIVER_LOW => set_low(&mut queue.available, value),
            register::QUEUE_DRIVER_HIGH => set_high(&mut queue.available, value),
            register::QUEUE_DEVICE_LOW => set_low(&mut queue.used, value),
            register::QUEUE_DEVICE_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    /// 1 checks the queue and freezes it: where it is refused, QueueReady goes on reading 0. 0 lets it be set up anew.
    fn write_queue_ready(&mut self, value: u32) {
        let State::FeaturesOk(configuration) = &mut self.state else { return };
        let Some(queue) = selected(&mut configuration.queues, self.queue_sel) else { return };
        match value {
            0 => queue.ready = false,
            1 => match queue.validate(&self.memory) {
                Ok(()) => queue.ready = true,
                Err(error) => {
                    let device = self.device.device_id();
                    tracing::warn!(device, queue = self.queue_sel, %error, "refused a virtio queue");
                }
            },
            _ => {}
        }
    }

    fn selected_max(&self) -> Option<u16> {
        let index = usize::try_from(self.queue_sel).ok()?;
        self.device.queue_max_sizes().get(index).copied()
    }

    /// Linux's NSM driver lets go of its device by making the queue unready, without a reset. A queue cannot change
    /// while the device works with it, so the whole device is reset: the driver finds it as new.
    fn is_live_queue_selected(&self) -> bool {
        matches!(self.state, State::DriverOk(_)) && self.selected_max().is_some()
    }

    fn selected_is_ready(&self) -> bool {
        match &self.state {
            State::FeaturesOk(configuration) => usize::try_from(self.queue_sel)
                .ok()
                .and_then(|index| configuration.queues.get(index))
                .is_some_and(|queue| queue.ready),
            // A device is at work only if all of its queues were ready.
            State::DriverOk(_) => self.selected_max().is_some(),
            _ => false,
        }
    }
}

fn selected<T>(queues: &mut [T], index: u32) -> Option<&mut T> {
    queues.get_mut(usize::try_from(index).ok()?)
}

/// The 32 bits of `features` that a selector chooses; there are none above 63.
fn word(features: u64, selector: u32) -> u32 {
    let shifted = match selector {
        0 => features,
        1 => features >> 32,
        _ => 0,
    };
    u32::try_from(shifted & u64::from(u32::MAX)).unwrap_or(0)
}

/// A vCPU or the worker must never wait in an eventfd, whatever flags it was made with.
fn set_nonblocking(eventfd: &EventFd) -> Result<(), TransportError> {
    rustix::io::ioctl_fionbio(borrow(eventfd), true).map_err(|error| TransportError::System {
        what: "making an eventfd nonblocking",
        source: std::io::Error::from_raw_os_error(error.raw_os_error()),
    })
}

#[cfg(test)]
mod tests;
