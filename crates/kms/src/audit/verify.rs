//! Following the chain of a log, through all of its files.

use std::io::{self, BufRead, Read};

use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{CONTINUED, Hash, Head, Line, MAX_LINE_LEN, RECOVERED, parse};

/// What a log says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Summary {
    /// How many entries it has.
    pub entries: u64,
    /// How many lines were not finished, each told of by the entry behind it.
    pub unfinished: u64,
    /// The entry of an earlier file that the first line follows. That file was not read: nothing here shows what is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<Head>,
    /// The last entry, for keeping elsewhere.
    pub head: Head,
}

/// Where and why a log is not what was written. Lines are counted from 1.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// It could not be read.
    #[error("the log cannot be read: {0}; check the path")]
    Read(#[from] io::Error),
    /// A line is not one of ours, and no entry behind it tells of a crash.
    #[error("line {0} is not an entry; it was changed, or written by something else")]
    NotAnEntry(u64),
    /// A line does not follow the one before it.
    #[error(
        "line {0} does not follow the line before it; one of the two was changed, or lines were taken away, put in or moved"
    )]
    Chain(u64),
    /// A file does not go on where the one before it ended.
    #[error(
        "it does not go on where the file before it ended; name all files in their order, the oldest first"
    )]
    Order,
    /// The file ends within a line.
    #[error("line {0} is not finished; the service ends it when it next starts: verify the log then")]
    Unfinished(u64),
    /// The entry that was kept elsewhere is not there.
    #[error(
        "entry {0} is not in the log as it was then; lines are missing at its end, or it was written anew"
    )]
    Head(u64),
}

/// Reads a log of one file from its first line and follows its chain; with `known`, looks that this entry is in it.
///
/// # Errors
/// The first line that is not what was written.
pub fn verify(log: impl BufRead, known: Option<&Head>) -> Result<Summary, VerifyError> {
    let mut verification = Verification::new(known);
    verification.read(log)?;
    verification.finish()
}

/// A chain that is being followed, file by file.
#[derive(Debug)]
pub struct Verification<'a> {
    known: Option<&'a Head>,
    found: bool,
    files: u64,
    summary: Summary,
}

impl<'a> Verification<'a> {
    /// Nothing was read yet. With `known`, this entry has to be there.
    #[must_use]
    pub fn new(known: Option<&'a Head>) -> Self {
        let mut verification = Self {
            known,
            found: known.is_none(),
            files: 0,
            summary: Summary {
                entries: 0,
                unfinished: 0,
                continues: None,
                head: Head { number: 0, hash: [0; 32] },
            },
        };
        verification.look_for_known();
        verification
    }

    /// Reads the next file, from its first line to its last.
    ///
    /// # Errors
    /// The first line that is not what was written.
    pub fn read(&mut self, mut log: impl BufRead) -> Result<(), VerifyError> {
        self.files = self.files.saturating_add(1);
        let mut previous = self.summary.head.hash;
        // A line that is no entry is believed if the next one tells of it.
        let mut broken = None;
        let mut at: u64 = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let bound = u64::try_from(MAX_LINE_LEN).unwrap_or(u64::MAX).saturating_add(1);
            if (&mut log).take(bound).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            at = at.saturating_add(1);
            let Some(text) = line.strip_suffix(b"\n") else {
                let whole = line.len() <= MAX_LINE_LEN;
                return Err(if whole { VerifyError::Unfinished(at) } else { VerifyError::NotAnEntry(at) });
            };
            let hash: Hash = Sha256::digest(text).into();
            match parse(text) {
                Some(entry) => {
                    if at == 1 {
                        previous = self.begin(&entry)?;
                    }
                    self.follow(&entry, &previous, hash, at)?;
                    if let Some(before) = broken.take()
                        && entry.operation != RECOVERED
                    {
                        return Err(VerifyError::NotAnEntry(before));
                    }
                }
                None => {
                    if let Some(before) = broken.replace(at) {
                        return Err(VerifyError::NotAnEntry(before));
                    }
                    self.summary.unfinished = self.summary.unfinished.saturating_add(1);
                }
            }
            previous = hash;
        }
        broken.map_or(Ok(()), |line| Err(VerifyError::NotAnEntry(line)))
    }

    /// What all files said.
    ///
    /// # Errors
    /// [`VerifyError::Head`] if the entry that was kept elsewhere was not among them.
    pub fn finish(self) -> Result<Summary, VerifyError> {
        match self.known {
            Some(known) if !self.found => Err(VerifyError::Head(known.number)),
            _ => Ok(self.summary),
        }
    }

    /// The first entry of a file: the hash that it has to have of what was before.
    fn begin(&mut self, entry: &Line) -> Result<Hash, VerifyError> {
        let behind = behind(entry);
        if self.files > 1 {
            let follows = behind.as_ref() == Some(&self.summary.head);
            return if follows { Ok(self.summary.head.hash) } else { Err(VerifyError::Order) };
        }
        if let Some(behind) = behind.filter(|behind| entry.operation == CONTINUED && behind.number > 0) {
            self.summary.head = behind.clone();
            self.summary.continues = Some(behind);
            self.look_for_known();
        }
        Ok(self.summary.head.hash)
    }

    fn follow(&mut self, entry: &Line, previous: &Hash, hash: Hash, at: u64) -> Result<(), VerifyError> {
        let number = self.summary.head.number.saturating_add(1);
        if entry.number != number || entry.previous != hex::encode(previous) {
            return Err(VerifyError::Chain(at));
        }
        self.summary.entries = self.summary.entries.saturating_add(1);
        self.summary.head = Head { number, hash };
        self.look_for_known();
        Ok(())
    }

    fn look_for_known(&mut self) {
        self.found |= self.known == Some(&self.summary.head);
    }
}

/// The entry that one says it follows.
fn behind(entry: &Line) -> Option<Head> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&entry.previous, &mut hash).ok()?;
    Some(Head { number: entry.number.checked_sub(1)?, hash })
}
