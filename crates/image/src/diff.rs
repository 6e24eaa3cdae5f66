//! Why two images have different PCRs: section by section, then file by file inside the ramdisks, and which registers
//! each difference moves.
//!
//! PCR 0 measures everything that is measured; PCR 1 kernel, command line and first ramdisk; PCR 2 the other ramdisks; PCR 8 the
//! signing certificate. Metadata, header and the signature itself move none.

mod files;
mod metadata;

use attestation::pcr::Measurements;
use eif::certificate::SigningCertificate;
use eif::header::{Header, SectionKind};
use eif::load::Loaded;
use eif::reader::Section;
use serde::Serialize;

pub use self::files::{FileChange, FileDifference};
pub use self::metadata::KeyDifference;
use crate::contents::Contents;

/// An image that has been measured and looked into.
#[derive(Debug)]
pub struct Image {
    /// What was measured of it.
    pub loaded: Loaded,
    /// What is inside.
    pub contents: Contents,
}

/// A value in the first and in the second image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct Pair<T> {
    /// In the first.
    pub a: T,
    /// In the second.
    pub b: T,
}

impl<T: PartialEq> Pair<T> {
    fn if_different(a: T, b: T) -> Option<Self> {
        (a != b).then_some(Self { a, b })
    }
}

/// A section of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SectionFacts {
    /// Bytes of its data.
    #[serde(rename = "Size")]
    pub size: u64,
    /// The SHA-384 of its data.
    #[serde(rename = "SHA384")]
    pub digest: String,
}

/// What differs in one section, or in the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Difference {
    /// Registers that differ for it, in ascending order; none for what is not measured.
    #[serde(rename = "PCRs", serialize_with = "register_names")]
    pub registers: Vec<u8>,
    /// Where: "kernel", "command line", "ramdisk 1" and so on, "metadata", "signature", "header", "order of sections".
    pub section: String,
    /// Size and hash on either side; null where there is no such section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Pair<Option<SectionFacts>>>,
    /// What it comes down to, if more can be said than size and hash.
    #[serde(flatten)]
    pub details: Option<Details>,
}

/// What a difference comes down to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Details {
    /// Versions of the kernels, as far as they tell.
    #[serde(rename = "KernelVersion")]
    Kernel(Pair<Option<String>>),
    /// A text on either side: the command line, the signer, the order of the sections.
    #[serde(rename = "Text")]
    Text(Pair<String>),
    /// Fields of the metadata or the header.
    #[serde(rename = "Keys")]
    Keys(Vec<KeyDifference>),
    /// Files of a ramdisk.
    #[serde(rename = "Files")]
    Files(Box<RamdiskDifference>),
}

/// What differs in a ramdisk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RamdiskDifference {
    /// How the archives are compressed, if differently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Pair<String>>,
    /// Why one of them cannot be read to its end; files after that were not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<Pair<Option<String>>>,
    /// The first files at which the order differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Pair<String>>,
    /// Files that differ, the most telling first.
    pub list: Vec<FileDifference>,
    /// Nothing above differs: only how the same files are written down (padding, spelling of headers, level of compression).
    pub only_packing: bool,
}

/// All that differs between two images: first what moves PCR 1, then PCR 2, then PCR 8, then none.
#[must_use]
pub fn differences(a: &Image, b: &Image) -> Vec<Difference> {
    let moved = Moved { a: &a.loaded.measurements, b: &b.loaded.measurements };
    let (sections_a, sections_b) = (Sections::of(&a.loaded), Sections::of(&b.loaded));
    let mut found = Vec::new();
    let single = |kind| Pair { a: sections_a.first(kind), b: sections_b.first(kind) };
    found.extend(difference(&moved.of(&[0, 1]), "kernel", single(SectionKind::Kernel), || {
        let version = |image: &Image| image.contents.kernel_version.clone();
        Some(Details::Kernel(Pair { a: version(a), b: version(b) }))
    }));
    found.extend(difference(&moved.of(&[0, 1]), "command line", single(SectionKind::Cmdline), || {
        let text = |image: &Image| String::from_utf8_lossy(&image.contents.command_line).into_owned();
        Some(Details::Text(Pair { a: text(a), b: text(b) }))
    }));
    let order = Pair::if_different(sections_a.measured_order(), sections_b.measured_order());
    found.extend(order.map(|order| Difference {
        registers: moved.of(&[0, 1, 2]),
        section: "order of sections".to_owned(),
        data: None,
        details: Some(Details::Text(order)),
    }));
    found.extend(ramdisks(a, b, &sections_a, &sections_b, &moved));
    found.extend(signature(a, b, single(SectionKind::Signature), &moved));
    found.extend(difference(&[], "metadata", single(SectionKind::Metadata), || {
        metadata::compare(a.loaded.metadata.as_deref(), b.loaded.metadata.as_deref())
    }));
    let header = header(&a.loaded.header, &b.loaded.header);
    if !header.is_empty() {
        let (section, details) = ("header".to_owned(), Some(Details::Keys(header)));
        found.push(Difference { registers: Vec::new(), section, data: None, details });
    }
    found
}

/// A difference, if the data differ.
fn difference(
    registers: &[u8],
    section: &str,
    data: Pair<Option<SectionFacts>>,
    details: impl FnOnce() -> Option<Details>,
) -> Option<Difference> {
    (data.a != data.b).then(|| Difference {
        registers: registers.to_vec(),
        section: section.to_owned(),
        data: Some(data),
        details: details(),
    })
}

fn ramdisks<'i>(
    a: &'i Image,
    b: &'i Image,
    sections_a: &'i Sections<'_>,
    sections_b: &'i Sections<'_>,
    moved: &'i Moved<'_>,
) -> impl Iterator<Item = Difference> + 'i {
    let facts = |sections: &Sections<'_>| sections.all(SectionKind::Ramdisk);
    let (facts_a, facts_b) = (facts(sections_a), facts(sections_b));
    (0..facts_a.len().max(facts_b.len())).filter_map(move |index| {
        let data = Pair { a: facts_a.get(index).cloned(), b: facts_b.get(index).cloned() };
        let registers = moved.of(if index == 0 { &[0, 1] } else { &[0, 2] });
        let name = format!("ramdisk {}", index.saturating_add(1));
        difference(&registers, &name, data, || {
            let listings = a.contents.ramdisks.get(index).zip(b.contents.ramdisks.get(index));
            listings.map(|(a, b)| Details::Files(Box::new(files::compare(a, b))))
        })
    })
}

/// What the signers are called, if there are signatures and they differ.
fn signature(
    a: &Image,
    b: &Image,
    data: Pair<Option<SectionFacts>>,
    moved: &Moved<'_>,
) -> Option<Difference> {
    difference(&moved.of(&[8]), "signature", data, || {
        Some(Details::Text(Pair { a: signer(&a.loaded), b: signer(&b.loaded) }))
    })
}

fn signer(image: &Loaded) -> String {
    let Some(section) = &image.signature else { return "not signed".to_owned() };
    let certificate = eif::signature::first_entry(section)
        .map_err(|error| error.to_string())
        .and_then(|entry| entry.certificate().map_err(|error| error.to_string()));
    match certificate {
        Ok(certificate) => {
            let (not_before, not_after) = certificate.validity();
            let name = subject(&certificate);
            format!("signed by {name} (valid {not_before} to {not_after}, PCR8 {})", certificate.pcr8())
        }
        Err(error) => format!("signed, but {error}"),
    }
}

fn subject(certificate: &SigningCertificate) -> String {
    certificate.parsed().tbs_certificate().subject().to_string()
}

fn header(a: &Header, b: &Header) -> Vec<KeyDifference> {
    let fields = |header: &Header| {
        [
            ("version", header.version.to_string()),
            ("flags", header.flags.to_string()),
            ("default_mem", header.default_mem.to_string()),
            ("default_cpus", header.default_cpus.to_string()),
            ("reserved", header.reserved.to_string()),
            ("unused", header.unused.to_string()),
        ]
    };
    let different = fields(a).into_iter().zip(fields(b)).filter(|(a, b)| a != b);
    different.map(|((key, a), (_, b))| KeyDifference::new(key, Some(a.into()), Some(b.into()))).collect()
}

/// Which registers really differ: bytes that move from one section to the next, say, leave some as they are.
struct Moved<'m> {
    a: &'m Measurements,
    b: &'m Measurements,
}

impl Moved<'_> {
    fn of(&self, candidates: &[u8]) -> Vec<u8> {
        let differs = |index: &u8| match index {
            0 => self.a.pcr0 != self.b.pcr0,
            1 => self.a.pcr1 != self.b.pcr1,
            2 => self.a.pcr2 != self.b.pcr2,
            _ => self.a.pcr8 != self.b.pcr8,
        };
        candidates.iter().copied().filter(differs).collect()
    }
}

/// The sections of one image with their digests.
struct Sections<'s>(Vec<(&'s Section, SectionFacts)>);

impl<'s> Sections<'s> {
    fn of(image: &'s Loaded) -> Self {
        let digests = image.digests.iter().map(hex::encode);
        let facts = image.sections.iter().zip(digests);
        Self(facts.map(|(section, digest)| (section, SectionFacts { size: section.size, digest })).collect())
    }

    fn all(&self, kind: SectionKind) -> Vec<SectionFacts> {
        let of_kind = self.0.iter().filter(|(section, _)| section.kind == kind);
        of_kind.map(|(_, facts)| facts.clone()).collect()
    }

    fn first(&self, kind: SectionKind) -> Option<SectionFacts> {
        self.all(kind).into_iter().next()
    }

    /// The kinds of the measured sections as they follow each other; the number of ramdisks is not told here.
    fn measured_order(&self) -> String {
        let measured = |kind: SectionKind| !matches!(kind, SectionKind::Signature | SectionKind::Metadata);
        let mut kinds: Vec<String> = Vec::new();
        for kind in self.0.iter().map(|(section, _)| section.kind).filter(|kind| measured(*kind)) {
            let kind = kind.to_string();
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(", ")
    }
}

fn register_names<S: serde::Serializer>(registers: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(registers.iter().map(|index| format!("PCR{index}")))
}
