//! How connections begin.

use std::time::Duration;

use super::*;
use crate::host::{ConnectRequest, HostEvent};
use crate::testing::CID;
use crate::{Limits, NewDeviceError, VsockDevice};

#[test]
fn the_guest_learns_its_cid_and_what_the_device_is() {
    let guest = Guest::new();
    let mut cid = [0; 8];
    guest.driver.transport.read(0x100, &mut cid);
    assert_eq!(u64::from_le_bytes(cid), 16);
    assert_eq!(guest.driver.read(0x008), 19);
    assert_eq!(guest.driver.read(0x104), 0);
    assert_eq!(guest.driver.read(0x108), 0);
}

#[test]
fn cids_that_are_taken_are_refused() {
    use crate::testing::TestHost;
    for cid in [0, 1, 2, 3, u32::MAX] {
        let made = VsockDevice::new(cid, TestHost::new().0, Box::new(|_| ()));
        assert!(matches!(made, Err(NewDeviceError::Cid(refused)) if refused == cid));
    }
    for cid in [4, u32::MAX - 1] {
        VsockDevice::new(cid, TestHost::new().0, Box::new(|_| ())).unwrap();
    }
}

#[test]
fn the_guest_is_answered_from_the_cid_it_used() {
    let mut guest = Guest::new();
    guest.programs.listen(80);
    for cid in [2, 3] {
        let answer = guest.ask(header(Operation::Request, 1000, (cid, 80)), &[]);
        assert_eq!(
            answer.header,
            Header {
                src_cid: cid,
                dst_cid: u64::from(CID),
                src_port: 80,
                dst_port: 1000,
                length: 0,
                kind: 1,
                operation: 2,
                flags: 0,
                buf_alloc: 256 * 1024,
                fwd_cnt: 0,
            }
        );
    }
    assert_eq!(guest.connections(), 2, "the same ports on both CIDs are two connections");
}

#[test]
fn bytes_go_both_ways() {
    let mut guest = Guest::new();
    let mut program = connect(&mut guest, 1000, (3, 80));
    assert_eq!(guest.exchange(header(Operation::ReadWrite, 1000, (3, 80)), b"question"), []);
    assert_eq!(read_available(&mut program), b"question");
    program.write_all(b"answer").unwrap();
    let packet = guest.wait().remove(0);
    assert_eq!(packet.payload, b"answer");
    assert_eq!((packet.header.src_cid, packet.header.src_port, packet.header.dst_port), (3, 80, 1000));
    assert_eq!(packet.header.fwd_cnt, 8);
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let mut guest = Guest::new();
    let answer = guest.ask(header(Operation::Request, 1000, (2, 81)), &[]);
    assert_eq!(answer.operation(), Operation::Reset);
    assert_eq!((answer.header.src_cid, answer.header.src_port, answer.header.dst_port), (2, 81, 1000));
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_host_that_does_not_answer_is_not_waited_for_forever() {
    let limits = Limits { connect: Duration::from_millis(5), ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    guest.programs.be_silent(80);
    guest.send(header(Operation::Request, 1000, (2, 80)), &[]);
    let packets = guest.wait();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].operation(), Operation::Reset);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn late_wrong_and_repeated_answers_are_dropped() {
    let mut guest = Guest::new();
    guest.programs.be_silent(80);
    assert_eq!(guest.exchange(header(Operation::Request, 1000, (2, 80)), &[]), []);
    let (request, port) = guest.programs.asked()[0];
    assert_eq!(port, 80);
    // The guest has lost patience, and its port is in use again.
    assert_eq!(guest.exchange(header(Operation::Reset, 1000, (2, 80)), &[]), []);
    assert_eq!(guest.exchange(header(Operation::Request, 1000, (2, 80)), &[]), []);
    let mut lost = Vec::new();
    for request in [request, ConnectRequest(0), ConnectRequest(u64::MAX), ConnectRequest(request.0 ^ 1)] {
        let (program, stream) = UnixStream::pair().unwrap();
        guest.programs.tell(HostEvent::Connected { request, stream: stream.into() });
        guest.programs.tell(HostEvent::Refused { request });
        lost.push(program);
    }
    guest.run();
    assert_eq!(guest.receive(), []);
    assert!(lost.iter_mut().all(at_end));

    let (request, _) = guest.programs.asked()[1];
    let (_program, stream) = UnixStream::pair().unwrap();
    guest.programs.tell(HostEvent::Connected { request, stream: stream.into() });
    guest.programs.tell(HostEvent::Refused { request });
    guest.run();
    let packets = guest.receive();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].operation(), Operation::Response);
}

#[test]
fn a_host_program_reaches_a_port_of_the_guest() {
    let mut guest = Guest::new();
    let mut program = guest.programs.connect(b"CONNECT 5005\nearly");
    guest.run();
    let request = guest.receive().remove(0);
    assert_eq!(request.operation(), Operation::Request);
    assert_eq!((request.header.src_cid, request.header.dst_port), (3, 5005));
    assert_eq!(request.header.buf_alloc, 256 * 1024);
    let host = (3, request.header.src_port);
    assert_eq!(read_available(&mut program), b"");

    let early = guest.ask(header(Operation::Response, 5005, host), &[]);
    assert_eq!(early.payload, b"early");
    assert_eq!(read_available(&mut program), b"OK 5005\n");
    guest.exchange(header(Operation::ReadWrite, 5005, host), b"hello");
    assert_eq!(read_available(&mut program), b"hello");
}

#[test]
fn each_connection_of_the_host_has_a_port_of_its_own() {
    let mut guest = Guest::new();
    let programs: Vec<_> = (0..3).map(|_| guest.programs.connect(b"CONNECT 7\n")).collect();
    guest.run();
    let mut ports: Vec<_> = guest.receive().iter().map(|packet| packet.header.src_port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), programs.len());
    assert!(ports.iter().all(|port| *port >= 1 << 30));
}

#[test]
fn a_port_of_the_guest_where_nobody_listens_closes_the_program() {
    let mut guest = Guest::new();
    let mut program = guest.programs.connect(b"CONNECT 5005\n");
    guest.run();
    let request = guest.receive().remove(0);
    assert_eq!(guest.exchange(header(Operation::Reset, 5005, (3, request.header.src_port)), &[]), []);
    assert!(at_end(&mut program));
    assert_eq!(guest.connections(), 0);
}

#[test]
fn a_guest_that_does_not_answer_is_not_waited_for_forever() {
    let limits = Limits { connect: Duration::from_millis(5), ..Limits::default() };
    let mut guest = Guest::with_limits(limits.clone());
    let mut program = guest.programs.connect(b"CONNECT 5005\n");
    let mut operations = Vec::new();
    guest.run_until(|guest| {
        operations.extend(guest.receive().iter().map(crate::testing::Packet::operation));
        guest.connections() == 0
    });
    assert_eq!(operations, [Operation::Request, Operation::Reset]);
    assert!(at_end(&mut program));

    // Nor is one that has no buffer for the question, and it is not bothered with the end of it.
    let mut guest = Guest::without_buffers(limits);
    let mut program = guest.programs.connect(b"CONNECT 5005\n");
    let mut offered = false;
    guest.run_until(|guest| std::mem::replace(&mut offered, true) && guest.connections() == 0);
    assert!(at_end(&mut program));
    guest.offer(8);
    guest.run();
    assert_eq!(guest.receive(), []);
}

#[test]
fn nonsense_instead_of_a_port_closes_the_program() {
    let mut guest = Guest::new();
    for line in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"CONNECT 4294967295\n", b"CONNECT x\n", &[b'C'; 40]] {
        let mut program = guest.programs.connect(line);
        guest.run();
        assert!(closed(&mut program), "{}", line.escape_ascii());
    }
    assert_eq!(guest.receive(), []);
}

#[test]
fn a_line_may_come_in_pieces() {
    let mut guest = Guest::new();
    let mut program = guest.programs.connect(b"");
    for byte in b"CONNECT 0\n" {
        guest.run();
        assert_eq!(guest.receive(), []);
        program.write_all(&[*byte]).unwrap();
    }
    guest.run();
    assert_eq!(guest.receive()[0].header.dst_port, 0);
}

#[test]
fn programs_that_say_nothing_are_few_and_not_for_long() {
    let limits = Limits { handshakes: 2, handshake: Duration::from_millis(5), ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    let mut first = guest.programs.connect(b"CONN");
    let mut second = guest.programs.connect(b"");
    let mut third = guest.programs.connect(b"CONNECT 7\n");
    guest.run();
    assert!(closed(&mut third), "one more than the limit");
    guest.run_until(|_| closed(&mut second));
    guest.run_until(|_| closed(&mut first));
    let _fourth = guest.programs.connect(b"CONNECT 7\n");
    guest.run();
    assert_eq!(guest.receive().len(), 1);
}

#[test]
fn without_a_driver_programs_are_closed() {
    let mut guest = Guest::new();
    guest.driver.write(0x070, 0);
    let mut program = guest.programs.connect(b"");
    guest.run();
    assert!(at_end(&mut program));
}

#[test]
fn a_reset_of_the_device_drops_everything_and_it_works_again() {
    let mut guest = Guest::new();
    let mut established = connect(&mut guest, 1000, (3, 80));
    let mut offered = guest.programs.connect(b"CONNECT 5005\n");
    let mut silent = guest.programs.connect(b"");
    guest.programs.be_silent(82);
    guest.exchange(header(Operation::Request, 1001, (3, 82)), &[]);
    assert_eq!(guest.connections(), 3);
    for _ in 0..2 {
        guest.start();
        assert_eq!(guest.connections(), 0);
    }
    for program in [&mut established, &mut offered, &mut silent] {
        assert!(at_end(program));
    }
    guest.offer(16);
    guest.run();
    assert_eq!(guest.receive(), []);
    let mut program = connect(&mut guest, 1000, (3, 80));
    guest.exchange(header(Operation::ReadWrite, 1000, (3, 80)), b"again");
    assert_eq!(read_available(&mut program), b"again");
}
