//! From a layer as it is stored to an uncompressed archive: size and digests checked on the way.
//!
//! A compressed layer is decompressed once, into a temporary file without a name, which vanishes with the process; an
//! uncompressed one is read where it lies. Memory does not grow with the layer.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::digest::Digest;
use crate::extent::{Extent, Source};

/// Bytes handled at a time.
const CHUNK: usize = 256 << 10;

/// Largest window of zstd, as a power of two: 64 MiB of memory. Compressors use at most 8 MiB unless told otherwise.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// What compressed files have at an offset: gzip (RFC 1952), zstd (RFC 8878), xz, bzip2 (behind a level). None could be the
/// text that an uncompressed archive begins with.
const MAGICS: [(usize, &[u8], Compression); 4] = [
    (0, b"\x1f\x8b", Compression::Gzip),
    (0, b"\x28\xb5\x2f\xfd", Compression::Zstd),
    (0, b"\xfd7zXZ\0", Compression::Other("xz")),
    (4, b"\x31\x41\x59\x26\x53\x59", Compression::Other("bzip2")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Other(&'static str),
}

/// A layer as it is stored, and what is promised of it.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is called in messages.
    pub name: String,
    /// Its bytes.
    pub stored: Extent,
    /// How many bytes it must have.
    pub size: Option<u64>,
    /// Their digest.
    pub digest: Option<Digest>,
    /// The digest of the uncompressed archive.
    pub diff_id: Option<Digest>,
}

/// Where layers are unpacked to, and how many bytes may still be.
#[derive(Debug)]
pub struct Unpacker {
    /// A folder with room for temporary files.
    pub folder: PathBuf,
    /// The limit, for the message.
    pub limit: u64,
    left: u64,
}

impl Unpacker {
    /// Unpacks into files in `folder`, at most `limit` bytes in all.
    #[must_use]
    pub const fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit, left: limit }
    }

    /// The uncompressed archive of a layer. `progress` is told how many of the stored bytes are through.
    ///
    /// # Errors
    /// If the layer cannot be read, is not what is promised, or unpacks to more than is left.
    pub fn unpack(&mut self, blob: &Blob, progress: &mut dyn FnMut(u64)) -> Result<Extent, LayerError> {
        if blob.size.is_some_and(|size| size != blob.stored.size()) {
            let size = blob.size.unwrap_or_default();
            return Err(mismatch(blob, "size", blob.stored.size(), size));
        }
        let stored = Hashed {
            reader: blob.stored.reader(),
            hash: Sha256::new(),
            wanted: blob.digest.is_some(),
            read: 0,
            progress,
        };
        match compression(blob)? {
            Compression::None => self.check(blob, stored),
            Compression::Gzip => {
                let decoder = MultiGzDecoder::new(BufReader::with_capacity(CHUNK, stored));
                self.decompress(blob, decoder, |decoder| decoder.into_inner().into_inner())
            }
            Compression::Zstd => {
                let failed = |source| failed(blob, "decompressing it", source);
                let mut decoder = zstd::stream::read::Decoder::new(stored).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
                self.decompress(blob, decoder, |decoder| decoder.finish().into_inner())
            }
            Compression::Other(compression) => {
                Err(LayerError::Compression { layer: blob.name.clone(), compression })
            }
        }
    }

    /// An uncompressed layer: read through once for its digests, and used where it lies.
    fn check(&mut self, blob: &Blob, mut stored: Hashed<'_>) -> Result<Extent, LayerError> {
        self.take(blob, blob.stored.size())?;
        stored.wanted |= blob.diff_id.is_some();
        if stored.wanted {
            let digest = stored.finish(blob)?;
            expect(blob, "digest", blob.digest, digest)?;
            expect(blob, "digest (diff_id)", blob.diff_id, digest)?;
        }
        Ok(blob.stored.clone())
    }

    fn decompress<'p, D: Read>(
        &mut self,
        blob: &Blob,
        mut decoder: D,
        into_stored: impl FnOnce(D) -> Hashed<'p>,
    ) -> Result<Extent, LayerError> {
        let temporary = |source| LayerError::Temporary { folder: self.folder.clone(), source };
        let mut file = tempfile::tempfile_in(&self.folder).map_err(temporary)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            let read = match decoder.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(blob, "decompressing it", error)),
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            self.take(blob, read as u64)?;
            if blob.diff_id.is_some() {
                hash.update(bytes);
            }
            file.write_all(bytes)
                .map_err(|source| LayerError::Temporary { folder: self.folder.clone(), source })?;
        }
        let digest = into_stored(decoder).finish(blob)?;
        expect(blob, "digest", blob.digest, digest)?;
        expect(blob, "uncompressed digest (diff_id)", blob.diff_id, Digest::finish(hash))?;
        self.extent(file, blob)
    }

    fn extent(&self, file: File, blob: &Blob) -> Result<Extent, LayerError> {
        let source = Source::new(file, &blob.name)
            .map_err(|source| LayerError::Temporary { folder: self.folder.clone(), source })?;
        Ok(Extent::whole(source))
    }

    fn take(&mut self, blob: &Blob, bytes: u64) -> Result<(), LayerError> {
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(LayerError::Limit {
                layer: blob.name.clone(),
                what: "bytes unpacked, all layers together",
                limit: self.limit,
            });
        };
        self.left = left;
        Ok(())
    }
}

/// Where temporary files go: `TMPDIR` if the user has set it, else the output's folder, which has room for an image.
#[must_use]
pub fn temporary_folder(output_folder: &Path) -> PathBuf {
    std::env::var_os("TMPDIR")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| output_folder.to_owned(), PathBuf::from)
}

/// The stored bytes, hashed and counted while they are read.
struct Hashed<'p> {
    reader: crate::extent::ExtentReader<'p>,
    hash: Sha256,
    wanted: bool,
    read: u64,
    progress: &'p mut dyn FnMut(u64),
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if self.wanted {
            self.hash.update(buffer.get(..read).unwrap_or_default());
        }
        self.read = self.read.saturating_add(read as u64);
        (self.progress)(self.read);
        Ok(read)
    }
}

impl Hashed<'_> {
    /// The digest of everything, what the decompressor did not want to see included.
    fn finish(mut self, blob: &Blob) -> Result<Digest, LayerError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(Digest::finish(self.hash)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(blob, "reading it", error)),
            }
        }
    }
}

fn compression(blob: &Blob) -> Result<Compression, LayerError> {
    let mut start = Vec::new();
    blob.stored
        .reader()
        .take(16)
        .read_to_end(&mut start)
        .map_err(|error| failed(blob, "reading it", error))?;
    let has = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let found = MAGICS.iter().find(|(at, magic, _)| has(*at, magic));
    Ok(found.map_or(Compression::None, |(_, _, compression)| *compression))
}

fn expect(
    blob: &Blob,
    what: &'static str,
    expected: Option<Digest>,
    found: Digest,
) -> Result<(), LayerError> {
    match expected {
        Some(expected) if expected != found => Err(mismatch(blob, what, found, expected)),
        _ => Ok(()),
    }
}

fn mismatch(blob: &Blob, what: &'static str, found: impl ToString, expected: impl ToString) -> LayerError {
    LayerError::Mismatch {
        layer: blob.name.clone(),
        what,
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

fn failed(blob: &Blob, step: &'static str, source: io::Error) -> LayerError {
    LayerError::File { layer: blob.name.clone(), step, source }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    const CONTENT: &[u8] = b"an archive, or what stands for one";

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn blob(stored: &[u8]) -> Blob {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stored).unwrap();
        Blob {
            name: "layer 1".to_owned(),
            stored: Extent::whole(Source::new(file, "layer 1").unwrap()),
            size: Some(stored.len() as u64),
            digest: Some(Digest::of(stored)),
            diff_id: Some(Digest::of(CONTENT)),
        }
    }

    fn unpack(blob: &Blob, limit: u64) -> Result<Vec<u8>, LayerError> {
        let extent = Unpacker::new(std::env::temp_dir(), limit).unpack(blob, &mut |_| {})?;
        let mut bytes = Vec::new();
        extent.reader().read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    fn forms() -> Vec<Vec<u8>> {
        let split = [gzip(&CONTENT[..5]), gzip(&CONTENT[5..])].concat();
        let zstd = zstd::encode_all(CONTENT, 3).unwrap();
        vec![CONTENT.to_vec(), gzip(CONTENT), split, zstd]
    }

    #[test]
    fn every_form_of_an_archive_gives_the_archive() {
        for stored in forms() {
            assert_eq!(unpack(&blob(&stored), 1000).unwrap(), CONTENT);
        }
    }

    #[test]
    fn a_wrong_size_or_digest_of_either_side_is_refused() {
        for stored in forms() {
            type Lie = fn(&mut Blob);
            let wrong: [(&str, Lie); 3] = [
                ("size", |blob| blob.size = Some(1)),
                ("digest", |blob| blob.digest = Some(Digest::of(b"other"))),
                ("diff_id", |blob| blob.diff_id = Some(Digest::of(b"other"))),
            ];
            for (what, change) in wrong {
                let mut blob = blob(&stored);
                change(&mut blob);
                let error = unpack(&blob, 1000).unwrap_err();
                assert!(matches!(error, LayerError::Mismatch { .. }), "{error}");
                assert!(error.to_string().contains(what) && error.to_string().contains("layer 1"), "{error}");
            }
        }
    }

    #[test]
    fn the_limit_is_unpacked_and_one_byte_more_is_not() {
        for stored in forms() {
            assert!(unpack(&blob(&stored), CONTENT.len() as u64).is_ok());
            let error = unpack(&blob(&stored), CONTENT.len() as u64 - 1).unwrap_err();
            assert!(matches!(error, LayerError::Limit { limit: 33, .. }), "{error}");
        }
    }

    #[test]
    fn the_limit_holds_for_all_layers_together() {
        let mut unpacker = Unpacker::new(std::env::temp_dir(), 2 * CONTENT.len() as u64 - 1);
        assert!(unpacker.unpack(&blob(&forms()[1]), &mut |_| {}).is_ok());
        assert!(unpacker.unpack(&blob(&forms()[0]), &mut |_| {}).is_err());
    }

    #[test]
    fn damaged_and_truncated_streams_are_errors_that_name_the_layer() {
        for stored in &forms()[1..] {
            let mut damaged = stored.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0xff;
            for broken in [&damaged, &stored[..stored.len() - 3]] {
                let error = unpack(&blob(broken), 1000).unwrap_err();
                assert!(error.to_string().contains("layer 1"), "{error}");
            }
            let followed = [stored, &b"trailing bytes"[..]].concat();
            assert!(unpack(&blob(&followed), 1000).is_err());
        }
    }

    #[test]
    fn other_compressions_are_refused_by_name() {
        for (stored, name) in [(&b"BZh91AY&SY\0\0"[..], "bzip2"), (b"\xfd7zXZ\0\0\x04", "xz")] {
            assert!(unpack(&blob(stored), 1000).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn progress_counts_the_stored_bytes() {
        let stored = gzip(CONTENT);
        let mut seen = 0;
        Unpacker::new(std::env::temp_dir(), 1000).unpack(&blob(&stored), &mut |done| seen = done).unwrap();
        assert_eq!(seen, stored.len() as u64);
    }

    #[test]
    fn an_unwritable_folder_is_named() {
        let mut unpacker = Unpacker::new(PathBuf::from("/nonexistent"), 1000);
        let error = unpacker.unpack(&blob(&gzip(CONTENT)), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
