//! Where two images differ first.

use core::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};

use eif::header::{HEADER_LEN, Header, SECTION_HEADER_LEN, SectionHeader, SectionKind};

/// Bytes compared at a time.
const CHUNK: usize = 256 << 10;

/// The first difference between two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Bytes before it.
    pub offset: u64,
    /// What it lies in, in the first of the two.
    pub place: Place,
}

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The image's header, with the checksum.
    Header,
    /// A section, counted from 1.
    Section(usize, SectionKind),
    /// Elsewhere: behind the last section of the first image.
    Elsewhere,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from byte {}, ", self.offset)?;
        match self.place {
            Place::Header => f.write_str("in the header"),
            Place::Section(number, kind) => write!(f, "in section {number} ({kind})"),
            Place::Elsewhere => f.write_str("behind the last section"),
        }
    }
}

/// Compares two images byte for byte. The header is compared last: it differs with everything else.
///
/// # Errors
/// If one cannot be read.
pub fn compare(mut one: &File, mut other: &File) -> io::Result<Option<Difference>> {
    let found = first_from(one, other, HEADER_LEN as u64)?;
    let found = if found.is_none() { first_from(one, other, 0)? } else { found };
    one.rewind()?;
    other.rewind()?;
    Ok(match found {
        Some(offset) => Some(Difference { offset, place: place(one, offset)? }),
        None => None,
    })
}

fn first_from(mut one: &File, mut other: &File, from: u64) -> io::Result<Option<u64>> {
    for mut file in [one, other] {
        file.seek(io::SeekFrom::Start(from))?;
    }
    let mut offset = from;
    loop {
        let (a, b) = (chunk(&mut one)?, chunk(&mut other)?);
        let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        offset = offset.saturating_add(same as u64);
        if same < a.len().max(b.len()) {
            return Ok(Some(offset));
        }
        if a.is_empty() {
            return Ok(None);
        }
    }
}

fn chunk(file: &mut &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The part of an image that a byte lies in.
fn place(mut image: &File, offset: u64) -> io::Result<Place> {
    if offset < HEADER_LEN as u64 {
        return Ok(Place::Header);
    }
    let mut header = [0; HEADER_LEN];
    image.read_exact(&mut header)?;
    let Ok(header) = Header::decode(&header) else { return Ok(Place::Header) };
    let sections = header.section_offsets.iter().zip(header.section_sizes).take(header.section_count.into());
    for (number, (start, size)) in (1..).zip(sections) {
        let end = start.saturating_add(SECTION_HEADER_LEN as u64).saturating_add(size);
        if (*start..end).contains(&offset) {
            let mut section = [0; SECTION_HEADER_LEN];
            image.seek(io::SeekFrom::Start(*start))?;
            image.read_exact(&mut section)?;
            let kind = SectionKind::from_code(SectionHeader::decode(&section).code);
            return Ok(kind.map_or(Place::Elsewhere, |kind| Place::Section(number, kind)));
        }
    }
    Ok(Place::Elsewhere)
}
