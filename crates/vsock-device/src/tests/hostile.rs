//! Guests that do not keep to the rules.

use super::*;
use crate::packet::{HEADER_BYTES, SHUTDOWN_SEND};
use crate::testing::Packet;

const HOST: (u64, u32) = (3, 80);

/// The connection is reset, by exactly one packet, and gone.
#[track_caller]
fn assert_reset(guest: &mut Guest, packets: &[Packet]) {
    let operations: Vec<_> = packets.iter().map(Packet::operation).collect();
    assert_eq!(operations, [Operation::Reset]);
    assert_eq!(guest.connections(), 0);
}

fn connected() -> (Guest, UnixStream) {
    let mut guest = Guest::new();
    let program = connect(&mut guest, 1000, HOST);
    (guest, program)
}

#[test]
fn packets_from_another_cid_are_dropped() {
    let (mut guest, mut program) = connected();
    for src_cid in [0, 2, 3, 17, u64::MAX, 16 | 1 << 32] {
        for operation in 0..9 {
            let forged = Header { src_cid, operation, ..header(Operation::ReadWrite, 1000, HOST) };
            assert_eq!(guest.exchange(forged, b"forged"), []);
        }
    }
    assert_eq!(read_available(&mut program), b"");
    assert_eq!(guest.connections(), 1);
}

#[test]
fn packets_for_others_are_answered_with_a_reset() {
    let mut guest = Guest::new();
    guest.programs.listen(80);
    for cid in [0, 1, 4, 16, 17, u64::from(u32::MAX), 3 | 1 << 32, u64::MAX] {
        for operation in [Operation::Request, Operation::ReadWrite, Operation::Shutdown] {
            let answer = guest.ask(header(operation, 1000, (cid, 80)), b"");
            assert_eq!((answer.operation(), answer.header.src_cid), (Operation::Reset, cid));
        }
        assert_eq!(guest.exchange(header(Operation::Reset, 1000, (cid, 80)), &[]), []);
    }
    assert_eq!(guest.connections(), 0);
}

#[test]
fn sockets_of_another_type_are_refused() {
    let mut guest = Guest::new();
    guest.programs.listen(80);
    for kind in [0, 2, 3, u16::MAX] {
        let answer = guest.ask(Header { kind, ..header(Operation::Request, 1000, HOST) }, &[]);
        assert_eq!((answer.operation(), answer.header.kind), (Operation::Reset, kind));
    }
    let (mut guest, _program) = connected();
    let packets = guest.exchange(Header { kind: 2, ..header(Operation::ReadWrite, 1000, HOST) }, b"x");
    assert_reset(&mut guest, &packets);
}

#[test]
fn operations_without_a_connection_are_answered_with_a_reset() {
    let mut guest = Guest::new();
    for operation in [0, 2, 4, 5, 6, 7, 8, u16::MAX] {
        let answer = guest.ask(Header { operation, ..header(Operation::Request, 1000, HOST) }, b"x");
        assert_eq!(answer.operation(), Operation::Reset);
    }
}

#[test]
fn operations_that_a_state_does_not_allow_reset_the_connection() {
    for operation in [0, 1, 2, 8, u16::MAX] {
        let (mut guest, mut program) = connected();
        let packets = guest.exchange(Header { operation, ..header(Operation::Request, 1000, HOST) }, &[]);
        assert_reset(&mut guest, &packets);
        assert!(at_end(&mut program));
    }
    for operation in [0, 1, 2, 4, 5, 6, 7, 8] {
        let mut guest = Guest::new();
        guest.programs.be_silent(80);
        guest.exchange(header(Operation::Request, 1000, HOST), &[]);
        let packets = guest.exchange(Header { operation, ..header(Operation::Request, 1000, HOST) }, &[]);
        assert_reset(&mut guest, &packets);
    }
    for operation in [0, 1, 4, 5, 6, 7, 8] {
        let mut guest = Guest::new();
        let mut program = guest.programs.connect(b"CONNECT 5005\n");
        guest.run();
        let host = (3, guest.receive()[0].header.src_port);
        let packets = guest.exchange(Header { operation, ..header(Operation::Request, 5005, host) }, &[]);
        assert_reset(&mut guest, &packets);
        assert!(at_end(&mut program));
    }
}

#[test]
fn bytes_after_the_guest_said_there_would_be_none_reset_the_connection() {
    let (mut guest, _program) = connected();
    guest.exchange(shutdown(1000, HOST, SHUTDOWN_SEND), &[]);
    let packets = guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"one more thing");
    assert_reset(&mut guest, &packets);
}

#[test]
fn lengths_that_are_not_the_packet_s_reset_the_connection() {
    for length in [6, 1 << 16, 1 << 31, u32::MAX] {
        let (mut guest, mut program) = connected();
        let lie = Header { length, ..header(Operation::ReadWrite, 1000, HOST) };
        guest.send_raw(&lie.to_bytes(), b"12345");
        guest.run();
        let packets = guest.receive();
        assert_reset(&mut guest, &packets);
        assert!(at_end(&mut program), "nothing of it was delivered");
    }
    // Less than there is: the rest is not part of the packet.
    let (mut guest, mut program) = connected();
    let less = Header { length: 3, ..header(Operation::ReadWrite, 1000, HOST) };
    guest.send_raw(&less.to_bytes(), b"12345");
    guest.send_raw(&Header { length: 0, ..less }.to_bytes(), b"12345");
    guest.run();
    assert_eq!(guest.receive(), []);
    assert_eq!(read_available(&mut program), b"123");
}

#[test]
fn packets_shorter_than_a_header_are_dropped() {
    let (mut guest, _program) = connected();
    let bytes = header(Operation::Reset, 1000, HOST).to_bytes();
    for length in 1..HEADER_BYTES {
        guest.send_raw(&bytes[..length], &[]);
        guest.run();
        assert_eq!(guest.receive(), []);
    }
    assert_eq!(guest.connections(), 1);
    // A header in two pieces is one header.
    guest.send_raw(&bytes[..20], &bytes[20..]);
    guest.run();
    assert_eq!(guest.connections(), 0);
}

#[test]
fn more_bytes_than_there_is_credit_for_reset_the_connection() {
    let (mut guest, _program) = connected();
    let mut sent = 0;
    let mut packets = Vec::new();
    // The host's socket takes some; then 256 KiB are kept, and not one byte more.
    while packets.iter().all(|packet: &Packet| packet.operation() != Operation::Reset) {
        guest.send(header(Operation::ReadWrite, 1000, HOST), &[1; 16 * 1024]);
        guest.run();
        assert!(guest.backlog_bytes() <= 256 * 1024);
        packets.extend(guest.receive());
        sent += 16 * 1024;
        assert!(sent < 10 << 20);
    }
    assert!(sent > 256 * 1024);
    assert_eq!(guest.connections(), 0);
    assert_eq!(guest.backlog_bytes(), 0);
}

#[test]
fn credit_for_bytes_that_were_not_sent_resets_the_connection() {
    for fwd_cnt in [1, 1 << 16, i32::MAX as u32] {
        let (mut guest, _program) = connected();
        let lie = Header { fwd_cnt, ..header(Operation::CreditUpdate, 1000, HOST) };
        let packets = guest.exchange(lie, &[]);
        assert_reset(&mut guest, &packets);
    }
    let mut guest = Guest::new();
    guest.programs.listen(80);
    let lie = Header { fwd_cnt: 1, ..header(Operation::Request, 1000, HOST) };
    let packets = guest.exchange(lie, &[]);
    assert_reset(&mut guest, &packets);
}

#[test]
fn credit_that_is_taken_back_is_respected() {
    let (mut guest, mut program) = connected();
    program.write_all(&[1; 1000]).unwrap();
    guest.run();
    assert_eq!(guest.receive()[0].payload.len(), 1000);
    let none = Header { buf_alloc: 10, fwd_cnt: 0, ..header(Operation::CreditUpdate, 1000, HOST) };
    guest.exchange(none, &[]);
    program.write_all(&[2; 1000]).unwrap();
    guest.run();
    let packets = guest.receive();
    assert!(packets.iter().all(|packet| packet.operation() == Operation::CreditRequest), "{packets:?}");
    let again = Header { buf_alloc: 1 << 20, fwd_cnt: 1000, ..none };
    let packet = guest.ask(again, &[]);
    assert_eq!(packet.payload, [2; 1000]);
}

#[test]
fn a_receive_buffer_without_room_for_a_header_stops_the_device_and_a_reset_mends_it() {
    let mut guest = Guest::without_buffers(crate::Limits::default());
    guest.rx_length = 43;
    guest.offer(1);
    guest.send(header(Operation::Request, 1000, HOST), &[]);
    guest.run();
    assert_eq!(guest.driver.read(0x070), 15 | 64);
    guest.rx_length = 4096;
    guest.start();
    guest.offer(8);
    connect(&mut guest, 1000, HOST);
}

#[test]
fn a_hostile_chain_stops_the_device_and_a_reset_mends_it() {
    let mut guest = Guest::new();
    guest.driver.queues[1].write_descriptor(0, u64::MAX - 5, 100, 0, 0);
    guest.driver.queues[1].offer(0);
    guest.driver.kick(1);
    guest.run();
    assert_eq!(guest.driver.read(0x070), 15 | 64);
    assert!(!guest.device_wants_to_work(std::time::Duration::ZERO));
    guest.start();
    guest.offer(8);
    connect(&mut guest, 1000, HOST);
}

#[test]
fn payloads_of_a_mebibyte_less_the_header_are_just_packets() {
    let (mut guest, mut program) = connected();
    // One chain as large as queues allow, with a length that is within the credit.
    let mut ticket = header(Operation::ReadWrite, 1000, HOST);
    ticket.length = 100_000;
    guest.send_raw(&ticket.to_bytes(), &vec![9; 120_000]);
    guest.run();
    assert_eq!(read_available(&mut program).len(), 100_000);
}
