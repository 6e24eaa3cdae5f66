//! How connections end.

use std::net::Shutdown;
use std::time::Duration;

use super::*;
use crate::Limits;
use crate::limits::CREDIT_BYTES;
use crate::packet::{SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

const HOST: (u64, u32) = (3, 80);

#[test]
fn the_guest_closes_and_the_program_reads_to_the_end() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"last words");
    let answer = guest.ask(shutdown(1000, HOST, SHUTDOWN_BOTH), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!(guest.connections(), 0);
    assert_eq!(read_available(&mut program), b"last words");
    assert!(at_end(&mut program));
}

#[test]
fn the_guest_half_closes_first() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    assert_eq!(guest.exchange(shutdown(1000, HOST, SHUTDOWN_SEND), &[]), []);
    assert!(at_end(&mut program));
    program.write_all(b"answer").unwrap();
    guest.run();
    assert_eq!(guest.receive()[0].payload, b"answer");
    drop(program);
    let packet = guest.wait().remove(0);
    assert_eq!((packet.operation(), packet.header.flags), (Operation::Shutdown, SHUTDOWN_BOTH));
    assert_eq!(guest.exchange(header(Operation::Reset, 1000, HOST), &[]), []);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn the_program_half_closes_first() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    program.write_all(b"request").unwrap();
    program.shutdown(Shutdown::Write).unwrap();
    guest.run();
    let packets = guest.receive();
    assert_eq!(packets[0].payload, b"request");
    assert_eq!((packets[1].operation(), packets[1].header.flags), (Operation::Shutdown, SHUTDOWN_SEND));
    assert_eq!(packets.len(), 2);
    // The other direction goes on as long as it likes.
    for _ in 0..3 {
        assert_eq!(guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"response"), []);
    }
    assert_eq!(read_available(&mut program), b"responseresponseresponse");
    let answer = guest.ask(shutdown(1000, HOST, SHUTDOWN_BOTH), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert!(at_end(&mut program));
    assert_eq!(guest.connections(), 0);
}

#[test]
fn both_half_close_and_the_guest_is_told_that_all_is_done() {
    for guest_first in [true, false] {
        let mut guest = Guest::new();
        let mut program = connect(&mut guest, 1000, HOST);
        if guest_first {
            guest.exchange(shutdown(1000, HOST, SHUTDOWN_SEND), &[]);
        }
        program.shutdown(Shutdown::Write).unwrap();
        guest.run();
        let mut packets = guest.receive();
        if !guest_first {
            packets.extend(guest.exchange(shutdown(1000, HOST, SHUTDOWN_SEND), &[]));
        }
        assert_eq!(packets.last().unwrap().header.flags, SHUTDOWN_BOTH);
        assert!(at_end(&mut program));
        guest.exchange(header(Operation::Reset, 1000, HOST), &[]);
        assert_eq!(guest.connections(), 0);
    }
}

#[test]
fn a_guest_that_does_not_want_to_receive_makes_the_program_fail_to_write() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    program.write_all(b"too late").unwrap();
    guest.send(shutdown(1000, HOST, SHUTDOWN_RECEIVE), &[]);
    guest.run();
    assert!(guest.receive().iter().all(|packet| packet.operation() == Operation::ReadWrite));
    assert_eq!(program.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"still talking");
    assert_eq!(read_available(&mut program), b"still talking");
}

#[test]
fn shutdowns_add_up_and_unknown_flags_mean_nothing() {
    let mut guest = Guest::new();
    let _program = connect(&mut guest, 1000, HOST);
    for flags in [0, 4, 0xffff_fffc] {
        assert_eq!(guest.exchange(shutdown(1000, HOST, flags), &[]), []);
    }
    assert_eq!(guest.connections(), 1);
    assert_eq!(guest.exchange(shutdown(1000, HOST, SHUTDOWN_RECEIVE), &[]), []);
    assert_eq!(guest.exchange(shutdown(1000, HOST, SHUTDOWN_RECEIVE), &[]), []);
    let answer = guest.ask(shutdown(1000, HOST, SHUTDOWN_SEND), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_reset_from_the_guest_ends_all_at_once() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    assert_eq!(guest.exchange(header(Operation::Reset, 1000, HOST), &[]), []);
    assert_eq!(guest.connections(), 0);
    assert!(at_end(&mut program));
    assert_eq!(guest.exchange(header(Operation::Reset, 1000, HOST), &[]), [], "never a reset for a reset");
}

#[test]
fn a_program_that_dies_ends_the_connection() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    program.write_all(b"almost").unwrap();
    drop(program);
    let packets = guest.wait();
    let all: Vec<_> = packets.iter().map(|packet| (packet.operation(), packet.header.flags)).collect();
    assert_eq!(all, [(Operation::ReadWrite, 0), (Operation::Shutdown, SHUTDOWN_BOTH)]);
    assert_eq!(packets[0].payload, b"almost");
}

#[test]
fn a_program_that_dies_with_bytes_unread_ends_the_connection() {
    let mut guest = Guest::new();
    let program = connect(&mut guest, 1000, HOST);
    guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"nobody will read this");
    drop(program);
    let packets = guest.wait();
    assert_eq!(packets.last().unwrap().operation(), Operation::Reset);
    assert_eq!(guest.connections(), 0);
}

/// The host's socket is full, bytes are kept in the device, and then the program is killed.
#[test]
fn a_program_that_dies_in_mid_transfer_costs_nothing() {
    let mut guest = Guest::new();
    let program = connect(&mut guest, 1000, HOST);
    let mut guest_knows = 0;
    while guest.backlog_bytes() == 0 {
        let chunk = vec![1; 32 * 1024];
        for packet in guest.exchange(header(Operation::ReadWrite, 1000, HOST), &chunk) {
            assert_eq!(packet.operation(), Operation::CreditUpdate);
        }
        guest_knows += chunk.len();
        assert!(guest_knows < 10 << 20, "a socket takes no end of bytes");
    }
    drop(program);
    let packets = guest.wait();
    assert!(matches!(packets.last().unwrap().operation(), Operation::Reset | Operation::Shutdown));
    assert_eq!(guest.backlog_bytes(), 0);
    guest.exchange(header(Operation::Reset, 1000, HOST), &[]);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_program_that_stops_reading_still_writes() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    program.shutdown(Shutdown::Read).unwrap();
    let mut packets = guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"unheard");
    packets.extend(guest.exchange(header(Operation::ReadWrite, 1000, HOST), b"unheard"));
    let all: Vec<_> = packets.iter().map(|packet| (packet.operation(), packet.header.flags)).collect();
    assert_eq!(all, [(Operation::Shutdown, SHUTDOWN_RECEIVE)]);
    program.write_all(b"but I talk").unwrap();
    assert_eq!(guest.wait()[0].payload, b"but I talk");
}

#[test]
fn what_the_guest_wrote_before_it_closed_is_not_lost() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    let mut sent = 0;
    while guest.backlog_bytes() < 64 * 1024 {
        guest.exchange(header(Operation::ReadWrite, 1000, HOST), &vec![7; 32 * 1024]);
        sent += 32 * 1024;
    }
    let answer = guest.ask(shutdown(1000, HOST, SHUTDOWN_BOTH), &[]);
    assert_eq!(answer.operation(), Operation::Reset, "the guest need not wait for a slow program");
    // The same ports may be used again meanwhile.
    let second = connect(&mut guest, 1000, HOST);
    assert_eq!(guest.connections(), 2);
    drop(second);
    // Not even a reset of the device takes away what was sent and closed.
    guest.start();
    guest.offer(16);
    let mut received = 0;
    guest.run_until(|_| {
        received += read_available(&mut program).len();
        received == sent
    });
    guest.run_until(|guest| guest.connections() == 0);
    assert!(at_end(&mut program));
}

#[test]
fn a_program_that_never_reads_what_was_left_is_given_up() {
    let limits = Limits { linger: Duration::from_millis(5), ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    let _program = connect(&mut guest, 1000, HOST);
    while guest.backlog_bytes() == 0 {
        guest.exchange(header(Operation::ReadWrite, 1000, HOST), &vec![7; 32 * 1024]);
    }
    guest.exchange(shutdown(1000, HOST, SHUTDOWN_BOTH), &[]);
    guest.run_until(|guest| guest.connections() == 0);
    assert_eq!(guest.backlog_bytes(), 0);
}

#[test]
fn a_guest_that_does_not_close_is_reset() {
    let limits = Limits { close: Duration::from_millis(5), ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    drop(connect(&mut guest, 1000, HOST));
    let mut operations = Vec::new();
    guest.run_until(|guest| {
        operations.extend(guest.receive().iter().map(crate::testing::Packet::operation));
        guest.connections() == 0
    });
    assert_eq!(operations, [Operation::Shutdown, Operation::Reset]);
}

#[test]
fn a_half_closed_connection_is_told_when_its_bytes_have_been_delivered() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, HOST);
    let mut sent = 0;
    while guest.backlog_bytes() == 0 {
        guest.exchange(header(Operation::ReadWrite, 1000, HOST), &vec![7; 64 * 1024]);
        sent += 64 * 1024;
    }
    assert!(guest.backlog_bytes() <= usize::try_from(CREDIT_BYTES).unwrap());
    assert_eq!(guest.exchange(shutdown(1000, HOST, SHUTDOWN_SEND), &[]), []);
    let mut received = 0;
    guest.run_until(|_| {
        received += read_available(&mut program).len();
        received == sent
    });
    guest.run_until(|_| at_end(&mut program));
    assert_eq!(guest.connections(), 1);
}
