//! An image read once, front to back, from anything that can be read and whose length is known.
//!
//! The section table is followed: sections may come in any order the rules allow and with gaps between them. Every
//! byte that passes goes into the checksum. Nothing the file says is used before it has been checked.

use std::io::{self, ErrorKind, Read};

use thiserror::Error;

use crate::header::{
    CHECKED_HEADER_LEN, HEADER_LEN, Header, HeaderError, SECTION_HEADER_LEN, SectionHeader, SectionKind,
};
use crate::rules::{RuleError, Rules};

/// Bytes of gap that are read at a time.
const GAP_CHUNK: usize = 64 << 10;

/// Why an image cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("the image cannot be read: {0}")]
    Io(#[source] io::Error),
    /// The file ends early, or became shorter while it was read.
    #[error("the image is truncated: it ends after {at} bytes, inside {inside}; copy or build it again")]
    Truncated {
        /// Bytes there were.
        at: u64,
        /// What should have continued there.
        inside: &'static str,
    },
    /// The image header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A section begins before the end of what precedes it.
    #[error("section {index} begins at {offset}, inside what precedes it, which ends at {previous_end}")]
    Overlap {
        /// Place of the section in the table.
        index: usize,
        /// Where it begins.
        offset: u64,
        /// Where the header or the section before it ends.
        previous_end: u64,
    },
    /// A section ends beyond the end of the file.
    #[error(
        "section {index} ({size} bytes at {offset}) ends beyond the image's {length} bytes; the image is truncated or \
         its section table is wrong"
    )]
    Beyond {
        /// Place of the section in the table.
        index: usize,
        /// Where it begins.
        offset: u64,
        /// Bytes of data that it announces.
        size: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// Bytes follow the last section.
    #[error("{0} bytes follow the last section; an image ends with its last section")]
    Trailing(u64),
    /// Table and section header disagree.
    #[error("section {index} has {table} bytes by the section table, but {header} by its own header")]
    SizeMismatch {
        /// Place of the section in the table.
        index: usize,
        /// Bytes by the table.
        table: u64,
        /// Bytes by the header before the data.
        header: u64,
    },
    /// A section of a kind that does not exist.
    #[error("section {index} has the unknown type {code}; types 1 to 5 exist")]
    UnknownKind {
        /// Place of the section in the table.
        index: usize,
        /// The type in its header.
        code: u16,
    },
    /// The sections make no image.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// One section of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Place in the section table.
    pub index: usize,
    /// What it holds.
    pub kind: SectionKind,
    /// Reserved bits of its header.
    pub flags: u16,
    /// Where its header begins in the file.
    pub offset: u64,
    /// Bytes of its data.
    pub size: u64,
}

/// The checksum in the header beside that of the bytes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// What the header says.
    pub stored: u32,
    /// What the file comes to.
    pub computed: u32,
}

/// The file is not what its builder wrote.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the image is damaged: its checksum is {:08x}, its header says {:08x}; copy or build it again", .0.computed, .0.stored
)]
pub struct ChecksumError(pub Checksum);

impl Checksum {
    /// True if they agree.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.stored == self.computed
    }

    /// Nothing if they agree.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(self) -> Result<(), ChecksumError> {
        if self.matches() { Ok(()) } else { Err(ChecksumError(self)) }
    }
}

/// An image being read. Sections come one by one in file order.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    /// Offset and size of each section, known to be ascending, disjoint and inside the file.
    table: Vec<(u64, u64)>,
    rules: Rules,
    sections: Vec<Section>,
    /// Bytes of the file read so far.
    position: u64,
    /// Bytes of the current section's data not read yet.
    remaining: u64,
    checksum: crc32fast::Hasher,
}

impl<R: Read> Reader<R> {
    /// Reads the header of an image of `length` bytes and checks its section table.
    ///
    /// # Errors
    /// If the source fails, or the header or the table is wrong.
    pub fn new(mut source: R, length: u64) -> Result<Self, ReadError> {
        let mut bytes = [0; HEADER_LEN];
        let got = read_fully(&mut source, &mut bytes)?;
        if got < HEADER_LEN {
            return Err(ReadError::Truncated { at: as_u64(got), inside: "the image header" });
        }
        let header = Header::decode(&bytes)?;
        let table = check_table(&header, length)?;
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(bytes.split_at(CHECKED_HEADER_LEN).0);
        let (rules, sections) = (Rules::default(), Vec::with_capacity(table.len()));
        Ok(Self {
            source,
            header,
            table,
            rules,
            sections,
            position: as_u64(HEADER_LEN),
            remaining: 0,
            checksum,
        })
    }

    /// The image header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Sections that have come.
    pub fn sections_read(&self) -> usize {
        self.sections.len()
    }

    /// Bytes of the image read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the current section's data that have not been read.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Bytes of data in the sections that have not come yet.
    pub fn data_ahead(&self) -> u64 {
        // The table fits in the file, so the sum fits.
        self.table.iter().skip(self.sections.len()).map(|(_, size)| size).sum()
    }

    /// Goes to the next section; what was not read of the current one passes through the checksum. `None` after the
    /// last, when everything has been read and the set of sections found complete.
    ///
    /// # Errors
    /// If the source fails or ends, or the section breaks a rule.
    pub fn next_section(&mut self) -> Result<Option<Section>, ReadError> {
        self.advance(&mut |_| Ok(()))
    }

    /// Like [`Reader::next_section`], and hands the bytes of the gap before the section to `gap`, piece by piece.
    ///
    /// # Errors
    /// As [`Reader::next_section`], and what `gap` returns.
    pub fn next_section_with_gap(
        &mut self,
        mut gap: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<Section>, ReadError> {
        self.advance(&mut gap)
    }

    fn advance(
        &mut self,
        gap: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<Section>, ReadError> {
        self.skip(self.remaining, "a section's data", &mut |_| Ok(()))?;
        self.remaining = 0;
        let index = self.sections.len();
        let Some(&(offset, size)) = self.table.get(index) else {
            self.rules.complete(self.header.version)?;
            return Ok(None);
        };
        self.skip(offset.saturating_sub(self.position), "the gap before a section", gap)?;
        let section = self.section_header(index, offset, size)?;
        self.remaining = size;
        self.sections.push(section.clone());
        Ok(Some(section))
    }

    fn section_header(&mut self, index: usize, offset: u64, size: u64) -> Result<Section, ReadError> {
        let mut bytes = [0; SECTION_HEADER_LEN];
        self.read_exactly(&mut bytes, "a section header")?;
        let header = SectionHeader::decode(&bytes);
        let kind =
            SectionKind::from_code(header.code).ok_or(ReadError::UnknownKind { index, code: header.code })?;
        if header.size != size {
            return Err(ReadError::SizeMismatch { index, table: size, header: header.size });
        }
        self.rules.admit(kind, size)?;
        Ok(Section { index, kind, flags: header.flags, offset, size })
    }

    /// Reads data of the current section until `buffer` is full or the data ends, and returns how much it was.
    ///
    /// # Errors
    /// If the source fails, or ends before the section does.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let wanted =
            usize::try_from(self.remaining).map_or(buffer.len(), |remaining| remaining.min(buffer.len()));
        let (wanted_part, _) = buffer.split_at_mut(wanted);
        self.read_exactly(wanted_part, "a section's data")?;
        self.remaining = self.remaining.saturating_sub(as_u64(wanted));
        Ok(wanted)
    }

    /// What was read, once [`Reader::next_section`] has returned `None`; reads the rest first if it has not.
    ///
    /// # Errors
    /// As [`Reader::next_section`].
    pub fn finish(mut self) -> Result<Summary, ReadError> {
        while self.next_section()?.is_some() {}
        let checksum = Checksum { stored: self.header.crc32, computed: self.checksum.finalize() };
        Ok(Summary { header: self.header, sections: self.sections, checksum })
    }

    fn read_exactly(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<(), ReadError> {
        let got = read_fully(&mut self.source, buffer)?;
        self.position = self.position.saturating_add(as_u64(got));
        if got < buffer.len() {
            return Err(ReadError::Truncated { at: self.position, inside });
        }
        self.checksum.update(buffer);
        Ok(())
    }

    fn skip(
        &mut self,
        bytes: u64,
        inside: &'static str,
        seen: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let mut left = bytes;
        let mut buffer = Vec::new();
        while left > 0 {
            buffer.resize(usize::try_from(left).map_or(GAP_CHUNK, |left| left.min(GAP_CHUNK)), 0);
            self.read_exactly(&mut buffer, inside)?;
            seen(&buffer).map_err(ReadError::Io)?;
            left = left.saturating_sub(as_u64(buffer.len()));
        }
        Ok(())
    }
}

/// What there was in an image that has been read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The image header.
    pub header: Header,
    /// The sections in file order.
    pub sections: Vec<Section>,
    /// The two checksums. That they agree is for the caller to demand: a description shows a wrong one.
    pub checksum: Checksum,
}

/// Offset and size of each section, once they are known to be ascending, disjoint and to end where the file does.
fn check_table(header: &Header, length: u64) -> Result<Vec<(u64, u64)>, ReadError> {
    let entries = header.section_offsets.iter().copied().zip(header.section_sizes);
    let table: Vec<(u64, u64)> = entries.take(usize::from(header.section_count)).collect();
    let mut end = as_u64(HEADER_LEN);
    for (index, &(offset, size)) in table.iter().enumerate() {
        if offset < end {
            return Err(ReadError::Overlap { index, offset, previous_end: end });
        }
        end = offset
            .checked_add(as_u64(SECTION_HEADER_LEN))
            .and_then(|data| data.checked_add(size))
            .filter(|end| *end <= length)
            .ok_or(ReadError::Beyond { index, offset, size, length })?;
    }
    match length.checked_sub(end) {
        Some(0) => Ok(table),
        Some(trailing) => Err(ReadError::Trailing(trailing)),
        None => Err(ReadError::Truncated { at: length, inside: "the image header" }),
    }
}

/// Reads until `buffer` is full or the source ends.
fn read_fully(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(filled)
}

/// Lengths in memory fit in 64 bits on every platform there is.
pub(crate) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
