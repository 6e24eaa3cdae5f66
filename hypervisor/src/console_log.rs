//! The console of an enclave in debug mode, kept in its folder: the first MiB and at least the last one.
//!
//! The stream is cut into files of at most [`SEGMENT`] bytes, each named by the offset of its first byte. The first
//! file stays; of the others the last two do. So a guest that floods its console fills at most three segments, the
//! files are plain text, and they mean the same whoever was killed while writing. Where bytes were dropped the reader
//! says how many.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use crate::run_dir::EnclaveFolder;

/// Bytes in one file.
pub const SEGMENT: u64 = 1 << 20;

/// Files kept beside the first.
const LAST_SEGMENTS: usize = 2;

/// Digits of the largest offset.
const OFFSET_DIGITS: usize = 20;

/// A segment's file name. The fixed width makes names sort by offset.
fn file_name(offset: u64) -> String {
    format!("console-{offset:0OFFSET_DIGITS$}.log")
}

/// The offset that a segment's file name tells.
fn offset_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("console-")?.strip_suffix(".log")?;
    if digits.len() == OFFSET_DIGITS { digits.parse().ok() } else { None }
}

/// The offsets of the files that are there, in order.
fn segments(folder: &EnclaveFolder) -> io::Result<Vec<u64>> {
    let mut offsets: Vec<u64> = folder.names()?.iter().filter_map(|name| offset_of(name)).collect();
    offsets.sort_unstable();
    Ok(offsets)
}

/// Writes the console's files.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    /// Bytes in `file`.
    filled: u64,
    /// Bytes in the whole stream.
    total: u64,
    /// Offsets of the files kept beside the first, `file`'s last.
    segments: VecDeque<u64>,
}

impl LogWriter {
    /// Begins the console in an enclave's folder.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(folder: &EnclaveFolder) -> io::Result<Self> {
        let file = open_segment(folder, 0)?;
        Ok(Self { file, filled: 0, total: 0, segments: VecDeque::new() })
    }

    /// Appends to the console.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn append(&mut self, folder: &EnclaveFolder, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.filled >= SEGMENT {
                self.next_segment(folder)?;
            }
            let room = usize::try_from(SEGMENT.saturating_sub(self.filled)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.file.write_all(now)?;
            let written = u64::try_from(now.len()).unwrap_or(u64::MAX);
            self.filled = self.filled.saturating_add(written);
            self.total = self.total.saturating_add(written);
            bytes = later;
        }
        Ok(())
    }

    /// Bytes written since the beginning.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    fn next_segment(&mut self, folder: &EnclaveFolder) -> io::Result<()> {
        self.file = open_segment(folder, self.total)?;
        self.filled = 0;
        self.segments.push_back(self.total);
        if self.segments.len() > LAST_SEGMENTS
            && let Some(oldest) = self.segments.pop_front()
        {
            folder.remove_file(&file_name(oldest)).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn open_segment(folder: &EnclaveFolder, offset: u64) -> io::Result<File> {
    folder.append_to(&file_name(offset)).map_err(io::Error::other)
}

/// Reads the console from its first byte to the end of what is written; more may come later. Dropped bytes are
/// replaced by a line that says how many they were.
#[derive(Debug)]
pub struct LogReader {
    folder: EnclaveFolder,
    /// Of the stream: the next byte to read.
    position: u64,
    /// The file that holds it, and the offset of that file's first byte.
    segment: Option<(u64, File)>,
    /// A line about dropped bytes, still to be handed out.
    notice: VecDeque<u8>,
}

impl LogReader {
    /// Starts at the first byte of the console in an enclave's folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(folder: &EnclaveFolder) -> io::Result<Self> {
        Ok(Self { folder: folder.try_clone()?, position: 0, segment: None, notice: VecDeque::new() })
    }

    /// Moves on to the file that holds the next byte, or the first byte after it. False if there is none yet.
    fn advance(&mut self) -> io::Result<bool> {
        let offsets = segments(&self.folder)?;
        let current = self.segment.as_ref().map(|(offset, _)| *offset);
        let Some(next) = offsets.into_iter().find(|offset| current.is_none_or(|current| *offset > current))
        else {
            return Ok(false);
        };
        // Now that another file follows, this one is complete: what was written since its last read comes first.
        if let Some((offset, file)) = &self.segment
            && offset.saturating_add(file.metadata()?.len()) > self.position
        {
            return Ok(true);
        }
        let file = match self.folder.open_file(&file_name(next)) {
            // Dropped since it was listed; a later one is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.advance(),
            other => other?,
        };
        if next > self.position {
            let dropped = next.saturating_sub(self.position);
            self.notice.extend(format!("\r\n[{dropped} bytes of the console were dropped here]\r\n").bytes());
            self.position = next;
        }
        self.segment = Some((next, file));
        Ok(true)
    }
}

impl Read for LogReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.notice.is_empty() {
                return self.notice.read(buffer);
            }
            if let Some((_, file)) = &mut self.segment {
                let read = file.read(buffer)?;
                self.position = self.position.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            // The end of this file: of the whole console too, unless another file follows.
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

/// The last lines of the console, at most `lines` of them and 16 KiB, as printable text.
///
/// # Errors
/// If a file cannot be read.
pub fn tail(folder: &EnclaveFolder, lines: usize) -> io::Result<String> {
    /// Bytes that are looked at, from the end.
    const TAIL: u64 = 16 * 1024;
    let offsets = segments(folder)?;
    let mut bytes = Vec::new();
    let last_two = offsets.len().saturating_sub(2);
    for offset in offsets.into_iter().skip(last_two) {
        let mut file = folder.open_file(&file_name(offset))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut bytes)?;
    }
    let start = bytes.len().saturating_sub(usize::try_from(TAIL).unwrap_or(usize::MAX));
    let text = printable(bytes.get(start..).unwrap_or_default());
    let all: Vec<&str> = text.lines().collect();
    Ok(all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n"))
}

/// Text without control characters other than line ends and tabs, so that a guest cannot drive a terminal through an
/// error message.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect()
}

/// The console's stream as a follower gets it: everything from the first byte, as fast as the follower reads. What was
/// dropped before it was read is told by a notice; a slow follower holds up nobody and needs no memory here.
#[derive(Debug)]
pub struct Follower {
    reader: LogReader,
    stream: std::os::fd::OwnedFd,
    /// Read but not yet taken by the stream.
    pending: Vec<u8>,
}

/// How far a follower got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Everything that is written has been sent.
    AllSent,
    /// The stream takes no more for the moment.
    StreamFull,
    /// The follower is gone.
    Gone,
}

impl Follower {
    /// A follower that reads the console in `folder` and writes to `stream`, which is in non-blocking mode.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn new(folder: &EnclaveFolder, stream: std::os::fd::OwnedFd) -> io::Result<Self> {
        Ok(Self { reader: LogReader::open(folder)?, stream, pending: Vec::new() })
    }

    /// Sends what there is, at most [`SEGMENT`] bytes at a time.
    pub fn send(&mut self) -> Followed {
        /// Bytes read at once.
        const CHUNK: usize = 16 * 1024;
        let mut budget = SEGMENT;
        while budget > 0 {
            if self.pending.is_empty() {
                self.pending.resize(CHUNK, 0);
                match self.reader.read(&mut self.pending) {
                    Ok(read) => self.pending.truncate(read),
                    Err(_) => return Followed::Gone,
                }
                if self.pending.is_empty() {
                    self.pending = Vec::new();
                    return Followed::AllSent;
                }
            }
            match rustix::net::send(&self.stream, &self.pending, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.pending.drain(..sent.min(self.pending.len()));
                    budget = budget.saturating_sub(u64::try_from(sent).unwrap_or(u64::MAX));
                }
                Err(rustix::io::Errno::AGAIN) => return Followed::StreamFull,
                Err(_) => return Followed::Gone,
            }
        }
        Followed::StreamFull
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunRoot;

    fn folder() -> (tempfile::TempDir, EnclaveFolder) {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let folder = root.create(&root.lock().unwrap(), "i-1-enc2").unwrap();
        (temporary, folder)
    }

    fn read_all(folder: &EnclaveFolder) -> Vec<u8> {
        let mut bytes = Vec::new();
        LogReader::open(folder).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn numbered_lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|line| format!("{line:015}\n").into_bytes()).collect()
    }

    #[test]
    fn what_fits_is_kept_whole() {
        let (_temporary, folder) = folder();
        let mut writer = LogWriter::create(&folder).unwrap();
        let text = numbered_lines(3 * 65_536);
        for chunk in text.chunks(10_007) {
            writer.append(&folder, chunk).unwrap();
        }
        assert_eq!(writer.total(), 3 << 20);
        assert_eq!(read_all(&folder), text);
        assert_eq!(tail(&folder, 2).unwrap(), "000000000196606\n000000000196607");
    }

    #[test]
    fn a_flood_keeps_the_first_and_the_last_mebibyte_and_says_what_is_missing() {
        let (_temporary, folder) = folder();
        let mut writer = LogWriter::create(&folder).unwrap();
        let text = numbered_lines(10 * 65_536 + 7);
        writer.append(&folder, &text).unwrap();
        let kept = read_all(&folder);
        let notice = format!("\r\n[{} bytes of the console were dropped here]\r\n", 8 << 20);
        assert_eq!(&kept[..1 << 20], &text[..1 << 20]);
        assert_eq!(&kept[1 << 20..(1 << 20) + notice.len()], notice.as_bytes());
        assert_eq!(&kept[(1 << 20) + notice.len()..], &text[9 << 20..]);
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 3);
    }

    #[test]
    fn a_slow_follower_gets_the_gap_told_and_blocks_nobody() {
        let (_temporary, folder) = folder();
        let mut writer = LogWriter::create(&folder).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut follower = Follower::new(&folder, theirs.into()).unwrap();
        writer.append(&folder, b"begin").unwrap();
        assert_eq!(follower.send(), Followed::AllSent);
        writer.append(&folder, &numbered_lines(10 * 65_536)).unwrap();
        while follower.send() != Followed::StreamFull {}
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| (&ours).read_to_end(&mut received));
            while follower.send() != Followed::AllSent {
                std::thread::yield_now();
            }
            drop(follower);
            reading.join().unwrap().unwrap();
        });
        let text = String::from_utf8(received).unwrap();
        assert!(text.starts_with("begin000000000000000\n"));
        assert!(text.contains("bytes of the console were dropped here"));
        assert!(text.ends_with("000000000655359\n"));
        drop(ours);
    }

    #[test]
    fn a_tail_cannot_drive_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\r\n\xffc"), "a[2Jb\n\u{fffd}c");
    }
}
