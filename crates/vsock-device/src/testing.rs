//! Both ends of the device, for tests: a guest that drives it through real queues, and host programs with real sockets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

pub mod fuzz;
mod host;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use virtio::testing::{Driver, memory};
use vm_memory::{Bytes, GuestAddress};

use crate::packet::{HEADER_BYTES, Header, Operation, TYPE_STREAM};
use crate::services::GuestReport;
use crate::{Limits, VsockDevice};
pub use host::{HostPrograms, TestHost};

/// The CID of the guest in tests.
pub const CID: u32 = 16;

/// What Linux offers for each packet since 6.17: a page less the kernel's own overhead, header included.
pub const LINUX_RX_BUFFER: u32 = 3776 + 44;

/// Each region of guest memory.
const REGION: usize = 0x40_0000;
/// Where the buffers for received packets begin, and how far they are apart.
const RX_BASE: u64 = 0x10_0000;
const RX_STRIDE: u64 = 0x2000;
/// Where the buffers for sent packets begin, and how far they are apart. In the second region of memory.
const TX_BASE: u64 = 0x400_0000;
const TX_STRIDE: u64 = 0x2_0000;
const TX_BUFFERS: u64 = 24;

const RX: usize = 0;
const TX: usize = 1;

/// A packet as the guest got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The header.
    pub header: Header,
    /// What came after it.
    pub payload: Vec<u8>,
}

impl Packet {
    /// What it asks for.
    pub fn operation(&self) -> Operation {
        Operation::from_number(self.header.operation).expect("the device sends known operations")
    }
}

/// The header of a packet from (CID 16, `guest_port`) to (`host_cid`, `host_port`) with a large buffer.
pub fn header(operation: Operation, guest_port: u32, host: (u64, u32)) -> Header {
    Header {
        src_cid: u64::from(CID),
        dst_cid: host.0,
        src_port: guest_port,
        dst_port: host.1,
        length: 0,
        kind: TYPE_STREAM,
        operation: operation.number(),
        flags: 0,
        buf_alloc: 256 * 1024,
        fwd_cnt: 0,
    }
}

/// A guest: its driver, and through it the device.
#[derive(Debug)]
pub struct Guest {
    /// The driver.
    pub driver: Driver<VsockDevice<TestHost>>,
    /// The host programs.
    pub programs: HostPrograms,
    /// Length of each receive buffer.
    pub rx_length: u32,
    reports: Arc<Mutex<Vec<GuestReport>>>,
    rx_free: Vec<u64>,
    rx_offered: HashMap<u16, u64>,
    tx_free: Vec<u64>,
    tx_offered: HashMap<u16, u64>,
}

impl Guest {
    /// A guest whose driver is ready, with 64 receive buffers offered.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// The same with other limits of the device.
    pub fn with_limits(limits: Limits) -> Self {
        let mut guest = Self::without_buffers(limits);
        guest.offer(64);
        guest
    }

    /// The same with no receive buffers.
    pub fn without_buffers(limits: Limits) -> Self {
        let (host, programs) = TestHost::new();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reports);
        let report = Box::new(move |report| heard.lock().expect("no test panics here").push(report));
        let device = VsockDevice::with_limits(CID, host, report, limits).expect("a device");
        let mut guest = Self {
            driver: Driver::new(device, memory(REGION)),
            programs,
            rx_length: LINUX_RX_BUFFER,
            reports,
            rx_free: Vec::new(),
            rx_offered: HashMap::new(),
            tx_free: Vec::new(),
            tx_offered: HashMap::new(),
        };
        guest.start();
        guest
    }

    /// Resets the device and makes it ready again, with no receive buffers.
    pub fn start(&mut self) {
        self.driver.start(0);
        self.rx_offered.clear();
        self.tx_offered.clear();
        self.rx_free = (0..256).map(|index| RX_BASE + index * RX_STRIDE).collect();
        self.tx_free = (0..TX_BUFFERS).map(|index| TX_BASE + index * TX_STRIDE).collect();
    }

    /// What the guest has reported to the services.
    pub fn reports(&self) -> Vec<GuestReport> {
        self.reports.lock().expect("no test panics here").clone()
    }

    /// Offers up to `count` more receive buffers.
    pub fn offer(&mut self, count: usize) {
        for _ in 0..count {
            let Some(address) = self.rx_free.pop() else { break };
            let Some(head) = self.driver.queues[RX].add(&[], &[(address, self.rx_length)]) else {
                self.rx_free.push(address);
                break;
            };
            self.rx_offered.insert(head, address);
        }
        self.driver.kick(0);
    }

    /// Receive buffers that the device has and has not used.
    pub fn offered(&self) -> usize {
        self.rx_offered.len()
    }

    /// Gives the device a packet: header and payload in separate buffers, as Linux does for large ones. The header's
    /// length is set to that of the payload.
    pub fn send(&mut self, header: Header, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small payload");
        self.send_raw(&Header { length, ..header }.to_bytes(), payload);
    }

    /// Gives the device any bytes as a packet, in two buffers.
    pub fn send_raw(&mut self, first: &[u8], second: &[u8]) {
        self.reclaim();
        if self.tx_free.is_empty() {
            self.driver.transport.handle_events();
            self.reclaim();
        }
        let address = self.tx_free.pop().expect("the device returns what it has read");
        let mut buffers = Vec::new();
        let mut at = address;
        for part in [first, second] {
            if !part.is_empty() {
                self.driver.memory.write_slice(part, GuestAddress(at)).expect("the buffer is in memory");
                buffers.push((at, u32::try_from(part.len()).expect("a small buffer")));
                at += u64::try_from(part.len()).expect("a small buffer");
            }
        }
        let head = self.driver.queues[TX].add(&buffers, &[]).expect("there are descriptors");
        self.tx_offered.insert(head, address);
        self.driver.kick(1);
    }

    fn reclaim(&mut self) {
        while let Some((head, written)) = self.driver.queues[TX].take_used() {
            assert_eq!(written, 0, "the device writes nothing to what it reads");
            let address = self.tx_offered.remove(&head).expect("the device returns what it was given, once");
            self.tx_free.push(address);
        }
    }

    /// Lets the device work until it has nothing more to do. A device that never stops fails the test.
    pub fn run(&mut self) {
        let mut calls = 0;
        while self.device_wants_to_work(Duration::ZERO) {
            self.driver.transport.handle_events();
            calls += 1;
            assert!(calls < 100_000, "the device keeps itself busy");
        }
    }

    /// Whether the device has work, or gets some within `patience`.
    pub fn device_wants_to_work(&self, patience: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).expect("a short time"),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let events = self.driver.transport.event_source();
        let mut polled = [PollFd::from_borrowed_fd(events, PollFlags::IN)];
        // A fuzzer's own timer sends signals.
        rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout))).expect("poll") > 0
    }

    /// Takes what the device has received for the guest, and offers as many new buffers.
    pub fn receive(&mut self) -> Vec<Packet> {
        let packets = self.take();
        self.offer(packets.len());
        packets
    }

    /// The same without offering new buffers.
    pub fn take(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some((head, written)) = self.driver.queues[RX].take_used() {
            let address = self.rx_offered.remove(&head).expect("the device uses what it was offered, once");
            let mut bytes = vec![0; usize::try_from(written).expect("a length")];
            assert!(written <= self.rx_length, "the device writes no more than there is room for");
            self.driver.memory.read_slice(&mut bytes, GuestAddress(address)).expect("in memory");
            let (head, payload) = bytes.split_first_chunk::<HEADER_BYTES>().expect("a packet has a header");
            let header = Header::from_bytes(head);
            assert_eq!(usize::try_from(header.length), Ok(payload.len()), "the length is the payload's");
            assert_eq!(header.dst_cid, u64::from(CID), "packets for the guest are for the guest");
            packets.push(Packet { header, payload: payload.to_vec() });
            self.rx_free.push(address);
        }
        packets
    }

    /// Sends a packet, lets the device work, and takes what comes.
    pub fn exchange(&mut self, header: Header, payload: &[u8]) -> Vec<Packet> {
        self.send(header, payload);
        self.run();
        self.receive()
    }

    /// The same for a packet that must have exactly one answer.
    pub fn ask(&mut self, header: Header, payload: &[u8]) -> Packet {
        let mut packets = self.exchange(header, payload);
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    /// Lets the device work, which may have to wait for a timer, until there are packets.
    pub fn wait(&mut self) -> Vec<Packet> {
        let start = Instant::now();
        loop {
            self.run();
            let packets = self.receive();
            if !packets.is_empty() {
                return packets;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "nothing comes");
            self.device_wants_to_work(Duration::from_secs(1));
        }
    }

    /// Lets the device work, which may have to wait for a timer, until `done`.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        loop {
            self.run();
            if done(self) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not happen");
            self.device_wants_to_work(Duration::from_millis(100));
        }
    }

    /// Connections that the device has.
    pub fn connections(&self) -> usize {
        self.driver.transport.with_device(|device| device.connections())
    }

    /// Bytes that the device keeps.
    pub fn backlog_bytes(&self) -> usize {
        self.driver.transport.with_device(|device| device.backlog_bytes())
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}
