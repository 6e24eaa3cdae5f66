//! What a ramdisk holds, as a list: every entry, and the hash of every file's content.

use std::io::BufRead;

use sha2::{Digest, Sha384};

use super::{Compression, Entry, Kind, Limits, NewcError, Reader};

/// Bytes hashed at a time.
const CHUNK: usize = 64 << 10;

/// An entry, and the SHA-384 of its content if it is a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The entry.
    pub entry: Entry,
    /// The SHA-384 of a file's content.
    pub digest: Option<[u8; 48]>,
}

/// What was found in a ramdisk.
#[derive(Debug, Default)]
pub struct Listing {
    /// How its archives are compressed, each way once.
    pub compressions: Vec<Compression>,
    /// The entries, in their order.
    pub entries: Vec<Listed>,
    /// Why it could not be read to its end, if so; the entries are those before that.
    pub failure: Option<NewcError>,
}

/// Lists a ramdisk as far as it can be read.
pub fn list(source: impl BufRead, limits: Limits) -> Listing {
    let mut reader = Reader::new(source, limits);
    let mut entries = Vec::new();
    let failure = collect(&mut reader, &mut entries).err();
    Listing { compressions: reader.compressions().to_vec(), entries, failure }
}

fn collect<R: BufRead>(reader: &mut Reader<R>, entries: &mut Vec<Listed>) -> Result<(), NewcError> {
    let mut buffer = vec![0; CHUNK];
    while let Some(entry) = reader.next_entry()? {
        let digest =
            if entry.kind() == Kind::File { Some(content_digest(reader, &mut buffer)?) } else { None };
        entries.push(Listed { entry, digest });
    }
    Ok(())
}

/// SHA-384 of the content of the entry at hand, read through `buffer`.
pub(crate) fn content_digest<R: BufRead>(
    reader: &mut Reader<R>,
    buffer: &mut [u8],
) -> Result<[u8; 48], NewcError> {
    let mut hasher = Sha384::new();
    loop {
        let count = reader.read(buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}
