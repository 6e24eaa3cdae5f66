//! The device against any packets, in any order, with host programs that do anything. Driven by bytes, so that a
//! fuzzer, a property test and a corpus use the same body.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::Guest;
use crate::Limits;
use crate::limits::CREDIT_BYTES;
use crate::packet::Header;
use crate::services::{ApplicationEnd, FAILURE_TEXT, GuestReport, HEARTBEAT};

/// Few enough that the limit is reached.
const CONNECTIONS: usize = 6;

/// Does to a device what `data` says. What holds after each step: the device does not panic, comes to rest, keeps to
/// its limits, sends nothing but well-formed packets for the guest, and reports each service once. Returns the number of
/// reports.
///
/// # Panics
/// It does not hold.
pub fn vsock(data: &[u8]) -> usize {
    let limits = Limits { connections: CONNECTIONS, handshakes: 3, resets: 4, ..Limits::default() };
    let mut guest = Guest::with_limits(limits);
    guest.programs.listen(1);
    guest.programs.listen(2);
    guest.programs.be_silent(3);
    let mut programs = Vec::new();
    let mut rest = data;
    while let Some((step, tail)) = rest.split_first() {
        rest = tail;
        let argument = rest.first().copied().unwrap_or(0);
        match step % 8 {
            0..=3 => packet(&mut guest, &mut rest),
            4 => {
                let line: &[u8] =
                    if argument % 4 == 0 { rest.get(..20).unwrap_or(rest) } else { b"CONNECT 5\n" };
                programs.push(guest.programs.connect(line));
            }
            5 => program(&mut programs, argument),
            6 => guest.offer(usize::from(argument % 4)),
            _ if argument == 0 => guest.start(),
            _ => drop(programs.pop()),
        }
        guest.run();
        guest.take();
        assert!(guest.connections() <= CONNECTIONS);
        let credit = usize::try_from(CREDIT_BYTES).expect("a length");
        assert!(guest.backlog_bytes() <= CONNECTIONS * credit);
        assert_eq!(guest.driver.read(0x070) & 64, 0, "no packet may stop the device");
        while let Some(program) = guest.programs.try_accept() {
            programs.push(program);
        }
        check_reports(&guest.reports());
        programs.truncate(32);
    }
    guest.reports().len()
}

/// Each service reports once, whatever the guest says, and what it says can be shown.
fn check_reports(reports: &[GuestReport]) {
    let heartbeats = reports.iter().filter(|report| **report == GuestReport::Heartbeat).count();
    assert!(heartbeats <= 1 && reports.len() <= heartbeats + 1, "{reports:?}");
    for report in reports {
        match report {
            GuestReport::ApplicationEnded(ApplicationEnd::Signalled(signal)) => {
                assert!((1..=64).contains(signal));
            }
            GuestReport::ApplicationEnded(ApplicationEnd::Failed(text)) => {
                assert!(text.len() <= FAILURE_TEXT && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
            _ => {}
        }
    }
}

/// A packet whose fields are mostly plausible.
fn packet(guest: &mut Guest, rest: &mut &[u8]) {
    let Some((choice, tail)) = rest.split_first_chunk::<8>() else {
        let bytes = std::mem::take(rest);
        if !bytes.is_empty() {
            guest.send_raw(bytes, &[]);
        }
        return;
    };
    *rest = tail;
    let [operation, port, cid, length, lie, flags, kind, credit] = *choice;
    // What the service of application ends gets is text, so it comes from the input.
    let payload = if port % 6 == 5 {
        let (text, tail) = rest.split_at(usize::from(length).min(rest.len()));
        *rest = tail;
        text.to_vec()
    } else {
        vec![HEARTBEAT; usize::from(length) * usize::from(length) % 70_000]
    };
    let said = u32::try_from(payload.len()).expect("a length");
    let header = Header {
        src_cid: if cid & 0x40 == 0 { 16 } else { u64::from(cid) },
        dst_cid: if cid & 0x80 == 0 { 2 + u64::from(cid % 2) } else { u64::from(cid) << 30 },
        src_port: u32::from(port >> 5),
        dst_port: match port % 6 {
            4 => 9000,
            5 => 9001,
            other => u32::from(other),
        },
        length: if lie % 8 == 0 { u32::from(lie) << 24 | said } else { said },
        kind: if kind % 16 == 0 { u16::from(kind >> 4) } else { 1 },
        operation: u16::from(operation % 9),
        flags: u32::from(flags % 4) | u32::from(flags & 0x80) << 24,
        buf_alloc: u32::from(credit & 0x0f) << 14,
        fwd_cnt: if credit & 0xf0 == 0xf0 { u32::MAX } else { 0 },
    };
    guest.send_raw(&header.to_bytes(), &payload);
}

/// A host program reads, writes or half-closes.
fn program(programs: &mut [UnixStream], argument: u8) {
    let Some(program) = programs.last_mut() else { return };
    let mut bytes = vec![0; 1 << (argument & 15)];
    // It does not matter how far it gets: sockets that are full, empty or closed are part of the game.
    let _result = match argument >> 6 {
        0 => program.write(&bytes).err(),
        1 => program.read(&mut bytes).err(),
        2 => program.shutdown(std::net::Shutdown::Write).err(),
        _ => program.shutdown(std::net::Shutdown::Read).err(),
    };
}
