//! Reaching a vsock port of the guest from the host.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SocketFlags, SocketType};

use crate::client::conversation::living_folder;
use crate::client::error::ClientError;
use crate::description::Description;
use crate::run_dir::{RunRoot, VSOCK_SOCKET};
use crate::unix_socket;

/// Bytes in the longest answer, `OK 4294967295\n`.
const MAX_ANSWER: usize = 14;

/// A stream to `port` of the guest: `CONNECT <port>` was answered by `OK <port>`.
///
/// # Errors
/// [`ClientError::PortRefused`] if nothing in the guest listens there, [`ClientError::Ended`] after its end.
pub fn connect(root: &RunRoot, enclave: &Description, port: u32) -> Result<UnixStream, ClientError> {
    let folder = living_folder(root, enclave)?;
    let failed = |error| ClientError::Connect { port, error };
    let socket = unix_socket::connect(folder.as_fd(), VSOCK_SOCKET, SocketType::STREAM, SocketFlags::empty())
        .map_err(failed)?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).map_err(failed)?;
    let answer = read_line(&mut stream).map_err(failed)?;
    match answer.strip_prefix("OK ").map(str::parse::<u32>) {
        Some(Ok(_)) => Ok(stream),
        _ if answer.is_empty() => Err(ClientError::PortRefused { name: enclave.name.clone(), port }),
        _ => Err(failed(io::Error::other(format!("the answer was {answer:?}")))),
    }
}

/// The first line, without its end; empty if the peer closed before one was complete. Nothing past it is read.
fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_ANSWER {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(String::new()),
            // A guest's reset shows as this.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(String::new()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend_from_slice(&byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
