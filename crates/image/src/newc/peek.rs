//! Looking at the next bytes of a stream before taking them, and knowing how many were taken.

use std::io::{self, BufRead, Read};

/// A stream with its next bytes at hand.
#[derive(Debug)]
pub(super) struct Peekable<R> {
    /// Bytes that were looked at and not taken.
    ahead: Vec<u8>,
    taken: u64,
    source: R,
}

impl<R: BufRead> Peekable<R> {
    pub(super) fn new(source: R) -> Self {
        Self { ahead: Vec::new(), taken: 0, source }
    }

    /// Bytes taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The source; what was looked at and not taken is lost.
    pub(super) fn into_inner(self) -> R {
        self.source
    }

    /// The next bytes, at least `length` of them unless the stream ends before.
    pub(super) fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.ahead.len() < length {
            let buffer = match self.source.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            };
            let count = buffer.len().min(length.saturating_sub(self.ahead.len()));
            if count == 0 {
                break;
            }
            self.ahead.extend_from_slice(buffer.get(..count).unwrap_or_default());
            self.source.consume(count);
        }
        Ok(&self.ahead)
    }
}

impl<R: BufRead> Read for Peekable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.ahead.is_empty() {
            self.source.read(buffer)?
        } else {
            let count = buffer.len().min(self.ahead.len());
            buffer.iter_mut().zip(self.ahead.drain(..count)).for_each(|(to, from)| *to = from);
            count
        };
        self.taken = self.taken.saturating_add(count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Peekable<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead.is_empty() { self.source.fill_buf() } else { Ok(&self.ahead) }
    }

    fn consume(&mut self, count: usize) {
        if self.ahead.is_empty() {
            self.source.consume(count);
        } else {
            self.ahead.drain(..count.min(self.ahead.len()));
        }
        self.taken = self.taken.saturating_add(count as u64);
    }
}
