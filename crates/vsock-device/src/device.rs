//! The virtio device: ID 19, with queues for receiving, transmitting and events (VIRTIO 1.2 section 5.10).

use std::os::fd::BorrowedFd;

use virtio::{ActivateError, Activation, Chain, DeviceError, ReadyQueue, VirtioDevice};

use crate::connection::Payload;
use crate::delivery::deliver;
use crate::host::HostEnd;
use crate::limits::Limits;
use crate::muxer::Muxer;
use crate::packet::{HEADER_BYTES, Header};
use crate::rx::{RxBuffers, guest_memory};
use crate::services::GuestReport;

/// The device's type (section 5.10.1).
pub const DEVICE_ID: u32 = 19;

/// `VIRTIO_VSOCK_F_STREAM` (section 5.10.3): stream sockets, which are all we serve.
const F_STREAM: u64 = 1;

/// Sizes of the queues: twice what Linux's driver keeps in flight usually (128), so that it never waits for an index.
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];

/// The queues' numbers (section 5.10.2).
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const EVENT: u32 = 2;

/// How much one call takes from the guest before it lets others work: packets, and bytes in them.
const PACKETS_PER_CALL: usize = 128;
const BYTES_PER_CALL: usize = 2 * 1024 * 1024;

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewDeviceError {
    /// CIDs 0 to 3 and 2^32-1 are not for guests.
    #[error("CID {0} cannot be a guest's: take one from 4 to 4294967294")]
    Cid(u32),
    /// The host refused a system call.
    #[error("preparing the vsock device: {0}")]
    System(#[from] std::io::Error),
}

/// A virtio-vsock device, answered by `H` at the host's end.
#[derive(Debug)]
pub struct VsockDevice<H> {
    guest_cid: u64,
    muxer: Muxer<H>,
    active: Option<Active>,
}

/// What there is while a driver is at work.
#[derive(Debug)]
struct Active {
    rx: RxBuffers,
    tx: ReadyQueue,
    event: ReadyQueue,
    chain: Chain,
}

impl<H: HostEnd> VsockDevice<H> {
    /// A device for the guest with this CID. `report` is called at most once for each kind of [`GuestReport`], on the
    /// thread that calls `handle_events`; it must not block.
    ///
    /// # Errors
    /// The CID cannot be a guest's, or the system is out of descriptors.
    pub fn new(
        guest_cid: u32,
        host: H,
        report: Box<dyn FnMut(GuestReport) + Send>,
    ) -> Result<Self, NewDeviceError> {
        Self::with_limits(guest_cid, host, report, Limits::default())
    }

    /// As [`Self::new`], with other limits.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_limits(
        guest_cid: u32,
        host: H,
        report: Box<dyn FnMut(GuestReport) + Send>,
        limits: Limits,
    ) -> Result<Self, NewDeviceError> {
        if guest_cid < 4 || guest_cid == u32::MAX {
            return Err(NewDeviceError::Cid(guest_cid));
        }
        let guest_cid = u64::from(guest_cid);
        Ok(Self { guest_cid, muxer: Muxer::new(guest_cid, host, report, limits)?, active: None })
    }

    /// The number of connections, in any state; for reports and tests.
    pub fn connections(&self) -> usize {
        self.muxer.connections()
    }

    /// The bytes that are kept for host programs that do not read; for reports and tests.
    pub fn backlog_bytes(&self) -> usize {
        self.muxer.backlog_bytes()
    }

    /// How many connections stand in line for the guest's buffers; for tests.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.muxer.line.len()
    }

    fn take_events(&mut self) -> Result<(), DeviceError> {
        let events = self.muxer.poller.take().map_err(|source| DeviceError::System {
            what: "waiting for events of the vsock device",
            source,
        })?;
        for event in &events {
            self.muxer.take_event(event);
        }
        self.muxer.poller.recycle(events);
        Ok(())
    }
}

impl<H: HostEnd> VirtioDevice for VsockDevice<H> {
    fn device_id(&self) -> u32 {
        DEVICE_ID
    }

    fn device_features(&self) -> u64 {
        F_STREAM
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// `struct virtio_vsock_config` is the guest's CID and nothing else (section 5.10.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.guest_cid.to_le_bytes();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = config.get(from..).unwrap_or_default();
        for (target, byte) in data.iter_mut().zip(source) {
            *target = *byte;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let found = activation.queues.len();
        let [receive, tx, event] = <[ReadyQueue; 3]>::try_from(activation.queues)
            .map_err(|_| ActivateError::QueueCount { expected: QUEUE_SIZES.len(), found })?;
        for (queue, number) in [(&receive, RECEIVE), (&tx, TRANSMIT), (&event, EVENT)] {
            self.muxer.poller.watch_kick(queue.kick(), number).map_err(|source| ActivateError::System {
                what: "watching a queue's notifications",
                source,
            })?;
        }
        self.active = Some(Active { rx: RxBuffers::new(receive), tx, event, chain: Chain::new() });
        self.muxer.active = true;
        // The driver may have made buffers available before it was ready, and need not notify again.
        self.muxer.poller.again();
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(mut active) = self.active.take() {
            for queue in [active.rx.queue(), &mut active.tx, &mut active.event] {
                self.muxer.poller.forget(queue.kick());
            }
        }
        self.muxer.reset();
    }

    fn event_source(&self) -> BorrowedFd<'_> {
        self.muxer.event_source()
    }

    fn handle_events(&mut self) -> Result<(), DeviceError> {
        self.take_events()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        let more_from_guest = active.transmit(&mut self.muxer)?;
        let more_for_guest = deliver(&mut self.muxer, &mut active.rx)?;
        active.rx.queue().signal()?;
        if more_from_guest || more_for_guest {
            self.muxer.poller.again();
        }
        Ok(())
    }
}

impl Active {
    /// Takes packets from the guest. True if there are more than one call should take.
    fn transmit<H: HostEnd>(&mut self, muxer: &mut Muxer<H>) -> Result<bool, DeviceError> {
        let mut packets = PACKETS_PER_CALL;
        let mut bytes = BYTES_PER_CALL;
        self.tx.disable_notification()?;
        let more = loop {
            if packets == 0 || bytes == 0 {
                break true;
            }
            if self.tx.pop(&mut self.chain)? {
                self.take_packet(muxer)?;
                self.tx.add_used(self.chain.head(), 0)?;
                packets -= 1;
                bytes = bytes.saturating_sub(self.chain.readable().len());
            } else if !self.tx.enable_notification()? {
                break false;
            }
        };
        self.tx.signal()?;
        Ok(more)
    }

    /// Deals with the packet in `chain`.
    fn take_packet<H: HostEnd>(&self, muxer: &mut Muxer<H>) -> Result<(), DeviceError> {
        let memory = self.tx.memory();
        let buffers = self.chain.readable();
        let mut bytes = [0; HEADER_BYTES];
        if buffers.read(memory, 0, &mut bytes).map_err(guest_memory)? < HEADER_BYTES {
            tracing::debug!("dropped a packet that is shorter than a header");
            return Ok(());
        }
        let header = Header::from_bytes(&bytes);
        let said = usize::try_from(header.length).unwrap_or(usize::MAX);
        let length = said.min(buffers.len() - HEADER_BYTES);
        muxer.take_packet(&header, Payload { memory, buffers, length });
        Ok(())
    }
}
