//! One pass over an image: every byte is read once, goes where the caller wants it, and is hashed on the way.
//!
//! Three threads share the work, so that the wall time is about that of one SHA-384 over the image: the caller's reads
//! and computes the checksum, one hashes for PCR 0 and 1, one for PCR 2. What is hashed is what has been placed: the
//! hashing threads see the very bytes in the destination, never the file.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use attestation::pcr::{Measurements, PCR_LEN};
use sha2::{Digest, Sha384};
use thiserror::Error;

use crate::hashing::{self, CHUNK, Chunk, Pool, Queues};
use crate::header::{Header, SectionKind};
use crate::measure::{Part, Parts};
use crate::reader::{Checksum, ReadError, Reader, Section, as_u64};

/// Bytes set aside at once for a section to be collected. A larger one grows with what is really there: a sparse or lying
/// file costs no memory.
const COLLECT_AT_ONCE: u64 = 64 << 20;

/// Where the data of a section go, besides into the hashes.
#[derive(Debug)]
pub enum Placement<'d> {
    /// Nowhere.
    MeasureOnly,
    /// Into memory of their own, handed over complete.
    Collect,
    /// Into this slice, which must be as long as the section's data.
    Into(&'d mut [u8]),
}

/// Takes an image apart while it is read.
pub trait Sink<'d> {
    /// Why it may stop the reading.
    type Error;

    /// The image header has been read; nothing else has.
    ///
    /// # Errors
    /// Stops the reading.
    fn start(&mut self, _header: &Header) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Says where the data of `section` go. `data_ahead` is how many bytes the later sections hold together.
    ///
    /// # Errors
    /// Stops the reading.
    fn place(&mut self, section: &Section, data_ahead: u64) -> Result<Placement<'d>, Self::Error>;

    /// Takes the data of a section for which [`Placement::Collect`] was said.
    ///
    /// # Errors
    /// Stops the reading.
    fn collected(&mut self, section: &Section, data: Vec<u8>) -> Result<(), Self::Error>;

    /// So many bytes of the image have been read.
    fn progress(&mut self, _bytes: u64) {}
}

/// Why an image was not read to its end.
#[derive(Debug, Error)]
pub enum LoadError<E> {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A slice was offered that is not as long as the section.
    #[error("{offered} bytes were offered for a section of {size}")]
    Placement {
        /// Bytes of the section's data.
        size: u64,
        /// Bytes of the slice.
        offered: usize,
    },
    /// A hashing thread could not be started.
    #[error("a thread for hashing cannot be started: {0}; check the limit on processes")]
    Thread(#[source] std::io::Error),
    /// The sink stopped the reading.
    #[error("{0}")]
    Sink(E),
}

/// An image that has been read to its end. Signature and checksum have not been judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image header.
    pub header: Header,
    /// The sections in file order.
    pub sections: Vec<Section>,
    /// The two checksums.
    pub checksum: Checksum,
    /// PCR 0, 1 and 2; PCR 8 is for [`crate::signature`] to tell.
    pub measurements: Measurements,
    /// The metadata section, if there is one.
    pub metadata: Option<Vec<u8>>,
    /// The signature section, if there is one.
    pub signature: Option<Vec<u8>>,
    /// The SHA-384 of each section's data, in file order, from [`measure`]; [`load`] makes none.
    pub digests: Vec<[u8; PCR_LEN]>,
}

/// Reads an image of `length` bytes into `sink`.
///
/// # Errors
/// If the image cannot be read or breaks a rule, or the sink stops it.
pub fn load<'d, R: Read, S: Sink<'d>>(
    source: R,
    length: u64,
    sink: &mut S,
) -> Result<Loaded, LoadError<S::Error>> {
    read(source, length, sink, false)
}

fn read<'d, R: Read, S: Sink<'d>>(
    source: R,
    length: u64,
    sink: &mut S,
    digests: bool,
) -> Result<Loaded, LoadError<S::Error>> {
    let reader = Reader::new(source, length)?;
    sink.start(reader.header()).map_err(LoadError::Sink)?;
    thread::scope(|scope| {
        let (queues, threads) = hashing::scoped(scope, digests).map_err(LoadError::Thread)?;
        // The queues close when this returns, well or not, which ends both threads.
        let passed = pass(reader, sink, Hashers { queues, buffers: Pool::default() });
        let (measurements, measured_digests) = threads.finish();
        passed.map(|passed| {
            let digests = if digests { passed.digests(measured_digests) } else { Vec::new() };
            passed.measured(measurements, digests)
        })
    })
}

/// Reads and measures an image, and keeps nothing of it but what [`Loaded`] holds.
///
/// # Errors
/// If the image cannot be read or breaks a rule.
pub fn measure<R: Read>(source: R, length: u64) -> Result<Loaded, LoadError<core::convert::Infallible>> {
    read(source, length, &mut Nowhere, true)
}

struct Nowhere;

impl Sink<'_> for Nowhere {
    type Error = core::convert::Infallible;

    fn place(&mut self, _section: &Section, _data_ahead: u64) -> Result<Placement<'static>, Self::Error> {
        Ok(Placement::MeasureOnly)
    }

    fn collected(&mut self, _section: &Section, _data: Vec<u8>) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The way to the hashing threads.
struct Hashers<'d> {
    queues: Queues<'d>,
    /// For data that pass through.
    buffers: Pool,
}

/// What the reading thread alone has found.
struct Passed {
    header: Header,
    sections: Vec<Section>,
    checksum: Checksum,
    metadata: Option<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

impl Passed {
    fn measured(self, measurements: Measurements, digests: Vec<[u8; PCR_LEN]>) -> Loaded {
        let Self { header, sections, checksum, metadata, signature } = self;
        Loaded { header, sections, checksum, measurements, metadata, signature, digests }
    }

    /// The digests of all sections in their order: those of the measured ones are given, the others are at hand.
    fn digests(&self, measured: Vec<[u8; PCR_LEN]>) -> Vec<[u8; PCR_LEN]> {
        let mut measured = measured.into_iter();
        let kept = |data: &Option<Vec<u8>>| Sha384::digest(data.as_deref().unwrap_or_default()).into();
        let digests = self.sections.iter().map(|section| match section.kind {
            SectionKind::Metadata => Some(kept(&self.metadata)),
            SectionKind::Signature => Some(kept(&self.signature)),
            _ => measured.next(),
        });
        digests.flatten().collect()
    }
}

fn pass<'d, R: Read, S: Sink<'d>>(
    mut reader: Reader<R>,
    sink: &mut S,
    mut hashers: Hashers<'d>,
) -> Result<Passed, LoadError<S::Error>> {
    let mut parts = Parts::default();
    let (mut metadata, mut signature) = (None, None);
    while let Some(section) = reader.next_section()? {
        match parts.next(section.kind) {
            Some(part) => measured_section(&mut reader, sink, &mut hashers, &section, part)?,
            None if section.kind == SectionKind::Metadata => {
                metadata = Some(unmeasured_section(&mut reader)?)
            }
            None => signature = Some(unmeasured_section(&mut reader)?),
        }
        sink.progress(reader.position());
    }
    let summary = reader.finish()?;
    Ok(Passed {
        header: summary.header,
        sections: summary.sections,
        checksum: summary.checksum,
        metadata,
        signature,
    })
}

fn measured_section<'d, R: Read, S: Sink<'d>>(
    reader: &mut Reader<R>,
    sink: &mut S,
    hashers: &mut Hashers<'d>,
    section: &Section,
    part: Part,
) -> Result<(), LoadError<S::Error>> {
    hashers.queues.begin(part);
    match sink.place(section, reader.data_ahead()).map_err(LoadError::Sink)? {
        Placement::Into(slice) => {
            if as_u64(slice.len()) != section.size {
                return Err(LoadError::Placement { size: section.size, offered: slice.len() });
            }
            read_into(reader, sink, hashers, slice, part)
        }
        Placement::MeasureOnly => read_through(reader, sink, hashers, part, None),
        Placement::Collect => {
            let mut data = Vec::new();
            data.reserve_exact(usize::try_from(section.size.min(COLLECT_AT_ONCE)).unwrap_or(0));
            read_through(reader, sink, hashers, part, Some(&mut data))?;
            sink.collected(section, data).map_err(LoadError::Sink)
        }
    }
}

fn read_into<'d, R: Read, S: Sink<'d>>(
    reader: &mut Reader<R>,
    sink: &mut S,
    hashers: &Hashers<'d>,
    slice: &'d mut [u8],
    part: Part,
) -> Result<(), LoadError<S::Error>> {
    for chunk in slice.chunks_mut(CHUNK) {
        reader.read(chunk)?;
        hashers.queues.hash(part, Chunk::Placed(chunk));
        sink.progress(reader.position());
    }
    Ok(())
}

fn read_through<'d, R: Read, S: Sink<'d>>(
    reader: &mut Reader<R>,
    sink: &mut S,
    hashers: &mut Hashers<'d>,
    part: Part,
    mut copy: Option<&mut Vec<u8>>,
) -> Result<(), LoadError<S::Error>> {
    while reader.remaining() > 0 {
        let mut buffer = hashers.buffers.take();
        // Nobody else holds it, so this clones nothing.
        let bytes = Arc::make_mut(&mut buffer);
        bytes.resize(chunk_length(reader.remaining()), 0);
        reader.read(bytes)?;
        if let Some(copy) = &mut copy {
            copy.extend_from_slice(&buffer);
        }
        hashers.queues.hash(part, Chunk::Passing(Arc::clone(&buffer)));
        hashers.buffers.give(buffer);
        sink.progress(reader.position());
    }
    Ok(())
}

/// How much to read when so much is left.
fn chunk_length(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
}

/// The data of a section that is small by the rules and not measured.
fn unmeasured_section<R: Read>(reader: &mut Reader<R>) -> Result<Vec<u8>, ReadError> {
    // Grows with what is really there: a sparse or lying file costs no memory.
    let mut data = Vec::new();
    while reader.remaining() > 0 {
        let filled = data.len();
        data.resize(filled.saturating_add(chunk_length(reader.remaining())), 0);
        reader.read(data.split_at_mut(filled).1)?;
    }
    Ok(data)
}
