//! How a host program says which port of the guest it wants: `CONNECT <port>\n`, answered later with `OK <port>\n`.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// No valid line is longer: `CONNECT 4294967294\n` is 19 bytes.
const LINE_BYTES: usize = 32;

/// `VMADDR_PORT_ANY`: means any port when binding, so nobody can listen there.
const PORT_ANY: u32 = u32::MAX;

/// A host program that has not said yet which port it wants.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) stream: OwnedFd,
    pub(crate) deadline: Instant,
}

/// What the program has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not the whole line yet.
    Incomplete,
    /// It wants this port. Only the line has been read: what follows it is for the guest.
    Port(u32),
    /// Something else, or nothing and it is gone.
    Nonsense,
}

impl Handshake {
    /// Looks at what has come.
    pub(crate) fn read(&self) -> Said {
        let mut bytes = [0; LINE_BYTES];
        // Looks first: what comes after the line must stay in the socket.
        let peeked = match receive(&self.stream, &mut bytes, RecvFlags::PEEK) {
            Ok(0) => return Said::Nonsense,
            Ok(count) => bytes.get(..count).unwrap_or_default(),
            Err(Errno::AGAIN) => return Said::Incomplete,
            Err(_) => return Said::Nonsense,
        };
        let Some(end) = peeked.iter().position(|byte| *byte == b'\n') else {
            return if peeked.len() < LINE_BYTES { Said::Incomplete } else { Said::Nonsense };
        };
        let Some(port) = peeked.get(..end).and_then(parse) else { return Said::Nonsense };
        let mut line = [0; LINE_BYTES];
        let wanted = line.get_mut(..=end).unwrap_or_default();
        match receive(&self.stream, wanted, RecvFlags::empty()) {
            Ok(count) if count == end + 1 => Said::Port(port),
            _ => Said::Nonsense,
        }
    }
}

fn receive(stream: &OwnedFd, bytes: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| {
        recv(stream.as_fd(), &mut *bytes, flags | RecvFlags::DONTWAIT).map(|(count, _)| count)
    })
}

fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (port != PORT_ANY).then_some(port)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, Handshake) {
        let (program, device) = UnixStream::pair().unwrap();
        (program, Handshake { stream: device.into(), deadline: Instant::now() })
    }

    fn said(bytes: &[u8]) -> Said {
        let (mut program, handshake) = pair();
        program.write_all(bytes).unwrap();
        handshake.read()
    }

    #[test]
    fn ports_are_decimal_numbers_that_somebody_can_listen_on() {
        assert_eq!(said(b"CONNECT 5005\n"), Said::Port(5005));
        assert_eq!(said(b"CONNECT 0\n"), Said::Port(0));
        assert_eq!(said(b"CONNECT 4294967294\n"), Said::Port(u32::MAX - 1));
        assert_eq!(said(b"CONNECT 4294967295\n"), Said::Nonsense);
        assert_eq!(said(b"CONNECT 4294967296\n"), Said::Nonsense);
        for line in [
            &b"CONNECT \n"[..],
            b"CONNECT +5\n",
            b"CONNECT -5\n",
            b"CONNECT 5 \n",
            b"CONNECT 5\r\n",
            b"CONNECT  5\n",
            b"connect 5\n",
            b"CONNECT 0x5\n",
            b"\n",
            b"GET / HTTP/1.1\n",
        ] {
            assert_eq!(said(line), Said::Nonsense, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_without_end_is_refused_at_32_bytes() {
        assert_eq!(said(&[b'C'; 31]), Said::Incomplete);
        assert_eq!(said(&[b'C'; 32]), Said::Nonsense);
        assert_eq!(said(&[b'C'; 5000]), Said::Nonsense);
    }

    #[test]
    fn a_line_may_come_byte_by_byte_and_nothing_after_it_is_taken() {
        let (mut program, handshake) = pair();
        assert_eq!(handshake.read(), Said::Incomplete);
        for byte in b"CONNECT 7" {
            program.write_all(&[*byte]).unwrap();
            assert_eq!(handshake.read(), Said::Incomplete);
        }
        program.write_all(b"\nhello").unwrap();
        assert_eq!(handshake.read(), Said::Port(7));
        let mut rest = [0; 5];
        UnixStream::from(handshake.stream).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"hello");
    }

    #[test]
    fn a_program_that_has_gone_says_nothing() {
        let (program, handshake) = pair();
        drop(program);
        assert_eq!(handshake.read(), Said::Nonsense);
    }
}
