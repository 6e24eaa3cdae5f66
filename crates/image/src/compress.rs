//! Ramdisks compressed as Linux decompresses them at boot, the same bytes for the same content.
//!
//! Fixed levels, one thread, no date and no name. Both formats carry the size of their content (gzip in its last bytes, so nothing
//! follows them), from which whoever boots the image knows how much memory it takes: `eif::unpacked`.

use std::io::{self, BufWriter, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

/// Level of zstd: what compresses about as fast as a disk writes. Its window of 8 MiB is far below what Linux allows
/// (`ZSTD_WINDOWSIZE_MAX`, lib/decompress_unzstd.c).
const ZSTD_LEVEL: i32 = 9;

/// Level of gzip.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::new(6);

/// How ramdisks are stored. All kernels that this project builds can unpack each (`RD_GZIP`, `RD_ZSTD`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// By zstd (RFC 8878).
    Zstd,
    /// By gzip (RFC 1952).
    Gzip,
}

/// Compresses what is written to it. Nothing is complete before [`Compressor::finish`].
#[derive(Debug)]
pub struct Compressor<W: Write>(Encoder<W>);

enum Encoder<W: Write> {
    None(BufWriter<W>),
    Zstd(Box<zstd::stream::write::Encoder<'static, BufWriter<W>>>),
    Gzip(Box<GzEncoder<BufWriter<W>>>),
}

impl<W: Write> core::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::None(_) => "None",
            Self::Zstd(_) => "Zstd",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl<W: Write> Compressor<W> {
    /// Compresses exactly `length` bytes into `output`.
    ///
    /// # Errors
    /// If the compressor cannot be set up.
    pub fn new(compression: Compression, length: u64, output: W) -> io::Result<Self> {
        let output = BufWriter::with_capacity(256 << 10, output);
        Ok(Self(match compression {
            Compression::None => Encoder::None(output),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.include_contentsize(true)?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(length))?;
                Encoder::Zstd(Box::new(encoder))
            }
            Compression::Gzip => Encoder::Gzip(Box::new(GzBuilder::new().mtime(0).write(output, GZIP_LEVEL))),
        }))
    }

    /// Completes the stream.
    ///
    /// # Errors
    /// If the output fails, or the length was not the one announced.
    pub fn finish(self) -> io::Result<()> {
        let mut output = match self.0 {
            Encoder::None(output) => output,
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Gzip(encoder) => encoder.finish()?,
        };
        output.flush()
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoder::None(output) => output.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush in the middle would change what comes out.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    fn compress(compression: Compression, content: &[u8], pieces: usize) -> Vec<u8> {
        let mut output = Vec::new();
        let mut compressor = Compressor::new(compression, content.len() as u64, &mut output).unwrap();
        for piece in content.chunks(pieces) {
            compressor.write_all(piece).unwrap();
            compressor.flush().unwrap();
        }
        compressor.finish().unwrap();
        output
    }

    fn content() -> Vec<u8> {
        (0..300_001_u32).map(|n| (n % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn the_same_content_gives_the_same_bytes_however_it_comes() {
        for compression in [Compression::None, Compression::Zstd, Compression::Gzip] {
            let whole = compress(compression, &content(), usize::MAX);
            assert_eq!(whole, compress(compression, &content(), 4096), "{compression:?}");
        }
    }

    #[test]
    fn gzip_itself_reads_it_and_it_holds_neither_date_nor_name() {
        let stored = compress(Compression::Gzip, &content(), 4096);
        assert_eq!(stored[stored.len() - 4..], 300_001_u32.to_le_bytes());
        // RFC 1952: no flags, no date.
        assert_eq!(stored[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        let mut gzip = Command::new("gzip")
            .args(["--decompress", "--stdout", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = gzip.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let _ = input.write_all(&stored);
        });
        let mut output = Vec::new();
        gzip.stdout.take().unwrap().read_to_end(&mut output).unwrap();
        writer.join().unwrap();
        gzip.wait().unwrap();
        assert!(output == content());
    }

    #[test]
    fn a_zstd_frame_says_how_large_its_content_is() {
        let stored = compress(Compression::Zstd, &content(), 4096);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&stored).unwrap(), Some(300_001));
        let mut decoder = zstd::stream::read::Decoder::new(stored.as_slice()).unwrap().single_frame();
        let mut output = Vec::new();
        decoder.read_to_end(&mut output).unwrap();
        assert!(output == content());
    }

    #[test]
    fn a_length_that_was_not_announced_is_an_error() {
        let mut compressor = Compressor::new(Compression::Zstd, 10, Vec::new()).unwrap();
        compressor.write_all(b"nine byte").unwrap();
        assert!(compressor.finish().is_err());
    }
}
