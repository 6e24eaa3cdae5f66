//! An image written front to back, checksum and measurements taken on the way, on threads of their own.
//!
//! The section table and the checksum stand in the header, so the output must be seekable: headers are filled in when
//! what they describe is known.

use std::io::{self, Read, Seek, SeekFrom, Write};

use attestation::pcr::{Measurements, Pcr};
use thiserror::Error;

use crate::hashing::Threads;
use crate::header::{
    CHECKED_HEADER_LEN, HEADER_LEN, Header, MAX_SECTIONS, SECTION_HEADER_LEN, SectionHeader, SectionKind,
};
use crate::measure::{Part, Parts};
use crate::reader::as_u64;
use crate::rules::{RuleError, Rules, check_size};
use crate::sign::SignError;

/// Bytes copied at a time.
const COPY_CHUNK: usize = 256 << 10;

/// Why an image cannot be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The output failed.
    #[error("the image cannot be written: {0}")]
    Output(#[source] io::Error),
    /// What a section is made from failed.
    #[error("the data of the {kind} section cannot be read: {source}")]
    Input {
        /// What the section holds.
        kind: SectionKind,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The sections make no image.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A hashing thread could not be started.
    #[error("a thread for hashing cannot be started: {0}; check the limit on processes")]
    Thread(#[source] io::Error),
    /// The image cannot be signed so.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// One section too many.
    #[error("an image holds at most {MAX_SECTIONS} sections")]
    TooManySections,
}

/// An image being written.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    header: Header,
    rules: Rules,
    parts: Parts,
    /// Until everything that is measured has been written.
    hashers: Option<Threads>,
    /// Bytes written, the header included.
    position: u64,
    sections: usize,
    /// Checksum of everything after the image header.
    body: crc32fast::Hasher,
}

/// An image that is complete.
#[derive(Debug)]
pub struct Written<W> {
    /// The output, positioned anywhere.
    pub output: W,
    /// The header as written.
    pub header: Header,
    /// PCR 0, 1 and 2.
    pub measurements: Measurements,
    /// Bytes of the image.
    pub length: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an image at the start of `output`. Everything of `header` is kept but its sections and checksum, which
    /// are filled in; what stands in the unused part of its tables is kept as well.
    ///
    /// # Errors
    /// If the output fails, or no thread can be started.
    pub fn new(mut output: W, header: Header) -> Result<Self, WriteError> {
        output.write_all(&[0; HEADER_LEN]).map_err(WriteError::Output)?;
        Ok(Self {
            output,
            header,
            rules: Rules::default(),
            parts: Parts::default(),
            hashers: Some(Threads::start().map_err(WriteError::Thread)?),
            position: as_u64(HEADER_LEN),
            sections: 0,
            body: crc32fast::Hasher::new(),
        })
    }

    /// Writes bytes that belong to no section.
    ///
    /// # Errors
    /// If the output fails.
    pub fn gap(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.output.write_all(bytes).map_err(WriteError::Output)?;
        self.body.update(bytes);
        self.position = self.position.saturating_add(as_u64(bytes.len()));
        Ok(())
    }

    /// Writes a section whose data is all that `data` yields, and returns how many bytes that was.
    ///
    /// # Errors
    /// If either end fails or the section may not come here.
    pub fn section(&mut self, kind: SectionKind, mut data: impl Read) -> Result<u64, WriteError> {
        let mut section = self.begin(kind, 0)?;
        let mut buffer = vec![0; COPY_CHUNK];
        loop {
            let count = match data.read(&mut buffer) {
                Ok(0) => return section.finish(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Input { kind, source }),
            };
            section.put(buffer.get(..count).unwrap_or_default()).map_err(WriteError::Output)?;
        }
    }

    /// Begins a section; its data are what is then written to it.
    ///
    /// # Errors
    /// If the output fails or the table is full.
    pub fn begin(&mut self, kind: SectionKind, flags: u16) -> Result<SectionWriter<'_, W>, WriteError> {
        if self.sections >= MAX_SECTIONS {
            return Err(WriteError::TooManySections);
        }
        // The size is not known yet; the rules about the order and number are.
        self.rules.admit(kind, 0)?;
        self.output.write_all(&[0; SECTION_HEADER_LEN]).map_err(WriteError::Output)?;
        let part = self.parts.next(kind);
        Ok(SectionWriter { image: self, kind, flags, part, size: 0, data: crc32fast::Hasher::new() })
    }

    /// Completes the image: checks that nothing is missing and fills in its header.
    ///
    /// # Errors
    /// If the output fails or a section is missing.
    pub fn finish(mut self) -> Result<Written<W>, WriteError> {
        let measurements = self.end_measuring();
        self.complete(measurements)
    }

    /// Like [`Writer::finish`], after a last section: the signature that `section` makes for this PCR 0.
    ///
    /// # Errors
    /// As [`Writer::finish`], and what `section` returns.
    pub fn finish_signed(
        mut self,
        section: impl FnOnce(&Pcr) -> Result<Vec<u8>, SignError>,
    ) -> Result<Written<W>, WriteError> {
        let measurements = self.end_measuring();
        let signature = section(&measurements.pcr0)?;
        self.section(SectionKind::Signature, signature.as_slice())?;
        self.complete(measurements)
    }

    /// Nothing that is measured may follow.
    fn end_measuring(&mut self) -> Measurements {
        let empty = Measurements { pcr0: Pcr::ZERO, pcr1: Pcr::ZERO, pcr2: Pcr::ZERO, pcr8: None };
        self.hashers.take().map_or(empty, Threads::finish)
    }

    fn complete(mut self, measurements: Measurements) -> Result<Written<W>, WriteError> {
        self.rules.complete(self.header.version)?;
        self.header.section_count = u16::try_from(self.sections).unwrap_or(u16::MAX);
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(self.header.encode().split_at(CHECKED_HEADER_LEN).0);
        checksum.combine(&self.body);
        self.header.crc32 = checksum.finalize();
        self.overwrite(0, &self.header.encode())?;
        self.output.flush().map_err(WriteError::Output)?;
        let (output, header, length) = (self.output, self.header, self.position);
        Ok(Written { output, header, measurements, length })
    }

    /// Fills in something before the end, and returns to the end.
    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let mut overwrite = || {
            self.output.seek(SeekFrom::Start(offset))?;
            self.output.write_all(bytes)?;
            self.output.seek(SeekFrom::Start(self.position)).map(drop)
        };
        overwrite().map_err(WriteError::Output)
    }
}

/// The data of one section being written. Without [`SectionWriter::finish`] the image stays incomplete.
#[derive(Debug)]
pub struct SectionWriter<'w, W> {
    image: &'w mut Writer<W>,
    kind: SectionKind,
    flags: u16,
    part: Option<Part>,
    size: u64,
    data: crc32fast::Hasher,
}

impl<W: Write + Seek> SectionWriter<'_, W> {
    pub(crate) fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.image.output.write_all(data)?;
        self.data.update(data);
        if let (Some(part), Some(hashers)) = (self.part, &mut self.image.hashers) {
            hashers.update(part, data);
        }
        self.size = self.size.saturating_add(as_u64(data.len()));
        Ok(())
    }

    /// Ends the section, enters it in the table, and returns how many bytes its data has.
    ///
    /// # Errors
    /// If the output fails or the section has become too large.
    pub fn finish(self) -> Result<u64, WriteError> {
        let Self { image, kind, flags, size, data, .. } = self;
        check_size(kind, size)?;
        let header = SectionHeader { code: kind.code(), flags, size }.encode();
        let offset = image.position;
        image.position = offset.saturating_add(as_u64(SECTION_HEADER_LEN)).saturating_add(size);
        image.overwrite(offset, &header)?;
        image.body.update(&header);
        image.body.combine(&data);
        let tables = image.header.section_offsets.iter_mut().zip(&mut image.header.section_sizes);
        for (table_offset, table_size) in tables.skip(image.sections).take(1) {
            (*table_offset, *table_size) = (offset, size);
        }
        image.sections = image.sections.saturating_add(1);
        Ok(size)
    }
}

impl<W: Write + Seek> Write for SectionWriter<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.put(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.image.output.flush()
    }
}
