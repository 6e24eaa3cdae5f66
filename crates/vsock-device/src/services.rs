//! The two services that the device answers itself, with no socket in the host.
//!
//! - Heartbeat, (CID 3, port 9000): the first process in the guest connects, sends one byte 0xB7 and waits for the
//!   same byte. That is AWS's sign that an enclave has booted.
//! - Application end, (CID 2, port 9001): our own. The guest says in one ASCII line how its application ended
//!   (`exited 0`, `signalled 9`, `failed no such file`) and is answered `ok`. A claim by the guest, nothing more.
//!
//! Each is reported once in the device's life, so that a guest cannot flood whoever listens.

use std::fmt;

/// Port of the heartbeat service, on CID 3 (nitro-cli's `ENCLAVE_READY_VSOCK_PORT`).
pub const HEARTBEAT_PORT: u32 = 9000;
/// The byte that is sent and echoed (`HEART_BEAT`).
pub const HEARTBEAT: u8 = 0xb7;
/// Port of the application end service, on CID 2.
pub const APPLICATION_END_PORT: u32 = 9001;
/// The longest line it takes, newline included.
pub const APPLICATION_END_LINE: usize = 512;
/// The longest failure text that is passed on, in characters. Longer ones are cut.
pub const FAILURE_TEXT: usize = 256;

/// The host as the parent instance of AWS's enclaves (`VMADDR_CID_PARENT`).
pub const CID_PARENT: u64 = 3;
/// The host as the virtio specification has it (`VMADDR_CID_HOST`).
pub const CID_HOST: u64 = 2;

/// What the guest has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestReport {
    /// The first process runs and waits for the answer, which is on its way.
    Heartbeat,
    /// The guest says how its application ended.
    ApplicationEnded(ApplicationEnd),
}

/// How the application ended, as the guest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplicationEnd {
    /// With this status.
    Exited(u8),
    /// By this signal, 1 to 64.
    Signalled(u8),
    /// It could not be started or watched: printable ASCII, at most [`FAILURE_TEXT`] characters.
    Failed(String),
}

impl fmt::Display for ApplicationEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signalled(signal) => write!(f, "ended by signal {signal}"),
            Self::Failed(text) => write!(f, "failed: {text}"),
        }
    }
}

/// The guest broke the service's protocol: the connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// One connection to a service.
#[derive(Debug)]
pub(crate) struct Service {
    kind: Kind,
    /// What has not been sent to the guest yet.
    reply: &'static [u8],
    finished: bool,
}

#[derive(Debug)]
enum Kind {
    Heartbeat,
    ApplicationEnd(Vec<u8>),
}

impl Service {
    /// The service at this address, if there is one.
    pub(crate) fn at(cid: u64, port: u32) -> Option<Self> {
        let kind = match (cid, port) {
            (CID_PARENT, HEARTBEAT_PORT) => Kind::Heartbeat,
            (CID_HOST, APPLICATION_END_PORT) => Kind::ApplicationEnd(Vec::new()),
            _ => return None,
        };
        Some(Self { kind, reply: &[], finished: false })
    }

    /// Takes bytes from the guest.
    ///
    /// # Errors
    /// They are not what the service expects.
    pub(crate) fn consume(&mut self, bytes: &[u8]) -> Result<Option<GuestReport>, Refused> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.finished {
            return Err(Refused);
        }
        let (report, reply): (_, &'static [u8]) = match &mut self.kind {
            Kind::Heartbeat if bytes == [HEARTBEAT] => (GuestReport::Heartbeat, &[HEARTBEAT]),
            Kind::Heartbeat => return Err(Refused),
            Kind::ApplicationEnd(line) => match complete_line(line, bytes)? {
                Some(end) => (GuestReport::ApplicationEnded(end), b"ok\n"),
                None => return Ok(None),
            },
        };
        self.reply = reply;
        self.finished = true;
        Ok(Some(report))
    }

    /// What is still to be sent to the guest.
    pub(crate) fn reply(&self) -> &'static [u8] {
        self.reply
    }

    /// `count` bytes of the reply have been sent.
    pub(crate) fn replied(&mut self, count: usize) {
        self.reply = self.reply.get(count..).unwrap_or_default();
    }

    /// Whether the service closes the connection now. The heartbeat's is left to the guest, as AWS's init expects.
    pub(crate) fn closes(&self) -> bool {
        self.finished && self.reply.is_empty() && matches!(self.kind, Kind::ApplicationEnd(_))
    }

    /// Whether the guest may stop sending: it has said everything.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }
}

/// Adds bytes to a line. The line must end with the last of them, or not yet.
fn complete_line(line: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<ApplicationEnd>, Refused> {
    if line.len() + bytes.len() > APPLICATION_END_LINE {
        return Err(Refused);
    }
    line.extend_from_slice(bytes);
    match line.iter().position(|byte| *byte == b'\n') {
        None if line.len() == APPLICATION_END_LINE => Err(Refused),
        None => Ok(None),
        Some(end) if end + 1 < line.len() => Err(Refused),
        Some(end) => parse(line.get(..end).ok_or(Refused)?).map(Some),
    }
}

fn parse(line: &[u8]) -> Result<ApplicationEnd, Refused> {
    if let Some(status) = line.strip_prefix(b"exited ") {
        return Ok(ApplicationEnd::Exited(decimal(status)?));
    }
    if let Some(signal) = line.strip_prefix(b"signalled ") {
        let signal = decimal(signal)?;
        return if (1..=64).contains(&signal) { Ok(ApplicationEnd::Signalled(signal)) } else { Err(Refused) };
    }
    let text = line.strip_prefix(b"failed ").ok_or(Refused)?;
    Ok(ApplicationEnd::Failed(printable(text)))
}

/// A number without sign or leading zeros.
fn decimal(digits: &[u8]) -> Result<u8, Refused> {
    let canonical = digits == b"0" || digits.first().is_some_and(|first| (b'1'..=b'9').contains(first));
    let text = std::str::from_utf8(digits).map_err(|_| Refused)?;
    if canonical { text.parse().map_err(|_| Refused) } else { Err(Refused) }
}

/// What may be shown on a terminal or written to a log: anything but printable ASCII becomes a question mark.
fn printable(text: &[u8]) -> String {
    let shown = text.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' });
    shown.take(FAILURE_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Service {
        Service::at(3, 9000).unwrap()
    }

    fn end(bytes: &[u8]) -> Result<Option<GuestReport>, Refused> {
        Service::at(2, 9001).unwrap().consume(bytes)
    }

    fn ended(end: ApplicationEnd) -> Result<Option<GuestReport>, Refused> {
        Ok(Some(GuestReport::ApplicationEnded(end)))
    }

    #[test]
    fn each_service_is_at_one_address_only() {
        assert!(Service::at(3, 9000).is_some());
        assert!(Service::at(2, 9000).is_none());
        assert!(Service::at(2, 9001).is_some());
        assert!(Service::at(3, 9001).is_none());
    }

    #[test]
    fn the_heartbeat_is_one_byte_and_echoed() {
        let mut service = heartbeat();
        assert_eq!(service.consume(&[0xb7]), Ok(Some(GuestReport::Heartbeat)));
        assert_eq!(service.reply(), [0xb7]);
        service.replied(1);
        assert_eq!(service.reply(), []);
        assert!(!service.closes());
        assert_eq!(service.consume(&[0xb7]), Err(Refused));
        assert_eq!(heartbeat().consume(&[0xb6]), Err(Refused));
        assert_eq!(heartbeat().consume(&[0xb7, 0xb7]), Err(Refused));
    }

    #[test]
    fn ends_are_told_in_one_line() {
        assert_eq!(end(b"exited 0\n"), ended(ApplicationEnd::Exited(0)));
        assert_eq!(end(b"exited 255\n"), ended(ApplicationEnd::Exited(255)));
        assert_eq!(end(b"signalled 1\n"), ended(ApplicationEnd::Signalled(1)));
        assert_eq!(end(b"signalled 64\n"), ended(ApplicationEnd::Signalled(64)));
        assert_eq!(end(b"failed no such file\n"), ended(ApplicationEnd::Failed("no such file".into())));
        assert_eq!(end(b"failed \n"), ended(ApplicationEnd::Failed(String::new())));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            &b"exited 256\n"[..],
            b"exited +1\n",
            b"exited 01\n",
            b"exited  1\n",
            b"exited \n",
            b"exited 1 \n",
            b"signalled 0\n",
            b"signalled 65\n",
            b"\n",
            b"failed\n",
            b"EXITED 1\n",
            b"exited 1\nexited 1\n",
            b"exited 1\r\n",
        ] {
            assert_eq!(end(line), Err(Refused), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_and_closes_after_the_answer() {
        let mut service = Service::at(2, 9001).unwrap();
        for byte in b"exited 7" {
            assert_eq!(service.consume(&[*byte]), Ok(None));
        }
        assert_eq!(service.consume(b"\n"), ended(ApplicationEnd::Exited(7)));
        assert!(!service.closes());
        service.replied(2);
        assert_eq!(service.reply(), b"\n");
        service.replied(1);
        assert!(service.closes());
    }

    #[test]
    fn a_line_of_512_bytes_is_taken_and_one_of_513_is_not() {
        let mut line = b"failed ".to_vec();
        line.resize(511, b'x');
        line.push(b'\n');
        assert_eq!(end(&line), ended(ApplicationEnd::Failed("x".repeat(256))));
        line.insert(7, b'x');
        assert_eq!(end(&line), Err(Refused));
        assert_eq!(end(&[b'x'; 512]), Err(Refused));
        assert_eq!(end(&[b'x'; 511]), Ok(None));
    }

    #[test]
    fn failure_texts_cannot_carry_control_characters() {
        assert_eq!(end(b"failed \x1b[2J\xff\tx\n"), ended(ApplicationEnd::Failed("?[2J??x".into())));
    }
}
