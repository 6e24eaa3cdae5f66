//! The services that the device answers itself.

use super::*;
use crate::packet::{SHUTDOWN_BOTH, SHUTDOWN_SEND};
use crate::services::{ApplicationEnd, GuestReport};

/// AWS's init: connects, sends the byte, reads it back, closes.
fn heartbeat(guest: &mut Guest, port: u32) {
    let host = (3, 9000);
    assert_eq!(guest.ask(header(Operation::Request, port, host), &[]).operation(), Operation::Response);
    let echo = guest.ask(header(Operation::ReadWrite, port, host), &[0xb7]);
    assert_eq!((echo.operation(), echo.payload), (Operation::ReadWrite, vec![0xb7]));
    assert_eq!((echo.header.src_cid, echo.header.fwd_cnt), (3, 1));
    assert_eq!(guest.ask(shutdown(port, host, SHUTDOWN_BOTH), &[]).operation(), Operation::Reset);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn the_heartbeat_is_answered_without_a_host_program_and_reported_once() {
    let mut guest = Guest::new();
    guest.programs.listen(9000);
    heartbeat(&mut guest, 1000);
    heartbeat(&mut guest, 1000);
    guest.start();
    guest.offer(8);
    heartbeat(&mut guest, 1000);
    assert_eq!(guest.reports(), [GuestReport::Heartbeat]);
    assert_eq!(guest.programs.asked(), []);
}

#[test]
fn the_heartbeat_is_on_cid_3_only() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, (2, 9000));
    guest.exchange(header(Operation::ReadWrite, 1000, (2, 9000)), &[0xb7]);
    assert_eq!(read_available(&mut program), [0xb7]);
    assert_eq!(guest.reports(), []);
}

#[test]
fn another_byte_is_no_heartbeat() {
    let mut guest = Guest::new();
    let host = (3, 9000);
    guest.exchange(header(Operation::Request, 1000, host), &[]);
    let answer = guest.ask(header(Operation::ReadWrite, 1000, host), &[0xb6]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!(guest.reports(), []);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn the_end_of_the_application_is_told_in_a_line() {
    let mut guest = Guest::new();
    let host = (2, 9001);
    guest.exchange(header(Operation::Request, 1000, host), &[]);
    assert_eq!(guest.exchange(header(Operation::ReadWrite, 1000, host), b"exited "), []);
    let packets = guest.exchange(header(Operation::ReadWrite, 1000, host), b"7\n");
    let all: Vec<_> = packets.iter().map(|packet| (packet.operation(), packet.header.flags)).collect();
    assert_eq!(all, [(Operation::ReadWrite, 0), (Operation::Shutdown, SHUTDOWN_BOTH)]);
    assert_eq!(packets[0].payload, b"ok\n");
    assert_eq!(guest.exchange(header(Operation::Reset, 1000, host), &[]), []);
    assert_eq!(guest.connections(), 0);

    guest.exchange(header(Operation::Request, 1001, host), &[]);
    guest.exchange(header(Operation::ReadWrite, 1001, host), b"exited 8\n");
    assert_eq!(guest.reports(), [GuestReport::ApplicationEnded(ApplicationEnd::Exited(7))]);
}

/// A client that closes its writing side after the line, as `nc` does.
#[test]
fn a_guest_may_half_close_after_its_line_but_not_before() {
    let mut guest = Guest::new();
    let host = (2, 9001);
    guest.exchange(header(Operation::Request, 1000, host), &[]);
    guest.send(header(Operation::ReadWrite, 1000, host), b"failed out of memory\n");
    guest.send(shutdown(1000, host, SHUTDOWN_SEND), &[]);
    guest.run();
    assert_eq!(guest.receive()[0].payload, b"ok\n");
    let end = ApplicationEnd::Failed("out of memory".into());
    assert_eq!(guest.reports(), [GuestReport::ApplicationEnded(end)]);

    guest.exchange(header(Operation::Request, 1001, host), &[]);
    guest.exchange(header(Operation::ReadWrite, 1001, host), b"exited 0");
    let answer = guest.ask(shutdown(1001, host, SHUTDOWN_SEND), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
}

#[test]
fn a_flood_instead_of_a_line_is_reset() {
    let mut guest = Guest::new();
    let host = (2, 9001);
    guest.exchange(header(Operation::Request, 1000, host), &[]);
    let answer = guest.ask(header(Operation::ReadWrite, 1000, host), &vec![b'x'; 64 * 1024]);
    assert_eq!(answer.operation(), Operation::Reset);
    guest.exchange(header(Operation::Request, 1000, host), &[]);
    let answer = guest.ask(header(Operation::ReadWrite, 1000, host), b"exited 0\nexited 1\n");
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!(guest.reports(), []);
}
