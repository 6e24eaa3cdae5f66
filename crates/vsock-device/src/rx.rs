//! The queue in which the guest offers buffers for packets to it (VIRTIO 1.2 section 5.10.6.4: one packet a buffer).

use std::os::fd::BorrowedFd;

use virtio::{Chain, DeviceError, GuestIoError, IoVecs, ReadyQueue};

use crate::packet::{HEADER_BYTES, Header};

/// The most packets that one read from a host's socket is spread over.
pub(crate) const BURST_PACKETS: usize = 16;

/// The guest's buffers. Some are taken out of the queue ahead of time, so that one read can fill several.
#[derive(Debug)]
pub(crate) struct RxBuffers {
    queue: ReadyQueue,
    /// Taken and unused, in the order in which they were taken; at most [`BURST_PACKETS`].
    stock: Vec<Chain>,
    /// Empty chains, to be filled again.
    spare: Vec<Chain>,
}

/// How bytes are to be spread over buffers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Plan {
    lengths: [u32; BURST_PACKETS],
    pub(crate) packets: usize,
    pub(crate) bytes: u32,
}

impl Plan {
    fn add(&mut self, length: u32) {
        if let Some(slot) = self.lengths.get_mut(self.packets) {
            *slot = length;
            self.packets += 1;
            self.bytes += length;
        }
    }
}

impl RxBuffers {
    pub(crate) fn new(queue: ReadyQueue) -> Self {
        Self { queue, stock: Vec::with_capacity(BURST_PACKETS), spare: Vec::new() }
    }

    pub(crate) fn queue(&mut self) -> &mut ReadyQueue {
        &mut self.queue
    }

    /// Whether there is a buffer.
    pub(crate) fn available(&mut self) -> Result<bool, DeviceError> {
        self.reserve(1)
    }

    /// Plans packets: `allow` says how many bytes the next one may carry, given its room and what is planned.
    pub(crate) fn plan(&mut self, mut allow: impl FnMut(u32, &Plan) -> u32) -> Result<Plan, DeviceError> {
        let mut plan = Plan::default();
        while plan.packets < BURST_PACKETS && self.reserve(plan.packets + 1)? {
            let room = self.room(plan.packets);
            let length = allow(room, &plan);
            if length == 0 {
                break;
            }
            plan.add(length);
        }
        Ok(plan)
    }

    /// Reads from `stream` into the planned buffers; returns how many bytes came.
    pub(crate) fn read(&self, plan: &Plan, stream: BorrowedFd<'_>) -> Result<usize, GuestIoError> {
        let mut vectors = IoVecs::new(self.queue.memory());
        for (chain, length) in self.stock.iter().zip(plan.lengths.iter().take(plan.packets)) {
            let wanted = usize::try_from(*length).unwrap_or(0);
            if vectors.push(chain.writable(), HEADER_BYTES, wanted)? < wanted {
                break;
            }
        }
        vectors.receive(stream)
    }

    /// Copies `bytes` into the first planned buffer.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, GuestIoError> {
        let Some(chain) = self.stock.first() else { return Ok(0) };
        chain.writable().write(self.queue.memory(), HEADER_BYTES, bytes)
    }

    /// Hands out the `bytes` that are in the planned buffers; `header` makes the header of a packet of that length.
    /// Returns the number of packets.
    pub(crate) fn finish(
        &mut self,
        plan: &Plan,
        bytes: u32,
        mut header: impl FnMut(u32) -> Header,
    ) -> Result<usize, DeviceError> {
        let mut left = bytes;
        let mut packets = 0;
        for planned in plan.lengths.iter().take(plan.packets) {
            let length = left.min(*planned);
            if length == 0 {
                break;
            }
            self.hand_out(packets, &header(length))?;
            left -= length;
            packets += 1;
        }
        self.spare.extend(self.stock.drain(..packets));
        Ok(packets)
    }

    /// Sends a packet without payload. False if there is no buffer.
    pub(crate) fn send(&mut self, header: &Header) -> Result<bool, DeviceError> {
        if !self.reserve(1)? {
            return Ok(false);
        }
        self.hand_out(0, header)?;
        self.spare.extend(self.stock.drain(..1));
        Ok(true)
    }

    /// Completes the buffer at `index` of the stock with its header.
    fn hand_out(&mut self, index: usize, header: &Header) -> Result<(), DeviceError> {
        let Some(chain) = self.stock.get(index) else { return Ok(()) };
        chain.writable().write(self.queue.memory(), 0, &header.to_bytes()).map_err(guest_memory)?;
        let header_bytes = u32::try_from(HEADER_BYTES).unwrap_or(0);
        self.queue.add_used(chain.head(), header_bytes + header.length)?;
        Ok(())
    }

    /// How many bytes of payload the buffer at `index` of the stock has room for.
    fn room(&self, index: usize) -> u32 {
        let bytes = self.stock.get(index).map_or(0, |chain| chain.writable().len());
        u32::try_from(bytes.saturating_sub(HEADER_BYTES)).unwrap_or(u32::MAX)
    }

    /// Takes buffers out of the queue until there are `count`. False if the guest has not offered that many.
    fn reserve(&mut self, count: usize) -> Result<bool, DeviceError> {
        while self.stock.len() < count {
            let mut chain = self.spare.pop().unwrap_or_default();
            if !self.queue.pop(&mut chain)? {
                self.spare.push(chain);
                return Ok(false);
            }
            if chain.writable().len() < HEADER_BYTES {
                return Err(DeviceError::Protocol("a receive buffer has no room for a packet's header"));
            }
            self.stock.push(chain);
        }
        Ok(true)
    }
}

/// Buffers were checked when they were taken, so this is a fault of the host's.
pub(crate) fn guest_memory(error: GuestIoError) -> DeviceError {
    DeviceError::System { what: "accessing guest memory", source: std::io::Error::other(error) }
}
