//! An image written again: as it is, or with a signature put in, replaced or taken out.
//!
//! One pass, nothing held in memory but the signature and one gap. All other sections stay byte for byte and in their order; reserved
//! fields, flags that nobody knows, and the gaps before the other sections are kept. A new signature stands last. Offsets,
//! sizes and checksum are made anew for what was written, so a longer or shorter signature leaves no trace of the old one.

use std::io::{self, Read, Seek, Write};

use attestation::pcr::Pcr;
use thiserror::Error;

use crate::header::{Header, OLDEST_SIGNED_VERSION, SectionKind};
use crate::reader::{ChecksumError, ReadError, Reader, Section};
use crate::sign::SignError;
use crate::writer::{WriteError, Writer, Written};

/// Bytes copied at a time.
const COPY_CHUNK: usize = 256 << 10;

/// Most bytes of a gap: it is held until it is known which section follows. Gaps seen in the wild have 64 bytes.
pub const MAX_GAP: usize = 1 << 20;

/// Why an image cannot be written again.
#[derive(Debug, Error)]
pub enum RewriteError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The image is damaged: what was signed would not be what was built.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// The output failed, the sections make no image, or it cannot be signed so.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The format of that time had no signatures.
    #[error(
        "image format version {0} has no signatures (version {OLDEST_SIGNED_VERSION} and newer have); build the image again"
    )]
    Version(u16),
    /// More lies between two sections than anybody had a reason for.
    #[error("section {0} comes after a gap of more than {MAX_GAP} bytes; build the image again without it")]
    Gap(usize),
}

/// Writes an image again. If the original's checksum is right the copy is the same byte for byte.
///
/// # Errors
/// If the image cannot be read or the output fails.
pub fn copy<R: Read, W: Write + Seek>(source: R, length: u64, output: W) -> Result<Written<W>, RewriteError> {
    let reader = Reader::new(source, length)?;
    let mut writer = Writer::new(output, reader.header().clone())?;
    copy_sections(reader, &mut writer, |_| true)?;
    Ok(writer.finish()?)
}

/// Writes an image with the signature section that `section` makes for its PCR 0, in place of the one it has, if any.
///
/// # Errors
/// If the image cannot be read or is damaged, the output fails, or what `section` returns.
pub fn sign<R: Read, W: Write + Seek>(
    source: R,
    length: u64,
    output: W,
    section: impl FnOnce(&Pcr) -> Result<Vec<u8>, SignError>,
) -> Result<Written<W>, RewriteError> {
    let reader = Reader::new(source, length)?;
    if reader.header().version < OLDEST_SIGNED_VERSION {
        return Err(RewriteError::Version(reader.header().version));
    }
    Ok(without_signature(reader, output)?.finish_signed(section)?)
}

/// Writes an image without its signature. An image that has none comes out as it is.
///
/// # Errors
/// If the image cannot be read or is damaged, or the output fails.
pub fn unsign<R: Read, W: Write + Seek>(
    source: R,
    length: u64,
    output: W,
) -> Result<Written<W>, RewriteError> {
    Ok(without_signature(Reader::new(source, length)?, output)?.finish()?)
}

/// All sections but the signature, written once the checksum has been found right.
fn without_signature<R: Read, W: Write + Seek>(
    reader: Reader<R>,
    output: W,
) -> Result<Writer<W>, RewriteError> {
    let header = without_used_entries(reader.header().clone());
    let mut writer = Writer::new(output, header)?;
    copy_sections(reader, &mut writer, |section| section.kind != SectionKind::Signature)?.checksum.check()?;
    Ok(writer)
}

/// The header with the entries of its sections taken out: fewer sections may be written than there were.
fn without_used_entries(mut header: Header) -> Header {
    let used = usize::from(header.section_count);
    let tables = header.section_offsets.iter_mut().zip(&mut header.section_sizes);
    tables.take(used).for_each(|(offset, size)| (*offset, *size) = (0, 0));
    header
}

/// Copies the sections that are wanted, each with the gap before it.
fn copy_sections<R: Read, W: Write + Seek>(
    mut reader: Reader<R>,
    writer: &mut Writer<W>,
    wanted: impl Fn(&Section) -> bool,
) -> Result<crate::reader::Summary, RewriteError> {
    let mut buffer = vec![0; COPY_CHUNK];
    loop {
        let mut gap = Vec::new();
        let section = reader.next_section_with_gap(|bytes| {
            if gap.len().saturating_add(bytes.len()) > MAX_GAP {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            gap.extend_from_slice(bytes);
            Ok(())
        });
        let section = match section {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(RewriteError::Gap(reader.sections_read()));
            }
            other => other?,
        };
        let Some(section) = section else { break };
        if !wanted(&section) {
            continue;
        }
        writer.gap(&gap)?;
        let mut copy = writer.begin(section.kind, section.flags)?;
        loop {
            let count = reader.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            copy.put(buffer.get(..count).unwrap_or_default()).map_err(WriteError::Output)?;
        }
        copy.finish()?;
    }
    Ok(reader.finish()?)
}
