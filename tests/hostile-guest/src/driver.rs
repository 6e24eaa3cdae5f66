//! A driver of both virtio devices that knows the rules and breaks them.
//!
//! Mere noise gets no further than the first check of each register. So this driver brings its devices up as VIRTIO 1.2 (section
//! 3.1.1) wants it, offers buffers, sends packets and requests that are nearly right, and spoils a small part of everything that it
//! writes, more or less of it by its mood. Between that it writes noise: to registers of any width at any offset, to ports, to its
//! rings.

use std::collections::VecDeque;

use crate::action::{Action, Width};
use crate::message;
use crate::place::Place;
use crate::random::Random;

/// Registers of the first virtio-mmio device; the second one's follow.
const WINDOWS: u64 = 0xD000_0000;
/// Bytes of one device's registers.
const WINDOW: u64 = 0x1000;

/// Registers (VIRTIO 1.2 section 4.2.2).
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_NUM: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_ACK: u64 = 0x64;
const STATUS: u64 = 0x70;
const QUEUE_DESC: u64 = 0x80;
const QUEUE_DRIVER: u64 = 0x90;
const QUEUE_DEVICE: u64 = 0xA0;
const KNOWN: [u64; 27] = [
    0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80,
    0x84, 0x90, 0x94, 0xA0, 0xA4, 0xAC, 0xB0, 0xC0, 0xFC, 0x100,
];

/// Flags of descriptors (section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// COM1, the keyboard controller, ACPI's registers, and some where nothing is.
const PORTS: [u16; 18] = [
    0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x60, 0x64, 0x600, 0x601, 0x602, 0x603, 0x80,
    0xCF8, 0xCFC, 0x70,
];
/// Of these, what ends the machine by one byte.
const DEADLY: [u16; 3] = [0x64, 0x600, 0x602];
/// The last of COM1's ports, and the first one past it.
const COM1: std::ops::Range<u16> = 0x3F8..0x400;

/// Queues of both devices and their sizes, as the devices tell them.
const VSOCK_QUEUES: [u16; 3] = [256, 256, 16];
const NSM_QUEUES: [u16; 1] = [2];

/// Devices, and queues of vsock, by their numbers.
const VSOCK: usize = 0;
const NSM: usize = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Steps after which the driver's mood changes.
const PHASE: u32 = 128;
/// How often the driver breaks a rule, by its mood: once in so many times, or never.
const MOODS: [u64; 5] = [0, 0, 1000, 200, 30];

/// A queue as the driver set it up.
#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    size: u16,
    table: u64,
    available: u64,
    index: u16,
    next_descriptor: u16,
}

/// A device as the driver knows it.
#[derive(Debug, Default)]
struct Device {
    window: u64,
    sizes: &'static [u16],
    queues: Vec<Queue>,
}

/// The driver: an endless sequence of actions.
#[derive(Debug)]
pub struct Driver {
    random: Random,
    place: Place,
    ports: bool,
    guest_cid: u64,
    devices: [Device; 2],
    due: VecDeque<Action>,
    steps: u32,
    mood: u64,
    /// It only asks for more and more connections.
    floods: bool,
}

impl Driver {
    /// A driver whose actions follow from `seed`, in the guest with this CID. Without `ports` it leaves I/O ports alone.
    #[must_use]
    pub fn new(seed: u64, place: Place, guest_cid: u64, ports: bool) -> Self {
        let device = |number, sizes| Device { window: WINDOWS + number * WINDOW, sizes, queues: Vec::new() };
        Self {
            random: Random::new(seed),
            place,
            ports,
            guest_cid,
            devices: [device(0, &VSOCK_QUEUES), device(1, &NSM_QUEUES)],
            due: VecDeque::new(),
            steps: 0,
            mood: 0,
            floods: false,
        }
    }

    /// Noise in rings and buffers alone, as another virtual CPU would make it.
    pub fn scribble(&mut self) -> Action {
        let address = self.place.scribble(&mut self.random);
        Action::Store { address, width: self.width(), value: self.random.bits() >> self.random.below(64) }
    }

    fn step(&mut self) {
        let device = usize::from(self.random.once_in(3));
        if self.steps.is_multiple_of(PHASE) {
            self.mood = self.random.one_of(&MOODS);
            self.floods = self.random.once_in(8);
            self.bring_up(VSOCK);
            self.bring_up(NSM);
        }
        self.steps = self.steps.wrapping_add(1);
        if self.mood == 0 {
            return self.work(device);
        }
        match self.random.below(100) {
            0..60 => self.work(device),
            60..66 => self.bring_up(device),
            66..80 => self.noise_in_registers(device),
            80..86 => self.read_registers(device),
            86..90 => {
                let action = self.scribble();
                self.due.push_back(action);
            }
            90..94 => self.notify(device),
            94..97 => self.string(),
            _ if self.ports => self.noise_in_ports(),
            _ => {}
        }
    }

    /// Whether it is time to break a rule.
    fn breaks_rule(&mut self) -> bool {
        self.mood > 0 && self.random.once_in(self.mood)
    }

    // ---- registers -----------------------------------------------------------------------------------------------

    fn window(&self, device: usize) -> u64 {
        self.devices.get(device).map_or(WINDOWS, |device| device.window)
    }

    /// Writes a register, rarely another value.
    fn register(&mut self, device: usize, offset: u64, value: u32) {
        let value = if self.breaks_rule() { self.register_noise(offset) } else { u64::from(value) };
        let address = self.window(device).saturating_add(offset);
        self.due.push_back(Action::Store { address, width: Width::Double, value });
    }

    fn address_register(&mut self, device: usize, offset: u64, value: u64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.register(device, offset, u32::from_le_bytes([a, b, c, d]));
        self.register(device, offset.saturating_add(4), u32::from_le_bytes([e, f, g, h]));
    }

    /// A value for a register that is not what it should be. One that says where a queue is may move it to another place of its
    /// kind or to nowhere: anywhere else would soon be the end.
    fn register_noise(&mut self, offset: u64) -> u64 {
        let place = match offset & !7 {
            QUEUE_DESC => Some(self.place.table(&mut self.random)),
            QUEUE_DRIVER => Some(self.place.available(&mut self.random)),
            QUEUE_DEVICE => Some(self.place.used(&mut self.random)),
            _ => None,
        };
        match place {
            Some(_) if offset & 4 != 0 => self.random.below(3),
            Some(place) if self.random.once_in(2) => place,
            Some(_) => u64::from(self.random.word()) | 0x8000_0000,
            None => self.value(),
        }
    }

    /// A value that may mean something, or nothing.
    fn value(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.bits(),
            1 => 1 << self.random.below(64),
            2 => self.random.below(300),
            _ => self.random.one_of(&[0, 1, 2, 3, 7, 11, 15, 64, 79, 128, 0xFFFF, 0xFFFF_FFFF, u64::MAX]),
        }
    }

    fn width(&mut self) -> Width {
        self.random.one_of(&[Width::Double, Width::Byte, Width::Word, Width::Double, Width::Quad])
    }

    fn noise_in_registers(&mut self, device: usize) {
        for _ in 0..self.random.below(8) {
            let known = self.random.one_of(&KNOWN);
            let (offset, width) = match self.random.below(8) {
                0 => (self.random.below(WINDOW), self.width()),
                1 => (known.saturating_add(self.random.below(4)), self.width()),
                _ => (known, Width::Double),
            };
            // Only whole writes at a register's own address mean anything: the others need no care.
            let value = self.register_noise(offset);
            let address = self.window(device).saturating_add(offset);
            self.due.push_back(Action::Store { address, width, value });
        }
    }

    fn read_registers(&mut self, device: usize) {
        for _ in 0..self.random.below(4) {
            let known = self.random.one_of(&KNOWN);
            let offset = if self.random.once_in(3) { self.random.below(WINDOW) } else { known };
            let address = self.window(device).saturating_add(offset);
            let width = self.width();
            self.due.push_back(Action::Load { address, width });
        }
    }

    fn notify(&mut self, device: usize) {
        let queue = self.random.below(4);
        let queue = u32::try_from(queue).unwrap_or(0);
        for _ in 0..self.random.below(16) {
            self.register(device, QUEUE_NOTIFY, queue);
        }
    }

    /// Many accesses by one instruction: to registers, from registers.
    fn string(&mut self) {
        let buffer = self.place.buffer(&mut self.random);
        let count = u16::try_from(self.random.below(64)).unwrap_or(0);
        let device = usize::from(self.random.once_in(2));
        let register = self.window(device).saturating_add(self.random.below(WINDOW - 64));
        let (from, to) = if self.random.once_in(2) { (buffer, register) } else { (register, buffer) };
        self.due.push_back(Action::Copy { from, to, count });
    }

    fn noise_in_ports(&mut self) {
        for _ in 0..self.random.below(8) {
            let port = self.random.one_of(&PORTS);
            let port = if self.random.once_in(8) { port.wrapping_add(1) } else { port };
            let width = self.width();
            let value = u32::try_from(self.value() & 0xFFFF_FFFF).unwrap_or(0);
            // Several bytes reach one port, one after the other, here.
            if DEADLY.contains(&port) && !self.place.reckless {
                self.due.push_back(Action::In { port, width });
                continue;
            }
            self.due.push_back(match self.random.below(4) {
                0 => Action::In { port, width },
                1 if COM1.contains(&port) => {
                    let count = u16::try_from(self.random.below(64)).unwrap_or(0);
                    Action::OutString { port, address: self.place.buffer(&mut self.random), count }
                }
                _ => Action::Out { port, width, value },
            });
        }
    }

    // ---- as it should be, nearly ---------------------------------------------------------------------------------

    /// Resets a device and makes it ready.
    fn bring_up(&mut self, device: usize) {
        let Some(sizes) = self.devices.get(device).map(|device| device.sizes) else { return };
        for status in [0, 1, 3] {
            self.register(device, STATUS, status);
        }
        // VIRTIO_F_VERSION_1, sometimes with an event index and indirect descriptors (bits 29 and 28), stream sockets (0).
        let low = self.random.one_of(&[0, 1 << 29, 1 << 28, 3 << 28, 3 << 28 | 1]);
        for (offset, value) in
            [(DRIVER_FEATURES_SEL, 1), (DRIVER_FEATURES, 1), (DRIVER_FEATURES_SEL, 0), (DRIVER_FEATURES, low)]
        {
            self.register(device, offset, value);
        }
        self.register(device, STATUS, 11);
        let mut queues = Vec::new();
        for (number, max) in (0_u32..).zip(sizes) {
            let size = if self.random.once_in(2) { *max } else { (*max >> self.random.below(8)).max(1) };
            let queue = Queue {
                size,
                table: self.place.table(&mut self.random),
                available: self.place.available(&mut self.random),
                index: 0,
                next_descriptor: 0,
            };
            let used = self.place.used(&mut self.random);
            self.register(device, QUEUE_SEL, number);
            self.register(device, QUEUE_NUM, size.into());
            self.address_register(device, QUEUE_DESC, queue.table);
            self.address_register(device, QUEUE_DRIVER, queue.available);
            self.address_register(device, QUEUE_DEVICE, used);
            // Flags and index of rings that somebody else may have used.
            self.store(queue.available, Width::Double, 0);
            self.store(used, Width::Double, 0);
            self.register(device, QUEUE_READY, 1);
            queues.push(queue);
        }
        self.register(device, STATUS, 15);
        if let Some(device) = self.devices.get_mut(device) {
            device.queues = queues;
        }
        if device == VSOCK {
            for _ in 0..self.random.below(16) {
                self.offer_receive_buffer();
            }
        }
    }

    fn work(&mut self, device: usize) {
        if self.devices.get(device).is_none_or(|device| device.queues.is_empty()) {
            return self.bring_up(device);
        }
        match (device, self.random.below(8)) {
            (NSM, _) => self.ask_nsm(),
            (_, 0..3) => self.offer_receive_buffer(),
            _ => self.send_packet(),
        }
        if self.random.once_in(4) {
            self.register(device, INTERRUPT_ACK, 3);
        }
    }

    fn offer_receive_buffer(&mut self) {
        let odd = self.breaks_rule();
        let length = self.random.one_of(if odd { &[44, 43, 1, 0] } else { &[4096, 4096, 65536, 45] });
        self.offer(VSOCK, RECEIVE, &[(length, WRITE)], &[]);
    }

    fn send_packet(&mut self) {
        for _ in 0..self.random.below(6) {
            let (packet, length) = if self.floods {
                message::vsock_request(&mut self.random, self.guest_cid)
            } else {
                message::vsock(&mut self.random, self.guest_cid)
            };
            if self.random.once_in(4) {
                // In two buffers, the header alone in the first.
                let rest = length.saturating_sub(44);
                self.offer(VSOCK, TRANSMIT, &[(length.min(44), 0), (rest, 0)], &packet);
            } else {
                self.offer(VSOCK, TRANSMIT, &[(length, 0)], &packet);
            }
        }
    }

    fn ask_nsm(&mut self) {
        let request = message::nsm(&mut self.random);
        let length = u32::try_from(request.len()).unwrap_or(0);
        let length =
            if self.random.once_in(8) { self.random.one_of(&[0, 4096, 4097, 65536]) } else { length };
        let room = self.random.one_of(&[0x3000, 0x3000, 0x3000, 64, 1, 0]);
        self.offer(NSM, 0, &[(length, 0)], &request);
        self.offer(NSM, 0, &[(room, WRITE)], &[]);
    }

    /// Describes a chain of buffers, the first one's content given, and makes it available.
    fn offer(&mut self, device: usize, number: usize, buffers: &[(u32, u16)], content: &[u8]) {
        let known = self.devices.get(device).and_then(|device| device.queues.get(number)).copied();
        let Some(mut queue) = known else { return };
        let head = queue.next_descriptor;
        let last = buffers.len().saturating_sub(1);
        for (position, (length, flags)) in buffers.iter().enumerate() {
            let at = self.place.buffer(&mut self.random);
            if position == 0 {
                self.store_bytes(at, content);
            }
            let descriptor = queue.next_descriptor;
            let next = descriptor.wrapping_add(1).checked_rem(queue.size).unwrap_or(0);
            let flags = if position < last { flags | NEXT } else { *flags };
            self.describe(queue.table, descriptor, (at, *length, flags, next));
            queue.next_descriptor = next;
        }
        let slot = u64::from(queue.index.checked_rem(queue.size).unwrap_or(0));
        let head = if self.breaks_rule() { self.random.below(400) } else { u64::from(head) };
        self.store(queue.available.saturating_add(4 + 2 * slot), Width::Word, head);
        queue.index = queue.index.wrapping_add(1);
        let index = if self.breaks_rule() { self.random.bits() } else { u64::from(queue.index) };
        self.store(queue.available.saturating_add(2), Width::Word, index);
        if let Some(known) = self.devices.get_mut(device).and_then(|device| device.queues.get_mut(number)) {
            *known = queue;
        }
        if !self.random.once_in(4) {
            let number = u32::try_from(number).unwrap_or(0);
            self.register(device, QUEUE_NOTIFY, number);
        }
    }

    /// Writes one descriptor, or something like one.
    fn describe(&mut self, table: u64, index: u16, (address, length, flags, next): (u64, u32, u16, u16)) {
        let (mut address, mut length, mut flags, mut next) = (address, length, flags, next);
        let rule = if self.breaks_rule() { self.random.below(9) } else { u64::MAX };
        match rule {
            0 => address = self.place.nowhere(&mut self.random),
            1 => length = self.random.one_of(&[u32::MAX, 1 << 20, 1 << 31, 0x10_0001]),
            2 => flags ^= NEXT,
            3 => flags ^= WRITE,
            4 => next = index,
            5 => next = u16::try_from(self.random.below(65536)).unwrap_or(0),
            6..9 => {
                // A table of its own, which may hold anything that was ever a descriptor. Devices must not write to it.
                address = self.place.table(&mut self.random);
                length = self.random.one_of(&[16, 32, 4096, 65536, 17, 0]);
                flags = INDIRECT;
            }
            _ => {}
        }
        let at = table.saturating_add(16_u64.saturating_mul(index.into()));
        let second = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
        // Empty while it changes, so that no device sees half of each.
        for (address, value) in [(at.saturating_add(8), 0), (at, address), (at.saturating_add(8), second)] {
            self.store(address, Width::Quad, value);
        }
    }

    fn store(&mut self, address: u64, width: Width, value: u64) {
        self.due.push_back(Action::Store { address, width, value });
    }

    fn store_bytes(&mut self, at: u64, bytes: &[u8]) {
        for (chunk, address) in bytes.chunks(8).zip((at..).step_by(8)) {
            let mut value = [0; 8];
            for (to, from) in value.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.store(address, Width::Quad, u64::from_le_bytes(value));
        }
    }
}

impl Iterator for Driver {
    type Item = Action;

    /// Never ends.
    fn next(&mut self) -> Option<Action> {
        while self.due.is_empty() {
            self.step();
        }
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::AREA;

    const PLACE: Place = Place { area: 0x30_0000, reckless: false };

    #[test]
    fn a_seed_says_everything() {
        let actions = |seed| Driver::new(seed, PLACE, 16, true).take(10_000).collect::<Vec<_>>();
        assert_eq!(actions(1), actions(1));
        assert_ne!(actions(1), actions(2));
    }

    #[test]
    fn a_careful_driver_writes_to_its_own_memory_and_devices_only_and_ends_nothing() {
        let area = PLACE.area..PLACE.area + AREA;
        let windows = WINDOWS..WINDOWS + 2 * WINDOW + 8;
        for action in Driver::new(3, PLACE, 16, true).take(200_000) {
            match action {
                Action::Store { address, .. } => {
                    assert!(area.contains(&address) || windows.contains(&address), "{address:#x}");
                }
                Action::Copy { to, .. } => assert!(area.contains(&to) || windows.contains(&to), "{to:#x}"),
                Action::Out { port, .. } | Action::OutString { port, .. } => {
                    assert!(!DEADLY.contains(&port), "{port:#x}")
                }
                Action::Load { .. } | Action::In { .. } => {}
            }
        }
    }

    #[test]
    fn every_register_and_every_step_of_a_device_s_life_is_tried() {
        let stores: Vec<(u64, u64)> = Driver::new(4, PLACE, 16, true)
            .take(1_000_000)
            .filter_map(|action| match action {
                Action::Store { address, width: Width::Double, value } => Some((address, value)),
                _ => None,
            })
            .collect();
        for device in [WINDOWS, WINDOWS + WINDOW] {
            for register in KNOWN {
                assert!(stores.iter().any(|(address, _)| *address == device + register), "{register:#x}");
            }
            for status in [0, 1, 3, 11, 15, 128] {
                assert!(stores.contains(&(device + STATUS, status)), "{status}");
            }
        }
    }
}
