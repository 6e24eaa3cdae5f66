//! The device as a whole, between a guest that speaks through queues and host programs that hold real sockets.

mod closing;
mod corpus;
mod crowds;
mod flow;
mod hostile;
mod opening;
mod services;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::packet::{Header, Operation};
use crate::testing::{Guest, header};

/// Opens a connection from `guest_port` to a program that listens on `host`.
fn connect(guest: &mut Guest, guest_port: u32, host: (u64, u32)) -> UnixStream {
    guest.programs.listen(host.1);
    let answer = guest.ask(header(Operation::Request, guest_port, host), &[]);
    assert_eq!(answer.operation(), Operation::Response);
    guest.programs.accept()
}

/// A header with flags.
fn shutdown(guest_port: u32, host: (u64, u32), flags: u32) -> Header {
    Header { flags, ..header(Operation::Shutdown, guest_port, host) }
}

/// Reads what there is.
fn read_available(program: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match program.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether the program sees the end of the stream.
fn at_end(program: &mut UnixStream) -> bool {
    matches!(program.read(&mut [0]), Ok(0))
}

/// Whether the connection is closed: at its end, or broken because the device closed it with bytes unread.
fn closed(program: &mut UnixStream) -> bool {
    match program.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Writes as much as the socket takes, up to `bytes`.
fn write_some(program: &mut UnixStream, bytes: &[u8]) -> usize {
    match program.write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}
