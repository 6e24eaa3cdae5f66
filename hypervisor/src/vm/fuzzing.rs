//! The NSM device between a guest that writes anything into its queue and a security module that answers anything, at any
//! time.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "test code: a failed assumption is a failed test"
)]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use nsm_device::protocol::{MAX_REQUEST_LEN, MAX_RESPONSE_LEN};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use virtio::mmio::registers;
use virtio::testing::{Driver, WRITE, memory};
use vm_memory::{Bytes, GuestAddress};

use super::nsm::NsmDevice;
use crate::channel::pair;

/// Where requests and answers lie in guest memory.
const REQUEST: u64 = 0x6000;
const ANSWER: u64 = 0x8000;
const ANSWER_SPACE: usize = 0x4000;
/// What the answer's buffer holds before there is an answer.
const UNTOUCHED: u8 = 0x5a;
/// Device status: the device gave up on its driver.
const NEEDS_RESET: u32 = 64;

/// What the device answers itself.
const OWN_ANSWERS: [&[u8]; 3] = [
    b"\xa1\x65Error\x6eBufferTooSmall",
    b"\xa1\x65Error\x70InvalidOperation",
    b"\xa1\x65Error\x6dInternalError",
];

struct Bench {
    driver: Driver<NsmDevice>,
    /// The security module's end; none once it has closed it.
    module: Option<OwnedFd>,
    /// Every request that was offered since the device was made, and every answer given.
    requests: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    /// What the security module has heard and not answered: the first byte of each request.
    heard: VecDeque<u8>,
    /// It has answered what it was not asked.
    dishonest: bool,
    /// The buffer of the answer under way.
    room: Option<usize>,
    /// The driver has broken the rules of queues since the device was last started.
    broken: bool,
}

/// Does what `data` says, as guest and as security module. What holds: nothing but whole requests reaches the security module;
/// nothing but whole answers reaches the guest, and no byte beside its buffer; only a driver that breaks the rules
/// loses the device.
///
/// # Panics
/// It does not hold.
pub fn nsm_shim(data: &[u8]) {
    let (device_end, module) = pair().expect("a channel");
    let device = NsmDevice::new(device_end).expect("a device");
    let mut bench = Bench {
        driver: Driver::new(device, memory(0x1_0000)),
        module: Some(module),
        requests: Vec::new(),
        answers: Vec::new(),
        heard: VecDeque::new(),
        dishonest: false,
        room: None,
        broken: false,
    };
    bench.driver.start(0);
    for step in data.chunks(4).take(256) {
        let mut bytes = [0; 4];
        bytes[..step.len()].copy_from_slice(step);
        bench.step(bytes);
        bench.check();
    }
}

impl Bench {
    fn step(&mut self, [choice, one, two, three]: [u8; 4]) {
        let number = usize::from(u16::from_le_bytes([one, two]));
        match choice % 8 {
            0..=2 => self.request(number % 0x1800, usize::from(three) << 6),
            3 => self.hear_request(),
            4 => self.answer(number % (MAX_RESPONSE_LEN + 0x100), three & 0x80 != 0),
            5 => self.break_rules([one, two, three]),
            6 if three == 0xff => self.module = None,
            6 => {
                self.driver.start(0);
                (self.room, self.broken) = (None, false);
            }
            _ => {}
        }
        self.driver.kick(0);
        self.driver.transport.handle_events();
    }

    /// Offers a request and a buffer for its answer, as Linux does, unless one is under way.
    fn request(&mut self, length: usize, room: usize) {
        if self.room.is_some() || self.broken {
            return;
        }
        let mark = u8::try_from(self.requests.len() % 251).expect("a byte");
        let request = vec![mark; length];
        let lengths = [length, room].map(|length| u32::try_from(length).expect("a length"));
        let memory = &self.driver.memory;
        memory.write_slice(&request, GuestAddress(REQUEST)).expect("it is in memory");
        memory.write_slice(&[UNTOUCHED; ANSWER_SPACE], GuestAddress(ANSWER)).expect("it is in memory");
        let queue = &mut self.driver.queues[0];
        if length == 0 || room == 0 || queue.free_descriptors() < 2 {
            return;
        }
        queue.add(&[(REQUEST, lengths[0])], &[]).expect("a descriptor");
        queue.add(&[], &[(ANSWER, lengths[1])]).expect("a descriptor");
        self.requests.push(request);
        self.room = Some(room);
    }

    /// The security module takes a request.
    fn hear_request(&mut self) {
        let Some(module) = &self.module else { return };
        let mut packet = vec![0; 2 * MAX_REQUEST_LEN];
        let Ok((length, _)) = recv(module, &mut packet, RecvFlags::DONTWAIT) else { return };
        let whole = self
            .requests
            .iter()
            .any(|request| request.get(..MAX_REQUEST_LEN + 1).unwrap_or(request) == &packet[..length]);
        assert!(whole || self.broken, "the security module got what is no request");
        self.heard.push_back(packet[0]);
    }

    /// The security module answers the oldest request, or what nobody asked.
    fn answer(&mut self, length: usize, unasked: bool) {
        let Some(module) = &self.module else { return };
        let mark = if unasked { Some(0xff) } else { self.heard.pop_front() };
        let Some(mark) = mark else { return };
        self.dishonest |= unasked || length == 0;
        let answer = vec![mark; length];
        if send(module, &answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok() {
            self.answers.push(answer);
        }
    }

    /// The guest puts anything into its queue.
    fn break_rules(&mut self, [one, two, three]: [u8; 3]) {
        self.broken = true;
        let queue = &mut self.driver.queues[0];
        let (address, length) = (u64::from(one) << (two % 40), u32::from(two) << (three % 28));
        queue.write_descriptor(u16::from(three % 3), address, length, u16::from(one % 8), u16::from(two % 3));
        if three & 0x40 == 0 {
            queue.offer(u16::from(three % 3));
        } else {
            queue.write_descriptor(0, REQUEST, u32::from(one), if two & 1 == 0 { 0 } else { WRITE }, 0);
            queue.set_available_index(u16::from(two));
        }
    }

    fn check(&mut self) {
        if self.broken {
            return;
        }
        assert_eq!(
            self.driver.read(registers::STATUS) & NEEDS_RESET,
            0,
            "the device gave up on a good driver"
        );
        let queue = &mut self.driver.queues[0];
        let Some((_, nothing)) = queue.take_used() else { return };
        let (_, written) = queue.take_used().expect("request and answer come back together");
        assert_eq!(nothing, 0, "something was written into a request");
        let written = usize::try_from(written).expect("a length");
        let room = self.room.take().expect("an answer was awaited");
        assert!(written <= room, "more was written than there is room for");
        let mut buffer = vec![0; ANSWER_SPACE];
        self.driver.memory.read_slice(&mut buffer, GuestAddress(ANSWER)).expect("it is in memory");
        let (answer, rest) = buffer.split_at(written);
        assert!(rest.iter().all(|byte| *byte == UNTOUCHED), "something was written beside the answer");
        let own = OWN_ANSWERS.iter().any(|own| own.get(..room).unwrap_or(own) == answer);
        // A response of more than the longest is cut where the guest's driver would cut it.
        let given = self.answers.iter().any(|given| given.get(..MAX_RESPONSE_LEN).unwrap_or(given) == answer);
        assert!(own || given, "the guest got what nobody answered");
        let mine = self.requests.last().and_then(|request| request.first()) == answer.first();
        assert!(own || mine || self.dishonest, "the guest got the answer to another request");
    }
}
