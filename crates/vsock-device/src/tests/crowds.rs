//! Many connections, floods, and who has to wait for whom.

use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::Limits;
use crate::limits::{CREDIT_BYTES, GENEROUS_CONNECTIONS, SMALL_CREDIT_BYTES};

#[test]
fn thousands_of_connections_and_not_one_more() {
    let limits = Limits { connections: 1500, ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    let mut programs = Vec::new();
    let mut credits = Vec::new();
    guest.programs.listen(80);
    for port in 0..1500 {
        let answer = guest.ask(header(Operation::Request, port, (3, 80)), &[]);
        assert_eq!(answer.operation(), Operation::Response);
        credits.push(answer.header.buf_alloc);
        programs.push(guest.programs.accept());
    }
    let answer = guest.ask(header(Operation::Request, 1500, (3, 80)), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!(guest.connections(), 1500);
    assert!(credits[..GENEROUS_CONNECTIONS].iter().all(|credit| *credit == CREDIT_BYTES));
    assert!(credits[GENEROUS_CONNECTIONS..].iter().all(|credit| *credit == SMALL_CREDIT_BYTES));

    // Nor may a host program add one.
    let mut refused = guest.programs.connect(b"CONNECT 7\n");
    guest.run();
    assert!(closed(&mut refused));

    // All of them work.
    for (port, program) in (0..).zip(&mut programs) {
        guest.exchange(header(Operation::ReadWrite, port, (3, 80)), &port.to_le_bytes());
        assert_eq!(read_available(program), port.to_le_bytes());
    }
    guest.exchange(header(Operation::Reset, 700, (3, 80)), &[]);
    assert_eq!(guest.ask(header(Operation::Request, 1500, (3, 80)), &[]).operation(), Operation::Response);
}

#[test]
fn the_usual_limit_is_4096() {
    assert_eq!(Limits::default().connections, 4096);
}

#[test]
fn a_flood_of_requests_without_receive_buffers_costs_the_host_nothing() {
    let limits = Limits { connections: 50, resets: 20, ..Limits::default() };
    let mut guest = Guest::without_buffers(limits);
    guest.programs.listen(80);
    for port in 0..5000 {
        guest.send(header(Operation::Request, port, (3, 80)), &[]);
        guest.run();
    }
    assert_eq!(guest.connections(), 50);
    guest.offer(256);
    guest.run();
    let packets = guest.receive();
    let resets = packets.iter().filter(|packet| packet.operation() == Operation::Reset).count();
    assert_eq!((resets, packets.len()), (20, 70));
}

/// Connections that come and go while nothing can be sent to the guest must leave nothing behind.
#[test]
fn opening_and_resetting_again_and_again_leaves_nothing_behind() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let mut guest = Guest::without_buffers(limits);
    for _ in 0..2000 {
        guest.send(header(Operation::Request, 1, (3, 9000)), &[]);
        guest.send(header(Operation::Reset, 1, (3, 9000)), &[]);
        guest.run();
    }
    assert_eq!(guest.connections(), 0);
    let waiting = guest.driver.transport.with_device(|device| device.waiting());
    assert!(waiting <= 9, "{waiting} connections that have gone stand in line");
}

#[test]
fn a_program_that_does_not_read_blocks_nobody() {
    let mut guest = Guest::new();
    let _slow = connect(&mut guest, 1000, (3, 80));
    let mut quick = connect(&mut guest, 1001, (3, 80));
    while guest.backlog_bytes() < 128 * 1024 {
        guest.exchange(header(Operation::ReadWrite, 1000, (3, 80)), &[0; 32 * 1024]);
    }
    guest.exchange(header(Operation::ReadWrite, 1001, (3, 80)), b"quick");
    assert_eq!(read_available(&mut quick), b"quick");
    quick.write_all(b"answer").unwrap();
    assert_eq!(guest.wait()[0].payload, b"answer");
}

#[test]
fn a_guest_that_does_not_read_one_connection_gets_the_others() {
    let mut guest = Guest::new();
    let mut slow = connect(&mut guest, 1000, (3, 80));
    let mut quick = connect(&mut guest, 1001, (3, 80));
    // The guest's application never reads port 1000: fwd_cnt stays 0.
    let mut written = 0;
    for _ in 0..200 {
        written += write_some(&mut slow, &[1; 16 * 1024]);
        guest.run();
        guest.receive();
    }
    assert!(written > 300 * 1024, "credit and socket are full: {written}");
    quick.write_all(b"through").unwrap();
    assert!(guest.wait().iter().any(|packet| packet.payload == b"through"));
}

/// The guest's receive queue is empty for good, and it still can send: credit of 256 KiB a connection, all
/// delivered. This is the deadlock of guests and devices that let one direction wait for the other.
#[test]
fn a_guest_without_receive_buffers_can_send() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, (3, 80));
    let mut drain = guest.offered();
    while drain > 0 {
        program.write_all(b"x").unwrap();
        guest.run();
        drain -= guest.take().len();
    }
    for _ in 0..64 {
        write_some(&mut program, &[1; 16 * 1024]);
    }
    let mut delivered = 0;
    for _ in 0..100 {
        guest.send(header(Operation::ReadWrite, 1000, (3, 80)), &[2; 64 * 1024]);
        guest.run();
        delivered += read_available(&mut program).len();
    }
    assert_eq!(delivered, 100 * 64 * 1024);
    // What became due meanwhile is one packet, not a hundred.
    guest.offer(256);
    guest.run();
    let packets = guest.receive();
    assert!(packets.iter().filter(|packet| packet.operation() != Operation::ReadWrite).count() <= 2);
    assert_eq!(packets.last().unwrap().header.fwd_cnt, 100 * 64 * 1024);
}

#[test]
fn connections_take_turns_at_the_guest_s_buffers() {
    let mut guest = Guest::without_buffers(Limits::default());
    guest.offer(8);
    let mut programs: Vec<_> = (0..4).map(|port| connect(&mut guest, port, (3, 80))).collect();
    for program in &mut programs {
        write_some(program, &[0; 150_000]);
    }
    let mut packets = [0; 4];
    for _ in 0..40 {
        guest.run();
        for packet in guest.take() {
            packets[usize::try_from(packet.header.dst_port).unwrap()] += packet.payload.len();
        }
        guest.offer(4);
    }
    let (least, most) = (packets.iter().min().unwrap(), packets.iter().max().unwrap());
    assert!(most - least <= 20 * 3776, "{packets:?}");
    assert!(*least > 0);
}

#[test]
fn one_call_does_a_bounded_amount_and_the_rest_comes_next() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, (3, 80));
    let packet = Header { length: 4, ..header(Operation::ReadWrite, 1000, (3, 80)) };
    let address = 0x40_0000 - 0x1000;
    guest.driver.memory.write_slice(&packet.to_bytes(), GuestAddress(address)).unwrap();
    for _ in 0..200 {
        guest.driver.queues[1].add(&[(address, 48)], &[]).unwrap();
    }
    guest.driver.kick(1);
    guest.driver.transport.handle_events();
    assert_eq!(read_available(&mut program).len(), 4 * 128);
    assert!(guest.device_wants_to_work(Duration::ZERO));
    guest.run();
    assert_eq!(read_available(&mut program).len(), 4 * 72);
    // The program's reading is an event, for which there is nothing to do.
    guest.run();
    assert!(!guest.device_wants_to_work(Duration::ZERO));
}

#[test]
fn a_flood_that_has_to_be_refused_does_not_silence_connections() {
    let mut guest = Guest::without_buffers(Limits::default());
    guest.offer(2);
    let mut program = connect(&mut guest, 1000, (3, 80));
    for port in 0..200 {
        guest.send(header(Operation::ReadWrite, port, (2, 99)), &[]);
        guest.run();
    }
    program.write_all(b"heard").unwrap();
    guest.offer(64);
    guest.run();
    let place = guest.receive().iter().position(|packet| packet.payload == b"heard");
    assert!(place.is_some_and(|place| place <= 34), "{place:?}");
}

#[test]
fn an_idle_device_does_not_wake_anybody() {
    let limits = Limits { credit_retry: Duration::from_secs(3600), ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    let mut program = connect(&mut guest, 1000, (3, 80));
    let _silent = guest.programs.connect(b"CONN");
    // Readable, but without credit.
    let none = Header { buf_alloc: 0, ..header(Operation::CreditUpdate, 1000, (3, 80)) };
    guest.exchange(none, &[]);
    program.write_all(b"waiting for credit").unwrap();
    guest.run();
    guest.receive();
    guest.run();
    assert!(!guest.device_wants_to_work(Duration::from_millis(1)));
}
