//! The append-only log of every decision.
//!
//! A file of mode 0600 with one JSON object in each line. Every line has a number and, in `previous`, the SHA-256 of the line before it (64
//! zeros in the first), so that a line that is changed, taken away, put in or moved is found by [`verify`]. What a chain
//! cannot show is that lines are missing at its end, or that somebody wrote the whole file anew: for that, keep the number and hash of a
//! late line somewhere else ([`Summary::head`]) and ask for it when the file is verified. `chattr +a` works with this file: nothing in it is
//! ever overwritten or removed.
//!
//! A decision is in the file before its answer leaves the service, so that it survives the end of the process in any way. It is not forced
//! onto the disk each time: when the machine itself fails, the last seconds may be missing. What makes or ends keys is forced
//! ([`AuditLog::append_durably`]), as the key itself is.
//!
//! A line that was being written when the process ended is ended when the log is next opened, and the entry behind it, of operation
//! [`RECOVERED`], says so; the chain goes on over both.
//!
//! [`rotate`] begins a new file; the chain goes on there, too, behind an entry of operation [`CONTINUED`].

mod head;
mod rotate;
mod verify;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::store::FileError;
use crate::store::private_file::{self, Lock};

pub use self::head::{Head, ParseHeadError};
pub use self::rotate::{RotateError, Rotated, rotate};
pub use self::verify::{Summary, Verification, VerifyError, verify};

/// Bytes of a field that are kept; what is longer is cut and marked.
pub const MAX_FIELD_LEN: usize = 4 * 1024;
/// The same of a reason, which lists conditions with their values.
pub const MAX_REASON_LEN: usize = 32 * 1024;
/// Bytes of the longest line: all fields of greatest length, each byte written as `\u0000`, and room for the rest.
pub const MAX_LINE_LEN: usize = 6 * (6 * MAX_FIELD_LEN + MAX_REASON_LEN) + 1024;
/// The operation of an entry that the log itself writes after an unfinished line.
pub const RECOVERED: &str = "log:Recovered";
/// The operation of the first entry of a file that goes on where another ended.
pub const CONTINUED: &str = "log:Continued";
/// What stands behind a text that was cut.
const CUT: &str = "[cut]";

/// The SHA-256 of a line, without its newline.
type Hash = [u8; 32];

/// A decision.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When it was made.
    pub time: SystemTime,
    /// The caller's ARN, or what it gave as its access key if that is unknown.
    pub principal: &'a str,
    /// The operation, such as `kms:Decrypt`.
    pub operation: &'a str,
    /// The key's ARN, if there is one.
    pub key: Option<&'a str>,
    /// The SHA-256 of the key policy that it put, if it put one.
    pub policy_sha256: Option<Hash>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why: statements and conditions.
    pub reason: &'a str,
    /// The request's id, which the caller has too.
    pub request_id: &'a str,
    /// Where the request came from, such as `tcp 127.0.0.1:4711`.
    pub source: &'a str,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    number: u64,
    time: String,
    principal: String,
    operation: String,
    key: Option<String>,
    /// Lines that were written before there was such a member do not have it, nor do those that put no policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy_sha256: Option<String>,
    allowed: bool,
    reason: String,
    request_id: String,
    source: String,
    previous: String,
}

/// Why the log could not be used. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The file could not be used, or is not private.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process writes it.
    #[error("the log {} is in use by another process; stop that service first", .0.display())]
    InUse(PathBuf),
    /// Its last line is none of ours.
    #[error(
        "the last line of the log {} is not an entry; run `enclave kms log verify`, then move the file away: a new one is begun",
        .0.display()
    )]
    Damaged(PathBuf),
    /// A time that has no date.
    #[error("the time of a decision cannot be written; set the clock")]
    Time,
}

/// The log, open for appending; only one process has it open.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    tail: Mutex<Tail>,
    /// The same file, locked; to wait for the disk while others append.
    disk: Lock,
}

/// The end of the file.
#[derive(Debug)]
struct Tail {
    file: File,
    number: u64,
    hash: Hash,
    /// A write failed: part of a line may be there.
    unfinished: bool,
}

impl AuditLog {
    /// Opens a log, or begins one of mode 0600. A line that was not finished is ended, and an entry says so.
    ///
    /// # Errors
    /// If it cannot be opened or written, is not private, is in use, or does not end with an entry of ours.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
        Self::of(private_file::open(path, flags)?, path)
    }

    /// The log in a file that was opened under this name.
    fn of(file: File, path: &Path) -> Result<Self, AuditError> {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(AuditError::InUse(path.to_owned())),
            Err(errno) => return Err(FileError::io("lock", path, errno).into()),
        }
        // A rotation may have come between.
        if !private_file::is_at(&file, path)? {
            return Err(AuditError::InUse(path.to_owned()));
        }
        let disk = Lock(file.try_clone().map_err(|error| FileError::io("open", path, error))?);
        let mut tail = Tail { file, number: 0, hash: [0; 32], unfinished: false };
        tail.find_end(path)?;
        Ok(Self { path: path.to_owned(), tail: Mutex::new(tail), disk })
    }

    /// Appends a decision. It is in the file when this returns, and on the disk when the system has written it.
    ///
    /// # Errors
    /// If it cannot be written. A decision that is not in the log must not be acted on.
    pub fn append(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.write(entry, false)
    }

    /// The same, and on the disk when this returns: for what makes or ends keys.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_durably(&self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.write(entry, true)
    }

    fn write(&self, entry: &Entry<'_>, durably: bool) -> Result<(), AuditError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.unfinished {
            tail.find_end(&self.path)?;
        }
        tail.append(&self.path, entry)?;
        drop(tail);
        if durably {
            self.disk.0.sync_data().map_err(|error| FileError::io("write to the disk", &self.path, error))?;
        }
        Ok(())
    }
}

impl Tail {
    fn append(&mut self, path: &Path, entry: &Entry<'_>) -> Result<(), AuditError> {
        let number = self.number.saturating_add(1);
        let mut line = entry.line(number, &self.hash)?;
        let hash = Sha256::digest(&line).into();
        line.push(b'\n');
        self.unfinished = true;
        self.file.write_all(&line).map_err(|error| FileError::io("write", path, error))?;
        self.unfinished = false;
        self.number = number;
        self.hash = hash;
        Ok(())
    }

    /// Finds the number and hash of the last line, and mends an unfinished one.
    fn find_end(&mut self, path: &Path) -> Result<(), AuditError> {
        let failed = |error: io::Error| FileError::io("read", path, error);
        let damaged = || AuditError::Damaged(path.to_owned());
        let length = self.file.seek(SeekFrom::End(0)).map_err(failed)?;
        // Two whole lines and more: the last may be unfinished.
        let window = length.min(u64::try_from(3 * MAX_LINE_LEN).unwrap_or(u64::MAX));
        let start = length.saturating_sub(window);
        self.file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut text = Vec::new();
        (&self.file).take(window).read_to_end(&mut text).map_err(failed)?;
        let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
        // What is behind the last newline: nothing, if all went well.
        let rest = lines.pop().unwrap_or_default();
        if start > 0 && !lines.is_empty() {
            // The first began before the window.
            lines.remove(0);
        }
        (self.number, self.hash) = match lines.last() {
            Some(last) => (number_at_end(&lines).ok_or_else(damaged)?, Sha256::digest(last).into()),
            None if start == 0 => (0, [0; 32]),
            None => return Err(damaged()),
        };
        self.unfinished = false;
        if rest.is_empty() {
            // A crash may have come between the line's end and the entry that tells of it.
            if lines.last().is_some_and(|last| parse(last).is_none()) {
                self.tell_of_recovery(path)?;
            }
            return Ok(());
        }
        self.finish(path, rest)
    }

    /// Ends the line that is not finished.
    fn finish(&mut self, path: &Path, rest: &[u8]) -> Result<(), AuditError> {
        self.unfinished = true;
        self.file.write_all(b"\n").map_err(|error| FileError::io("write", path, error))?;
        self.unfinished = false;
        let follows = |line: &Line| {
            line.number == self.number.saturating_add(1) && line.previous == hex::encode(self.hash)
        };
        let whole = parse(rest).filter(follows);
        self.hash = Sha256::digest(rest).into();
        match whole {
            // Nothing but the newline was missing.
            Some(line) => {
                self.number = line.number;
                Ok(())
            }
            None => self.tell_of_recovery(path),
        }
    }

    fn tell_of_recovery(&mut self, path: &Path) -> Result<(), AuditError> {
        let reason = "the line before this one was not finished: the service or the machine ended while it was written";
        self.append(path, &Entry::of_the_log(RECOVERED, reason))
    }
}

/// The number of the last entry: of the last line, or of the one before it if the last is one that was not finished.
fn number_at_end(lines: &[&[u8]]) -> Option<u64> {
    let (last, before) = lines.split_last()?;
    match (parse(last), before.last()) {
        (Some(line), _) => Some(line.number),
        (None, Some(before)) => parse(before).map(|line| line.number),
        (None, None) => Some(0),
    }
}

impl<'a> Entry<'a> {
    /// What the log itself has to say.
    fn of_the_log(operation: &'a str, reason: &'a str) -> Self {
        Self {
            time: SystemTime::now(),
            principal: "",
            operation,
            key: None,
            policy_sha256: None,
            allowed: true,
            reason,
            request_id: "",
            source: "",
        }
    }

    fn line(&self, number: u64, previous: &Hash) -> Result<Vec<u8>, AuditError> {
        let time = jiff::Timestamp::try_from(self.time).map_err(|_| AuditError::Time)?;
        let line = Line {
            number,
            time: format!("{time:.6}"),
            principal: cut(self.principal, MAX_FIELD_LEN),
            operation: cut(self.operation, MAX_FIELD_LEN),
            key: self.key.map(|key| cut(key, MAX_FIELD_LEN)),
            policy_sha256: self.policy_sha256.map(hex::encode),
            allowed: self.allowed,
            reason: cut(self.reason, MAX_REASON_LEN),
            request_id: cut(self.request_id, MAX_FIELD_LEN),
            source: cut(self.source, MAX_FIELD_LEN),
            previous: hex::encode(previous),
        };
        serde_json::to_vec(&line).map_err(|_| AuditError::Time)
    }
}

/// `text`, or its beginning of at most `limit` bytes and a mark.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(CUT.len()));
    format!("{}{CUT}", text.get(..end).unwrap_or_default())
}

fn parse(line: &[u8]) -> Option<Line> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests;
