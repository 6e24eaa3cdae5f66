//! Half a virtio driver: the test writes rings and buffers from outside, the guest only writes registers.

use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::vm_support::Memory;

/// Descriptors of a queue, and its size.
pub const QUEUE_SIZE: u16 = 2;

/// Where the rings of queue number `index` are.
pub struct Rings {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Rings {
    pub const fn of(index: u64) -> Self {
        let base = 0x20_0000 + index * 0x1000;
        Self { descriptors: base, available: base + 0x400, used: base + 0x800 }
    }

    /// Puts buffers (address, length, whether the device writes) into descriptors, each a chain of its own.
    pub fn describe(&self, memory: &Memory, buffers: &[(u64, u32, bool)]) {
        for ((address, length, writable), descriptor) in buffers.iter().zip(0u64..) {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&[u8::from(*writable) << 1, 0, 0, 0]);
            memory.mapped.write_slice(&bytes, GuestAddress(self.descriptors + 16 * descriptor)).unwrap();
        }
    }

    /// Makes these descriptors available.
    pub fn offer(&self, memory: &Memory, heads: &[u16]) {
        let mut ring = vec![0, 0];
        ring.extend_from_slice(&u16::try_from(heads.len()).unwrap().to_le_bytes());
        ring.extend(heads.iter().flat_map(|head| head.to_le_bytes()));
        memory.mapped.write_slice(&ring, GuestAddress(self.available)).unwrap();
    }

    /// The used ring's entry: head and length.
    pub fn used_entry(&self, memory: &Memory, index: u64) -> (u32, u32) {
        let word =
            |offset| memory.mapped.read_obj::<u32>(GuestAddress(self.used + 4 + index * 8 + offset)).unwrap();
        (word(0), word(4))
    }
}

/// Brings a device with this many queues up and notifies those in `notified`.
pub fn drive(device: u64, queues: u32, notified: &[u32]) -> Code {
    let registers = |code: Code, writes: &[(u64, u32)]| {
        writes.iter().fold(code, |code, (offset, value)| code.store(device + offset, *value))
    };
    // Reset, acknowledge, driver; VIRTIO_F_VERSION_1 and nothing else; the features are fine.
    let up = [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 0), (0x70, 11)];
    let mut code = registers(Code::new(), &up);
    for queue in 0..queues {
        let rings = Rings::of(queue.into());
        let low = |address: u64| u32::try_from(address).unwrap();
        code = registers(
            code,
            &[
                (0x30, queue),
                (0x38, QUEUE_SIZE.into()),
                (0x80, low(rings.descriptors)),
                (0x84, 0),
                (0x90, low(rings.available)),
                (0x94, 0),
                (0xA0, low(rings.used)),
                (0xA4, 0),
                (0x44, 1),
            ],
        );
    }
    code = registers(code, &[(0x70, 15)]);
    notified.iter().fold(code, |code, queue| code.store(device + 0x50, *queue))
}
