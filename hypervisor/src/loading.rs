//! The measured boot path: an image goes from its file into guest memory, every byte read once and hashed where it
//! came to lie, and nothing is started from it unless every check passed.
//!
//! docs/measured-boot.md walks through it. The steps, in order: the header's flags are ones we know; kernel and command
//! line go into a private buffer, ramdisks to their place in guest memory; sections, table and checksum are right; the
//! signature, if there is one or must be one, is good, in time, and over this very image; the memory suffices; then
//! kernel, command line and boot structures are written.

use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use attestation::pcr::{Measurements, Pcr};
use eif::certificate::{CertificateError, SigningCertificate};
use eif::header::{Flags, Header, SectionKind};
use eif::load::{LoadError, Loaded, Placement, Sink};
use eif::reader::{ChecksumError, ReadError, Section};
use eif::signature::{self, SignatureError};
use eif::unpacked::Unpacked;
use thiserror::Error;

use crate::arch::boot::{BootError, Kernel, RamRange};
use crate::memory::{GuestMemory, MemoryError};
use crate::messages::{BootSpec, EntryPoint};

/// Why an image is not started.
#[derive(Debug, Error)]
pub enum LoadingError {
    /// It cannot be read or is not put together as an image is.
    #[error(transparent)]
    Image(#[from] ReadError),
    /// Its checksum is wrong.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// It is for another architecture.
    #[error(
        "the image is for {image}, but this host is {}; build it for this architecture",
        std::env::consts::ARCH
    )]
    Architecture {
        /// What the header's flag says.
        image: &'static str,
    },
    /// It has header flags that have no public meaning, so that we could not say what we measured.
    #[error(
        "the image has header flags that this hypervisor does not know: {0}; it may need devices or measurements that \
         do not exist here. Build it without them"
    )]
    UnknownFlags(Flags),
    /// Its kernel cannot be booted, or not in this much memory.
    #[error(transparent)]
    Kernel(#[from] BootError),
    /// Its signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Its signing certificate is not valid now.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It had to be signed.
    #[error(
        "the image is not signed, but a signature is required; sign it, or start it without the requirement"
    )]
    Unsigned,
    /// It is signed, but by another certificate than the one required.
    #[error(
        "the image is signed with another certificate (PCR8 {found}) than the one required (PCR8 {required})"
    )]
    OtherSigner {
        /// PCR 8 of the image.
        found: Pcr,
        /// PCR 8 of an image signed as required.
        required: Pcr,
    },
    /// The certificate that is required is none.
    #[error("the certificate required cannot be read: {0}")]
    RequiredCertificate(#[source] CertificateError),
    /// Guest memory failed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A fault of this program.
    #[error("loading failed: {0}")]
    Internal(String),
}

/// What the operator decided about the start.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions<'o> {
    /// Virtual CPUs that the boot structures describe.
    pub vcpus: u32,
    /// The image must be signed with this certificate (DER).
    pub required_certificate: Option<&'o [u8]>,
    /// The time at which the signing certificate must be valid: now.
    pub at: SystemTime,
}

/// An image in guest memory, measured, checked and ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// PCR 0, 1, 2, and 8 if it is signed.
    pub measurements: Measurements,
    /// Where and how the machine starts.
    pub boot: BootSpec,
    /// What it is.
    pub image: ImageFacts,
    /// How long the steps took.
    pub timings: LoadTimings,
}

/// What is known of an image besides its measurements. Not its metadata, which nothing measures and which is not even parsed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of all ramdisks.
    pub ramdisk_bytes: u64,
    /// Bytes of guest memory that it needs.
    pub memory_needed: u64,
}

/// How long the steps of loading took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadTimings {
    /// Reading into memory and measuring, which happen at once.
    pub measuring: Duration,
    /// Checking the signature and writing the boot structures.
    pub placing: Duration,
}

/// Loads the image of `length` bytes that `image` yields into `memory`, which must be fresh. `progress` is told how
/// many bytes have been read.
///
/// # Errors
/// What is wrong with the image, or why it does not fit. The memory may have been written then and must be scrubbed.
pub fn load(
    image: impl Read,
    length: u64,
    memory: &mut GuestMemory,
    options: &LoadOptions<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<LoadedImage, LoadingError> {
    let required = options.required_certificate.map(|der| SigningCertificate::from_der(der.to_vec()));
    let required = required.transpose().map_err(LoadingError::RequiredCertificate)?;
    let began = Instant::now();
    let ranges = memory.ranges();
    let mut placer = Placer::new(memory, ranges, progress);
    let loaded = eif::load::load(image, length, &mut placer).map_err(from_load)?;
    let Placed { kernel, command_line, ramdisks, lengths } = placer.finish()?;
    let measured = Instant::now();

    loaded.checksum.check()?;
    let pcr8 = check_signature(&loaded, required.as_ref(), options.at)?;
    let ramdisk_bytes = ramdisks.map_or(0, |(_, length)| length);
    let memory_needed = kernel.memory_needed(ramdisk_bytes, unpacked(memory, ramdisks, &lengths)?);
    let available = memory.ranges().iter().map(|range| range.length).sum();
    if memory_needed > available {
        return Err(BootError::MemoryTooSmall { needed: memory_needed, available }.into());
    }
    let entry = place(&kernel, memory, &command_line, ramdisks, options.vcpus)?;
    Ok(LoadedImage {
        measurements: Measurements { pcr8, ..loaded.measurements.clone() },
        boot: BootSpec { regions: memory.regions().to_vec(), entry },
        image: ImageFacts { bytes: length, ramdisk_bytes, memory_needed },
        timings: LoadTimings { measuring: measured.duration_since(began), placing: measured.elapsed() },
    })
}

/// Bytes that the ramdisks unpack to, by their own word where they are compressed: it only tells whether the memory is enough.
fn unpacked(
    memory: &mut GuestMemory,
    ramdisks: Option<(u64, u64)>,
    lengths: &[u64],
) -> Result<u64, LoadingError> {
    let Some((address, total)) = ramdisks else { return Ok(0) };
    let (mut rest, mut sum) = (&*memory.bytes_mut(address, total)?, Unpacked::default());
    for length in lengths {
        let found = usize::try_from(*length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((ramdisk, others)) = found else { break };
        sum = sum.and(Unpacked::of_bytes(ramdisk));
        rest = others;
    }
    Ok(sum.bytes)
}

fn place(
    kernel: &Kernel,
    memory: &mut GuestMemory,
    command_line: &[u8],
    ramdisks: Option<(u64, u64)>,
    vcpus: u32,
) -> Result<EntryPoint, LoadingError> {
    Ok(kernel.place(memory.share()?, command_line, ramdisks, vcpus)?)
}

/// Checks the signature if there is one or must be one, and returns PCR 8 of a signed image.
fn check_signature(
    image: &Loaded,
    required: Option<&SigningCertificate>,
    at: SystemTime,
) -> Result<Option<Pcr>, LoadingError> {
    let Some(section) = &image.signature else {
        return if required.is_some() { Err(LoadingError::Unsigned) } else { Ok(None) };
    };
    let signed = signature::verify(section)?;
    signed.check_image(&image.measurements.pcr0)?;
    signed.certificate.check_dates(at)?;
    let found = signed.certificate.pcr8();
    match required {
        Some(required) if required.der() != signed.certificate.der() => {
            Err(LoadingError::OtherSigner { found, required: required.pcr8() })
        }
        _ => Ok(Some(found)),
    }
}

fn from_load(error: LoadError<LoadingError>) -> LoadingError {
    match error {
        LoadError::Read(error) => error.into(),
        LoadError::Sink(error) => error,
        LoadError::Placement { .. } | LoadError::Thread(_) => LoadingError::Internal(error.to_string()),
    }
}

/// Where the sections go: ramdisks one after the other in guest memory, kernel and command line into buffers of ours.
struct Placer<'d> {
    /// Until the ramdisks' place is known.
    memory: Option<&'d mut GuestMemory>,
    ranges: Vec<RamRange>,
    kernel: Option<Kernel>,
    command_line: Option<Vec<u8>>,
    /// Where the ramdisks begin, and their bytes so far.
    ramdisks: Option<(u64, u64)>,
    /// The bytes of each.
    lengths: Vec<u64>,
    /// What of the ramdisks' place is free.
    place: &'d mut [u8],
    progress: &'d mut dyn FnMut(u64),
}

struct Placed {
    kernel: Kernel,
    command_line: Vec<u8>,
    ramdisks: Option<(u64, u64)>,
    lengths: Vec<u64>,
}

impl<'d> Placer<'d> {
    fn new(memory: &'d mut GuestMemory, ranges: Vec<RamRange>, progress: &'d mut dyn FnMut(u64)) -> Self {
        let memory = Some(memory);
        let lengths = Vec::new();
        Self {
            memory,
            ranges,
            kernel: None,
            command_line: None,
            ramdisks: None,
            lengths,
            place: &mut [],
            progress,
        }
    }

    fn finish(self) -> Result<Placed, LoadingError> {
        // The reader has found both, or failed.
        let missing =
            || LoadingError::Internal("the image's kernel or command line was not handed over".to_owned());
        let kernel = self.kernel.ok_or_else(missing)?;
        let command_line = self.command_line.ok_or_else(missing)?;
        Ok(Placed { kernel, command_line, ramdisks: self.ramdisks, lengths: self.lengths })
    }

    fn ramdisk(&mut self, size: u64, data_ahead: u64) -> Result<Placement<'d>, LoadingError> {
        if let Some(memory) = self.memory.take() {
            // What else the image holds is not much; where it ends up is decided once, for all ramdisks.
            let at_most = size.saturating_add(data_ahead);
            let kernel = self
                .kernel
                .as_ref()
                .ok_or_else(|| LoadingError::Internal("a ramdisk came before the kernel".to_owned()))?;
            let address = kernel.initrd_address(&self.ranges, at_most)?;
            self.place = memory.bytes_mut(address, at_most)?;
            self.ramdisks = Some((address, 0));
        }
        let taken = usize::try_from(size).ok().and_then(|size| {
            let place = core::mem::take(&mut self.place);
            place.split_at_mut_checked(size)
        });
        let (Some((ramdisk, rest)), Some((_, total))) = (taken, self.ramdisks.as_mut()) else {
            return Err(LoadingError::Internal(
                "the ramdisks are larger than the section table said".to_owned(),
            ));
        };
        self.place = rest;
        *total = total.saturating_add(size);
        self.lengths.push(size);
        Ok(Placement::Into(ramdisk))
    }
}

impl<'d> Sink<'d> for Placer<'d> {
    type Error = LoadingError;

    fn start(&mut self, header: &Header) -> Result<(), LoadingError> {
        let image = if header.flags.is_aarch64() { "aarch64" } else { "x86_64" };
        if image != std::env::consts::ARCH {
            return Err(LoadingError::Architecture { image });
        }
        let unknown = header.flags.unknown();
        if unknown.is_empty() { Ok(()) } else { Err(LoadingError::UnknownFlags(unknown)) }
    }

    fn place(&mut self, section: &Section, data_ahead: u64) -> Result<Placement<'d>, LoadingError> {
        match section.kind {
            SectionKind::Ramdisk => self.ramdisk(section.size, data_ahead),
            _ => Ok(Placement::Collect),
        }
    }

    fn collected(&mut self, section: &Section, data: Vec<u8>) -> Result<(), LoadingError> {
        match section.kind {
            SectionKind::Kernel => self.kernel = Some(Kernel::parse(data)?),
            _ => self.command_line = Some(data),
        }
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        (self.progress)(bytes);
    }
}

#[cfg(test)]
mod tests;
