//! The archives of a ramdisk as one stream of bytes: zero bytes between them are passed over, compressed ones are unpacked.
//!
//! Where an archive may begin, Linux looks at the next bytes: `0` begins an archive as it is, zero bytes are padding, anything
//! else must be compressed in a way it knows (`unpack_to_rootfs` in init/initramfs.c, magics in lib/decompress.c). Inside
//! what is compressed there may be several archives, but nothing compressed again.

use core::fmt;
use std::io::{self, BufRead, BufReader};

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::peek::Peekable;
use super::{Limits, NewcError};

/// Bytes passed over at a time.
const SKIP_CHUNK: usize = 64 << 10;

/// Headers with names, and contents, are padded to this.
const ALIGNMENT: u64 = 4;

/// Bytes that tell one way of compression from another.
const MAGIC_LEN: usize = 6;

/// How compressed archives begin that are not looked into.
const OTHERS: [(&[u8], &str); 7] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x5d\0\0", "lzma"),
    (b"\x89LZO", "lzo"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9e", "an old gzip"),
];
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A decoder's output, with its next bytes at hand.
type Unpacked<D> = Box<Peekable<BufReader<D>>>;

/// The bytes at hand: the ramdisk's own, or what one compressed member unpacks to. The ramdisk is inside.
enum Layer<R: BufRead> {
    Plain(Peekable<R>),
    Gzip(Unpacked<GzDecoder<Peekable<R>>>),
    Zstd(Unpacked<ZstdDecoder<'static, Peekable<R>>>),
    /// While one is made into the other, and after that failed.
    Gone,
}

impl<R: BufRead> fmt::Debug for Layer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
            Self::Gone => "Gone",
        })
    }
}

impl<R: BufRead> Layer<R> {
    fn stream(&mut self) -> Option<&mut dyn BufRead> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Gzip(stream) => Some(stream),
            Self::Zstd(stream) => Some(stream),
            Self::Gone => None,
        }
    }

    fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        match self {
            Self::Plain(stream) => stream.peek(length),
            Self::Gzip(stream) => stream.peek(length),
            Self::Zstd(stream) => stream.peek(length),
            Self::Gone => Ok(&[]),
        }
    }

    fn taken(&self) -> u64 {
        match self {
            Self::Plain(stream) => stream.taken(),
            Self::Gzip(stream) => stream.taken(),
            Self::Zstd(stream) => stream.taken(),
            Self::Gone => 0,
        }
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct Members<R: BufRead> {
    layer: Layer<R>,
    compressions: Vec<Compression>,
    /// Bytes unpacked from compressed members that are done with.
    unpacked: u64,
    max_unpacked: u64,
    zstd_window_log: u32,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(source: R, limits: &Limits) -> Self {
        Self {
            layer: Layer::Plain(Peekable::new(source)),
            compressions: Vec::new(),
            unpacked: 0,
            max_unpacked: limits.unpacked_bytes,
            zstd_window_log: limits.zstd_window_log,
        }
    }

    pub(super) fn compressions(&self) -> &[Compression] {
        &self.compressions
    }

    pub(super) fn is_compressed(&self) -> bool {
        !matches!(self.layer, Layer::Plain(_))
    }

    /// Goes to where the next archive begins; false if there is none.
    pub(super) fn next_archive(&mut self) -> Result<bool, NewcError> {
        loop {
            self.skip_zeros()?;
            let found = self.peek(MAGIC_LEN)?.to_vec();
            match found.first() {
                None if self.is_compressed() => self.leave_compressed(),
                None => return Ok(false),
                Some(b'0') if !self.layer.taken().is_multiple_of(ALIGNMENT) => {
                    return Err(NewcError::Unaligned(self.layer.taken()));
                }
                Some(b'0') => {
                    if !self.is_compressed() {
                        self.note(Compression::None);
                    }
                    return Ok(true);
                }
                Some(_) if self.is_compressed() => return Err(NewcError::Nested(found)),
                Some(_) => self.enter_compressed(found)?,
            }
        }
    }

    /// True if nothing follows in this member.
    pub(super) fn ended(&mut self) -> Result<bool, NewcError> {
        Ok(self.peek(1)?.is_empty())
    }

    /// Passes over the padding after a name or a content. It may be missing at the very end.
    pub(super) fn align(&mut self) -> Result<(), NewcError> {
        let padding = self.layer.taken().wrapping_neg() % ALIGNMENT;
        if self.ended()? { Ok(()) } else { self.skip(padding, "padding") }
    }

    pub(super) fn skip(&mut self, bytes: u64, inside: &'static str) -> Result<(), NewcError> {
        let mut left = bytes;
        let mut buffer = Vec::new();
        while left > 0 {
            buffer.resize(usize::try_from(left).map_or(SKIP_CHUNK, |left| left.min(SKIP_CHUNK)), 0);
            self.read_exactly(&mut buffer, inside)?;
            left = left.saturating_sub(buffer.len() as u64);
        }
        Ok(())
    }

    pub(super) fn read_exactly(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), NewcError> {
        let Some(stream) = self.layer.stream() else { return Err(NewcError::Truncated(inside)) };
        stream.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NewcError::Truncated(inside),
            _ => NewcError::Io(error),
        })?;
        self.check_unpacked()
    }

    /// Passes over zero bytes.
    fn skip_zeros(&mut self) -> Result<(), NewcError> {
        while let Some(stream) = self.layer.stream() {
            let buffer = match stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(compressed_end)?,
            };
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            stream.consume(zeros);
            self.check_unpacked()?;
        }
        Ok(())
    }

    fn peek(&mut self, length: usize) -> Result<&[u8], NewcError> {
        self.layer.peek(length).map_err(compressed_end)
    }

    fn check_unpacked(&self) -> Result<(), NewcError> {
        let at_hand = if self.is_compressed() { self.layer.taken() } else { 0 };
        if self.unpacked.saturating_add(at_hand) > self.max_unpacked {
            return Err(NewcError::Limit { what: "bytes when unpacked", limit: self.max_unpacked });
        }
        Ok(())
    }

    fn note(&mut self, compression: Compression) {
        if !self.compressions.contains(&compression) {
            self.compressions.push(compression);
        }
    }

    /// Unpacks what follows; `found` are its first bytes.
    fn enter_compressed(&mut self, found: Vec<u8>) -> Result<(), NewcError> {
        if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| found.starts_with(magic)) {
            return Err(NewcError::Compression(name));
        }
        let at = self.layer.taken();
        match core::mem::replace(&mut self.layer, Layer::Gone) {
            Layer::Plain(source) if found.starts_with(GZIP) => {
                self.note(Compression::Gzip);
                self.layer = Layer::Gzip(unpacked(GzDecoder::new(source)));
            }
            Layer::Plain(source) if found.starts_with(ZSTD) => {
                self.note(Compression::Zstd);
                let mut decoder = ZstdDecoder::with_buffer(source)?;
                decoder.window_log_max(self.zstd_window_log)?;
                self.layer = Layer::Zstd(unpacked(decoder.single_frame()));
            }
            _ => return Err(NewcError::Unknown { at, found }),
        }
        Ok(())
    }

    /// Goes on behind what is compressed, which has been read to its end.
    fn leave_compressed(&mut self) {
        self.unpacked = self.unpacked.saturating_add(self.layer.taken());
        self.layer = match core::mem::replace(&mut self.layer, Layer::Gone) {
            Layer::Gzip(stream) => Layer::Plain(stream.into_inner().into_inner().into_inner()),
            Layer::Zstd(stream) => Layer::Plain(stream.into_inner().into_inner().finish()),
            other => other,
        };
    }
}

fn unpacked<D: io::Read>(decoder: D) -> Unpacked<D> {
    Box::new(Peekable::new(BufReader::with_capacity(SKIP_CHUNK, decoder)))
}

/// A decoder says so when its input ends too early.
fn compressed_end(error: io::Error) -> NewcError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => NewcError::Truncated("a compressed archive"),
        _ => NewcError::Io(error),
    }
}
