//! Bytes under all schedules: none lost, none twice, none out of order, and never more under way than credit allows.
//!
//! The guest here is a model of Linux's: it counts what each packet costs it and would reset a connection that costs
//! too much (Linux since 6.12.92), and it speaks of its credit as rarely as Linux does.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::Limits;

const HOST: (u64, u32) = (3, 80);
/// `SKB_TRUESIZE(0)` on 64-bit machines.
const SKB: u32 = 576;

/// Which Linux the guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// 4.14, as in AWS's images: tells its credit when 64 KiB have become free, and answers no questions.
    Old,
    /// 6.1: answers when it is asked.
    Middle,
    /// 6.12.117: also tells when it has read all there is, and sends no more at a time than its own buffer holds.
    New,
}

fn limits(kernel: Kernel) -> Limits {
    // The guest here may answer late: it is a test on a busy machine.
    let patience = if kernel == Kernel::Old { Duration::from_millis(2) } else { Duration::from_secs(3600) };
    Limits { credit_retry: Duration::from_millis(1), credit_answer: patience, ..Limits::default() }
}

/// The byte at a position of a stream, so that a byte in the wrong place is noticed.
fn byte(stream: u32, position: usize) -> u8 {
    let mixed = position.wrapping_mul(0x9e37_79b9).wrapping_add(usize::try_from(stream).unwrap() * 77);
    u8::try_from(mixed >> 13 & 0xff).unwrap()
}

fn bytes(stream: u32, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|position| byte(stream, position)).collect()
}

/// One connection with what both ends know of it.
struct Stream {
    port: u32,
    program: UnixStream,
    buf_alloc: u32,
    /// Packets in the guest's kernel: bytes that its application has not read.
    queue: VecDeque<u32>,
    queued: u32,
    consumed: u32,
    told: u32,
    /// Bytes each way, as counted by those who send and those who receive.
    host_wrote: usize,
    guest_got: usize,
    guest_wrote: usize,
    host_got: usize,
    /// The device's credit, as it says.
    peer_alloc: u32,
    peer_consumed: u32,
    ended: bool,
    kernel: Kernel,
}

impl Stream {
    fn open(guest: &mut Guest, port: u32, buf_alloc: u32, kernel: Kernel) -> Self {
        guest.programs.listen(80);
        let request = Header { buf_alloc, ..header(Operation::Request, port, HOST) };
        guest.send(request, &[]);
        let answer = guest.wait().remove(0);
        assert_eq!(answer.operation(), Operation::Response);
        let program = guest.programs.accept();
        Self {
            port,
            program,
            buf_alloc,
            queue: VecDeque::new(),
            queued: 0,
            consumed: 0,
            told: 0,
            host_wrote: 0,
            guest_got: 0,
            guest_wrote: 0,
            host_got: 0,
            peer_alloc: answer.header.buf_alloc,
            peer_consumed: 0,
            ended: false,
            kernel,
        }
    }

    fn header(&mut self, operation: Operation) -> Header {
        self.told = self.consumed;
        Header { buf_alloc: self.buf_alloc, fwd_cnt: self.consumed, ..header(operation, self.port, HOST) }
    }

    fn take(&mut self, guest: &mut Guest, packet: &crate::testing::Packet) {
        self.peer_alloc = packet.header.buf_alloc;
        self.peer_consumed = packet.header.fwd_cnt;
        match packet.operation() {
            Operation::ReadWrite => self.take_bytes(&packet.payload),
            Operation::CreditRequest if self.kernel == Kernel::Old => {}
            Operation::CreditRequest => {
                let update = self.header(Operation::CreditUpdate);
                guest.send(update, &[]);
            }
            Operation::CreditUpdate => {}
            Operation::Shutdown => {
                assert_eq!(self.guest_got, self.host_wrote, "the end comes after the last byte");
                self.ended = true;
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_bytes(&mut self, payload: &[u8]) {
        assert!(!payload.is_empty(), "packets without bytes are a waste");
        assert_eq!(payload, bytes(self.port, self.guest_got, payload.len()), "at {}", self.guest_got);
        let length = u32::try_from(payload.len()).unwrap();
        assert!(self.queued + length <= self.buf_alloc, "more than the credit");
        let packets = u32::try_from(self.queue.len()).unwrap() + 1;
        if self.buf_alloc >= 4 * SKB && self.kernel != Kernel::Old {
            let cost = packets * SKB + self.queued + length;
            assert!(
                cost <= self.buf_alloc,
                "Linux would reset this connection: {packets} packets cost {cost}"
            );
        }
        self.guest_got += payload.len();
        self.queue.push_back(length);
        self.queued += length;
    }

    /// The guest's application reads.
    fn guest_reads(&mut self, guest: &mut Guest, count: u32) {
        let mut left = count.min(self.queued);
        self.queued -= left;
        self.consumed = self.consumed.wrapping_add(left);
        while left > 0 {
            let front = self.queue.front_mut().unwrap();
            let part = left.min(*front);
            *front -= part;
            left -= part;
            if *front == 0 {
                self.queue.pop_front();
            }
        }
        let unsaid = self.consumed.wrapping_sub(self.told);
        if unsaid > 0
            && (self.buf_alloc - unsaid.min(self.buf_alloc) < 64 * 1024
                || self.kernel == Kernel::New && self.queued == 0)
        {
            let update = self.header(Operation::CreditUpdate);
            guest.send(update, &[]);
        }
    }

    fn guest_writes(&mut self, guest: &mut Guest, count: usize) {
        let under_way = u32::try_from(self.guest_wrote).unwrap().wrapping_sub(self.peer_consumed);
        let room = match self.kernel {
            Kernel::New => self.peer_alloc.min(self.buf_alloc),
            _ => self.peer_alloc,
        };
        let free = usize::try_from(room.saturating_sub(under_way)).unwrap();
        let count = count.min(free).min(64 * 1024);
        if count > 0 {
            let payload = bytes(self.port + 1000, self.guest_wrote, count);
            let packet = self.header(Operation::ReadWrite);
            guest.send(packet, &payload);
            self.guest_wrote += count;
        }
    }

    fn host_writes(&mut self, count: usize) {
        // A guest with next to no buffer is served byte by byte: enough of that is enough.
        let enough = usize::try_from(self.buf_alloc).unwrap() * 64;
        let count = count.min(enough.saturating_sub(self.host_wrote));
        self.host_wrote += write_some(&mut self.program, &bytes(self.port, self.host_wrote, count));
    }

    fn host_reads(&mut self, count: usize) {
        let mut target = vec![0; count];
        match self.program.read(&mut target) {
            Ok(count) => {
                assert_eq!(target[..count], bytes(self.port + 1000, self.host_got, count));
                self.host_got += count;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    HostWrites(usize, usize),
    HostReads(usize, usize),
    GuestWrites(usize, usize),
    GuestReads(usize, u32),
    Offer(usize),
    Run,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![1usize..200, 1usize..5000, 1usize..100_000];
    let step = prop_oneof![
        4 => (0usize..3, size.clone()).prop_map(|(stream, size)| Step::HostWrites(stream, size)),
        2 => (0usize..3, size.clone()).prop_map(|(stream, size)| Step::HostReads(stream, size)),
        3 => (0usize..3, size.clone()).prop_map(|(stream, size)| Step::GuestWrites(stream, size)),
        2 => (0usize..3, 1u32..100_000).prop_map(|(stream, size)| Step::GuestReads(stream, size)),
        3 => (0usize..30).prop_map(Step::Offer),
        4 => Just(Step::Run),
    ];
    proptest::collection::vec(step, 1..80)
}

fn distribute(guest: &mut Guest, streams: &mut [Stream]) {
    for packet in guest.take() {
        let stream = streams.iter_mut().find(|stream| stream.port == packet.header.dst_port).unwrap();
        stream.take(guest, &packet);
    }
}

fn apply(guest: &mut Guest, streams: &mut [Stream], step: Step) {
    match step {
        Step::HostWrites(stream, size) => streams[stream].host_writes(size),
        Step::HostReads(stream, size) => streams[stream].host_reads(size),
        Step::GuestWrites(stream, size) => streams[stream].guest_writes(guest, size),
        Step::GuestReads(stream, size) => streams[stream].guest_reads(guest, size),
        Step::Offer(count) => guest.offer(count),
        Step::Run => guest.run(),
    }
    distribute(guest, streams);
    let room: usize = streams.iter().map(|stream| usize::try_from(stream.peer_alloc).unwrap()).sum();
    assert!(guest.backlog_bytes() <= room, "more is kept than credit was given");
}

/// Everybody reads and offers buffers until all has arrived.
fn settle(guest: &mut Guest, streams: &mut [Stream]) {
    guest.run_until(|guest| {
        for step in 0..streams.len() {
            apply(guest, streams, Step::Offer(64));
            apply(guest, streams, Step::HostReads(step, 1 << 20));
            apply(guest, streams, Step::GuestReads(step, u32::MAX));
        }
        streams
            .iter()
            .all(|stream| stream.guest_got == stream.host_wrote && stream.host_got == stream.guest_wrote)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(virtio::testing::cases(48)))]

    #[test]
    fn bytes_arrive_whatever_the_schedule(
        steps in steps(),
        sizes in prop::sample::select(vec![[262_144, 262_144, 262_144], [262_144, 4096, 65_536], [1, 128, 3000]]),
        rx_length in prop::sample::select(vec![1000u32, 3820, 4096, 8192]),
        kernel in prop::sample::select(vec![Kernel::Old, Kernel::Middle, Kernel::New]),
    ) {
        let mut guest = Guest::without_buffers(limits(kernel));
        guest.rx_length = rx_length;
        guest.offer(3);
        let mut streams: Vec<_> =
            (1u32..).zip(sizes).map(|(port, size)| Stream::open(&mut guest, port, size, kernel)).collect();
        for step in steps {
            apply(&mut guest, &mut streams, step);
        }
        settle(&mut guest, &mut streams);
        for stream in &streams {
            stream.program.shutdown(std::net::Shutdown::Write).unwrap();
        }
        guest.run_until(|guest| {
            distribute(guest, &mut streams);
            guest.offer(16);
            streams.iter().all(|stream| stream.ended)
        });
    }
}

/// A program that writes a few bytes at a time, and an application that does not read: what made Linux reset
/// connections. Then it reads, and everything comes.
#[test]
fn many_small_writes_to_a_guest_that_does_not_read_are_held_back_and_not_lost() {
    for kernel in [Kernel::Middle, Kernel::New] {
        let mut guest = Guest::with_limits(limits(kernel));
        let mut streams = [Stream::open(&mut guest, 1, 256 * 1024, kernel)];
        for _ in 0..1000 {
            streams[0].host_writes(100);
            apply(&mut guest, &mut streams, Step::Run);
            apply(&mut guest, &mut streams, Step::Offer(8));
        }
        assert!(streams[0].queue.len() <= 256, "{} packets", streams[0].queue.len());
        settle(&mut guest, &mut streams);
        assert!(streams[0].host_wrote > 50_000, "held back by the socket, and only by it");
    }
}

/// What one read of the host's socket brings fills the guest's buffers to the brim.
#[test]
fn packets_are_as_large_as_the_guest_s_buffers() {
    let mut guest = Guest::with_limits(limits(Kernel::New));
    let mut stream = Stream::open(&mut guest, 1, 256 * 1024, Kernel::New);
    stream.host_writes(100_000);
    let lengths: Vec<_> = guest.wait().iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(lengths.len(), 100_000usize.div_ceil(3776));
    assert!(lengths.iter().rev().skip(1).all(|length| *length == 3776), "{lengths:?}");
}

/// Both sockets and both credits full; then one side after the other goes on.
#[test]
fn both_directions_full_and_each_drains_by_itself() {
    let mut guest = Guest::with_limits(limits(Kernel::New));
    let mut streams = [Stream::open(&mut guest, 1, 256 * 1024, Kernel::New)];
    loop {
        let before = (streams[0].host_wrote, streams[0].guest_wrote);
        apply(&mut guest, &mut streams, Step::HostWrites(0, 64 * 1024));
        apply(&mut guest, &mut streams, Step::GuestWrites(0, 64 * 1024));
        apply(&mut guest, &mut streams, Step::Offer(64));
        apply(&mut guest, &mut streams, Step::Run);
        if before == (streams[0].host_wrote, streams[0].guest_wrote) {
            break;
        }
    }
    let stuck = streams[0].guest_got;
    guest.run_until(|guest| {
        apply(guest, &mut streams, Step::HostReads(0, 64 * 1024));
        streams[0].host_got == streams[0].guest_wrote
    });
    assert_eq!(streams[0].guest_got, stuck, "the other direction is still full");
    settle(&mut guest, &mut streams);
}

/// Four gigabytes would take too long; counters that have come around are in `credit`. Here many rounds of credit.
#[test]
fn megabytes_each_way_at_once() {
    let mut guest = Guest::with_limits(limits(Kernel::New));
    let mut streams = [Stream::open(&mut guest, 1, 256 * 1024, Kernel::New)];
    while streams[0].guest_got < 4 << 20 || streams[0].host_got < 4 << 20 {
        apply(&mut guest, &mut streams, Step::HostWrites(0, 100_000));
        apply(&mut guest, &mut streams, Step::GuestWrites(0, 60_000));
        apply(&mut guest, &mut streams, Step::Run);
        apply(&mut guest, &mut streams, Step::GuestReads(0, 200_000));
        apply(&mut guest, &mut streams, Step::HostReads(0, 100_000));
        apply(&mut guest, &mut streams, Step::Offer(64));
    }
    settle(&mut guest, &mut streams);
}

/// The smallest buffers a guest can offer: one byte beside the header.
#[test]
fn a_guest_with_buffers_for_a_byte_gets_byte_after_byte() {
    let mut guest = Guest::without_buffers(limits(Kernel::New));
    guest.rx_length = 45;
    guest.offer(8);
    let mut streams = [Stream::open(&mut guest, 1, 4096, Kernel::New)];
    streams[0].host_writes(300);
    settle(&mut guest, &mut streams);
    assert_eq!(streams[0].guest_got, 300);
}

/// A guest that never says what it has read of small packets, not even when it is asked, is served all the same, and
/// the next connection without delay.
#[test]
fn an_old_guest_that_does_not_answer_is_not_waited_for() {
    let mut guest = Guest::with_limits(limits(Kernel::Old));
    let mut kept = Vec::new();
    for port in 1..3 {
        let mut streams = [Stream::open(&mut guest, port, 256 * 1024, Kernel::Old)];
        for _ in 0..500 {
            streams[0].host_writes(100);
            apply(&mut guest, &mut streams, Step::Run);
            apply(&mut guest, &mut streams, Step::GuestReads(0, u32::MAX));
            apply(&mut guest, &mut streams, Step::Offer(8));
        }
        if port == 2 {
            assert_eq!(streams[0].guest_got, streams[0].host_wrote);
        }
        settle(&mut guest, &mut streams);
        assert_eq!(streams[0].guest_got, 50_000);
        kept.push(streams);
    }
}

/// Such a guest is trusted with packets until it is seen to answer after all.
#[test]
fn a_guest_that_answers_late_is_counted_again() {
    let mut guest = Guest::with_limits(limits(Kernel::Old));
    let mut program = connect(&mut guest, 1, HOST);
    let small_writes = |guest: &mut Guest, program: &mut UnixStream| {
        let mut packets = 0;
        for _ in 0..300 {
            program.write_all(b"x").unwrap();
            guest.run();
            packets += guest.receive().iter().filter(|packet| !packet.payload.is_empty()).count();
        }
        packets
    };
    let mut packets = small_writes(&mut guest, &mut program);
    guest.run_until(|guest| {
        packets += guest.receive().iter().filter(|packet| !packet.payload.is_empty()).count();
        packets > 256
    });
    assert_eq!(small_writes(&mut guest, &mut program), 300, "the guest is trusted");
    // An answer that moves nothing: nobody sends that unasked.
    guest.exchange(header(Operation::CreditUpdate, 1, HOST), &[]);
    assert!(small_writes(&mut guest, &mut program) <= 256);
}

/// Recent Linux limits what it sends at a time to its own buffer, however large the device's is.
#[test]
fn a_guest_with_a_small_buffer_is_told_of_its_credit_in_time() {
    let mut guest = Guest::with_limits(limits(Kernel::New));
    let mut streams = [Stream::open(&mut guest, 1, 8192, Kernel::New)];
    for _ in 0..100 {
        apply(&mut guest, &mut streams, Step::GuestWrites(0, 8192));
        apply(&mut guest, &mut streams, Step::Run);
        apply(&mut guest, &mut streams, Step::HostReads(0, 1 << 16));
        apply(&mut guest, &mut streams, Step::Offer(8));
    }
    assert!(streams[0].host_got > 400_000, "{}", streams[0].host_got);
}
