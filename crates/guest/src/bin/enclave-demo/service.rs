//! One connection: a request line in, an answer out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;

use guest::vsock::Stream;

use crate::error::DemoError;
use crate::request::Request;
use crate::{attestation, facts, machine, network, physical, transfer};

/// Longest request line: an NSM request of 4096 bytes three times over, in hexadecimal.
pub(crate) const MAX_LINE: usize = 32 * 1024;

/// What is left to say when a request is done.
#[derive(Debug)]
pub(crate) enum Answer {
    /// `ok` with this text.
    Text(String),
    /// Nothing: the request's own bytes were the answer.
    Sent,
}

impl Answer {
    /// `ok` without a text.
    pub(crate) fn ok() -> Self {
        Self::Text(String::new())
    }
}

/// Reads a request, does it and answers. A peer that has gone away is nothing to complain about.
pub(crate) fn handle(stream: &Stream) {
    let mut reader = BufReader::new(stream);
    let answer = read_line(&mut reader)
        .and_then(|line| Request::parse(&line))
        .and_then(|request| perform(request, stream, &mut reader));
    let line = match answer {
        Ok(Answer::Sent) => return,
        Ok(Answer::Text(text)) if text.is_empty() => "ok\n".to_owned(),
        Ok(Answer::Text(text)) => format!("ok {text}\n"),
        Err(error) => format!("error {}\n", error.to_string().replace('\n', " ")),
    };
    let mut writer = stream;
    if writer.write_all(line.as_bytes()).is_ok() {
        // Closing with unread bytes resets the connection and may take the answer along: say that it is the end, and
        // read what the peer is still sending.
        let _ = stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut reader.take(DRAIN_LIMIT), &mut io::sink());
    }
}

/// Most bytes that are read and dropped after an answer.
const DRAIN_LIMIT: u64 = 1 << 20;

fn perform(request: Request, stream: &Stream, reader: &mut BufReader<&Stream>) -> Result<Answer, DemoError> {
    match request {
        Request::Attest { nonce, user_data, public_key } => attestation::attest(nonce, user_data, public_key),
        Request::AttestMany(count) => attestation::attest_many(count),
        Request::Describe => attestation::describe(),
        Request::Nsm(bytes) => attestation::raw(&bytes),
        Request::Echo => transfer::echo(stream, reader),
        Request::Sink(count) => transfer::sink(reader, count),
        Request::Source(count) => transfer::source(stream, count),
        Request::Connect { cid, port } => transfer::relay(stream, reader, cid, port),
        Request::Flood { port, count, cid } => Ok(transfer::flood(port, count, cid)),
        Request::Console(count) => transfer::console(count),
        Request::Exit(_) | Request::Abort | Request::Segfault => {
            Ok(machine::end_application(stream, &request))
        }
        Request::Panic => machine::panic(),
        Request::PowerOff => machine::power_off(),
        Request::Reboot(way) => machine::reboot(way.as_deref()),
        Request::Hang => machine::hang(),
        Request::Cpus => facts::cpus(),
        Request::Cpuid(cpu) => facts::cpuid(cpu),
        Request::Clock => facts::clock(),
        Request::Environment => facts::environment(),
        Request::Network => Ok(network::facts()),
        Request::CommandLine => facts::command_line(),
        Request::WriteFile { path, content } => machine::write_file(&path, &content),
        Request::ReadFile(path) => machine::read_file(&path),
        Request::KernelLog => machine::kernel_log(),
        Request::ForkOrphans(count) => machine::fork_orphans(count),
        Request::Alloc(mebibytes) => machine::allocate(mebibytes),
        Request::Physical { address, count, seed } => physical::write_randomly(address, count, seed),
        Request::Rebind(driver) => machine::rebind(&driver),
    }
}

/// Reads up to the first line feed; what follows stays in the reader.
fn read_line(reader: &mut BufReader<&Stream>) -> Result<String, DemoError> {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    reader.take(limit).read_until(b'\n', &mut line).map_err(DemoError::system("cannot read the request"))?;
    match line.strip_suffix(b"\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.len() >= MAX_LINE => Err(DemoError::TooLong(MAX_LINE)),
        None => Err(DemoError::Ended(u64::try_from(line.len()).unwrap_or(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};

    use super::*;

    fn connect() -> (UnixStream, JoinHandle<()>) {
        let (near, far) = UnixStream::pair().unwrap();
        let far = Stream::from(OwnedFd::from(far));
        (near, thread::spawn(move || handle(&far)))
    }

    /// The whole answer to these bytes, ended by a half close.
    fn talk(sent: &[u8]) -> Vec<u8> {
        let (mut near, service) = connect();
        let mut writer = near.try_clone().unwrap();
        let sent = sent.to_vec();
        let writing = thread::spawn(move || {
            // A service that has answered need not read the rest.
            let _ = writer.write_all(&sent);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).unwrap();
        writing.join().unwrap();
        drop(near);
        service.join().unwrap();
        answer
    }

    fn answer(sent: &[u8]) -> String {
        String::from_utf8(talk(sent)).unwrap()
    }

    #[test]
    fn echo_sends_back_every_byte_until_the_half_close() {
        let payload: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        assert_eq!(talk(&[b"echo\n", &payload[..]].concat()), payload);
        assert_eq!(talk(b"echo\n"), b"");
    }

    #[test]
    fn sink_counts_what_it_reads_and_says_what_is_missing() {
        assert_eq!(answer(&[b"sink 300000\n", &[7_u8; 300_000][..]].concat()), "ok 300000\n");
        assert_eq!(answer(b"sink 5\n1234"), "error the connection ended after 4 bytes\n");
        assert_eq!(answer(b"sink 0\n"), "ok 0\n");
    }

    #[test]
    fn source_sends_that_many_zeros() {
        assert_eq!(talk(b"source 200001\n"), vec![0; 200_001]);
    }

    #[test]
    fn the_longest_line_is_read_and_a_longer_one_refused() {
        let line = |length: usize| [b"nsm ", "0".repeat(length - 5).as_bytes(), b"\n"].concat();
        assert_eq!(line(MAX_LINE).len(), MAX_LINE);
        assert_ne!(answer(&line(MAX_LINE)), format!("error the request is longer than {MAX_LINE} bytes\n"));
        assert_eq!(
            answer(&line(MAX_LINE + 1)),
            format!("error the request is longer than {MAX_LINE} bytes\n")
        );
        assert_eq!(
            answer(&vec![b'x'; 3 * MAX_LINE]),
            format!("error the request is longer than {MAX_LINE} bytes\n")
        );
    }

    #[test]
    fn a_line_without_an_end_is_an_error() {
        assert_eq!(answer(b"clock"), "error the connection ended after 5 bytes\n");
        assert_eq!(answer(b""), "error the connection ended after 0 bytes\n");
    }

    #[test]
    fn garbage_is_answered_by_an_error() {
        assert_eq!(answer(b"\xff\xfe\0\n"), "error unknown request \"\u{fffd}\u{fffd}\\0\"\n");
    }

    #[test]
    fn facts_are_json() {
        for request in ["cpus", "clock", "env", "net", "cpuid"] {
            let answer = answer(format!("{request}\n").as_bytes());
            let json = answer.strip_prefix("ok ").unwrap_or_else(|| panic!("{request}: {answer}"));
            let _: serde_json::Value = serde_json::from_str(json).unwrap();
        }
    }

    #[test]
    fn files_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file").display().to_string();
        assert_eq!(answer(format!("write-file {path} 00ff0a\n").as_bytes()), "ok 3\n");
        assert_eq!(answer(format!("read-file {path}\n").as_bytes()), "ok 00ff0a\n");
        assert!(answer(format!("read-file {path}.missing\n").as_bytes()).starts_with("error cannot read "));
    }

    #[test]
    fn memory_is_taken_and_given_back() {
        assert_eq!(answer(b"alloc 3\n"), "ok 3\n");
        assert!(answer(b"alloc 4294967295\n").starts_with("error cannot take 4294967295 MiB"));
    }
}
