//! Requests that move bytes.

use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::thread;

use guest::vsock::{Address, Stream};
use serde_json::json;

use crate::error::DemoError;
use crate::service::Answer;

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;

pub(crate) fn echo(stream: &Stream, reader: &mut BufReader<&Stream>) -> Result<Answer, DemoError> {
    copy(reader, stream)?;
    // The peer may be gone by now.
    let _ = stream.shutdown(Shutdown::Write);
    Ok(Answer::Sent)
}

pub(crate) fn sink(reader: &mut BufReader<&Stream>, count: u64) -> Result<Answer, DemoError> {
    let mut buffer = vec![0; CHUNK];
    let mut received = 0_u64;
    while received < count {
        let most = usize::try_from(count - received).unwrap_or(CHUNK).min(CHUNK);
        let part = buffer.get_mut(..most).unwrap_or_default();
        match reader.read(part).map_err(DemoError::system("cannot read"))? {
            0 => return Err(DemoError::Ended(received)),
            read => received = received.saturating_add(u64::try_from(read).unwrap_or(u64::MAX)),
        }
    }
    Ok(Answer::Text(received.to_string()))
}

pub(crate) fn source(stream: &Stream, count: u64) -> Result<Answer, DemoError> {
    write_many(stream, &[0; CHUNK], count).map_err(DemoError::system("cannot write"))?;
    let _ = stream.shutdown(Shutdown::Write);
    Ok(Answer::Sent)
}

/// Floods the console: lines of text, so that a person can look at it.
pub(crate) fn console(count: u64) -> Result<Answer, DemoError> {
    let line = b"enclave-demo floods its console with this line, again and again .\n";
    write_many(io::stdout().lock(), &line.repeat(64), count)
        .map_err(DemoError::system("cannot write to standard output"))?;
    Ok(Answer::Text(count.to_string()))
}

/// Connects to the host and relays until both directions have ended.
pub(crate) fn relay(
    stream: &Stream,
    reader: &mut BufReader<&Stream>,
    cid: u32,
    port: u32,
) -> Result<Answer, DemoError> {
    let address = Address { cid, port };
    let host = Stream::connect(address).map_err(DemoError::system(format!("cannot connect to {address}")))?;
    let mut writer = stream;
    writer.write_all(b"ok\n").map_err(DemoError::system("cannot write"))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Errors end this direction only; the other one finds out by itself.
            let _ = copy(&mut &host, stream);
            let _ = stream.shutdown(Shutdown::Write);
        });
        let _ = copy(reader, &host);
        let _ = host.shutdown(Shutdown::Write);
    });
    Ok(Answer::Sent)
}

/// Opens connections and holds them all until the last one was tried.
pub(crate) fn flood(port: u32, count: u32, cid: u32) -> Answer {
    let address = Address { cid, port };
    let mut last_error = None;
    let mut open = Vec::new();
    for _ in 0..count {
        match Stream::connect(address) {
            Ok(stream) => open.push(stream),
            Err(error) => last_error = Some(error.to_string()),
        }
    }
    let failed = u64::from(count).saturating_sub(u64::try_from(open.len()).unwrap_or(u64::MAX));
    Answer::Text(json!({"opened": open.len(), "failed": failed, "last_error": last_error}).to_string())
}

/// As [`io::copy`] with a larger buffer and no special cases for particular files.
fn copy(from: &mut impl Read, mut to: &Stream) -> Result<(), DemoError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to
                .write_all(buffer.get(..read).unwrap_or_default())
                .map_err(DemoError::system("cannot write"))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DemoError::system("cannot read")(error)),
        }
    }
}

fn write_many(mut to: impl Write, chunk: &[u8], count: u64) -> io::Result<()> {
    let mut left = count;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(chunk.len()).min(chunk.len());
        to.write_all(chunk.get(..part).unwrap_or_default())?;
        left = left.saturating_sub(u64::try_from(part).unwrap_or(u64::MAX));
    }
    to.flush()
}
