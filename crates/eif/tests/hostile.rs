//! Images that a stranger made to hurt: each is refused by a typed error or noticed by the checksum, none panics.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod common;

use std::io::Cursor;

use common::*;
use eif::fuzzing;
use eif::header::{HeaderError, SectionKind};
use eif::load::{LoadError, Loaded, Placement, Sink, load, measure};
use eif::reader::{ReadError, Reader, Section};
use eif::rewrite::copy;
use eif::rules::RuleError;

fn small_image() -> Vec<u8> {
    let mut pieces = vector(FULL_METADATA);
    pieces[3].gap = b"gap".to_vec();
    build(&Fields::default(), &pieces)
}

fn refusal(image: &[u8]) -> ReadError {
    match measure(image, image.len() as u64) {
        Err(LoadError::Read(error)) => error,
        other => panic!("not refused by the reader: {other:?}"),
    }
}

/// A change to the header's tables that leaves the checksum right.
fn with_table(change: impl Fn(&mut [u64; 32], &mut [u64; 32], &mut u16)) -> Vec<u8> {
    let mut image = small_image();
    let entry = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let mut offsets = core::array::from_fn(|index| entry(&image, 0x1c + 8 * index));
    let mut sizes = core::array::from_fn(|index| entry(&image, 0x11c + 8 * index));
    let mut count = 5;
    change(&mut offsets, &mut sizes, &mut count);
    image[0x1a..0x1c].copy_from_slice(&count.to_be_bytes());
    let tables: Vec<u8> = offsets.iter().chain(&sizes).flat_map(|entry| entry.to_be_bytes()).collect();
    image[0x1c..0x21c].copy_from_slice(&tables);
    mend_checksum(&mut image);
    image
}

#[test]
fn every_truncation_is_refused() {
    let image = small_image();
    for length in 0..image.len() {
        let error = refusal(&image[..length]);
        assert!(
            matches!(error, ReadError::Truncated { .. } | ReadError::Beyond { .. }),
            "{length} bytes: {error}"
        );
        // The file shrinks while it is read: its length was right when it was opened.
        match measure(&image[..length], image.len() as u64) {
            Err(LoadError::Read(ReadError::Truncated { at, .. })) => assert_eq!(at, length as u64),
            other => panic!("{length} bytes of {}: {other:?}", image.len()),
        }
    }
}

#[test]
fn every_changed_byte_is_refused_or_breaks_the_checksum() {
    let image = small_image();
    for index in 0..image.len() {
        let mut flipped = image.clone();
        flipped[index] ^= 1 << (index % 8);
        fuzzing::image(&flipped);
        if let Ok(loaded) = measure(flipped.as_slice(), flipped.len() as u64) {
            assert!(loaded.checksum.check().is_err(), "byte {index} went unnoticed");
        }
    }
}

#[test]
fn wrong_tables_are_refused_by_name() {
    let overlap = with_table(|offsets, _, _| offsets[1] = offsets[0]);
    assert!(matches!(refusal(&overlap), ReadError::Overlap { index: 1, .. }));
    let descending = with_table(|offsets, sizes, _| {
        offsets.swap(3, 4);
        sizes.swap(3, 4);
    });
    assert!(matches!(refusal(&descending), ReadError::Overlap { index: 4, .. }));
    let in_header = with_table(|offsets, _, _| offsets[0] = 547);
    assert!(matches!(refusal(&in_header), ReadError::Overlap { index: 0, offset: 547, previous_end: 548 }));
    let oversized = with_table(|_, sizes, _| sizes[4] += 1);
    assert!(matches!(refusal(&oversized), ReadError::Beyond { index: 4, .. }));
    for huge in [u64::MAX, u64::MAX - 11, u64::MAX - 548 - 12, 1 << 63] {
        let overflow = with_table(|_, sizes, _| sizes[0] = huge);
        assert!(matches!(refusal(&overflow), ReadError::Beyond { index: 0, .. }));
        let overflow = with_table(|offsets, _, _| offsets[4] = huge);
        assert!(matches!(refusal(&overflow), ReadError::Beyond { index: 4, .. }));
    }
    let smaller = with_table(|_, sizes, _| sizes[0] -= 1);
    assert!(matches!(refusal(&smaller), ReadError::SizeMismatch { index: 0, table: 5, header: 6 }));
    assert!(matches!(refusal(&with_table(|_, _, count| *count = 4)), ReadError::Trailing(23)));
    assert!(matches!(refusal(&with_table(|_, _, count| *count = 0)), ReadError::Trailing(_)));
    let many = refusal(&with_table(|_, _, count| *count = 33));
    assert!(matches!(many, ReadError::Header(HeaderError::TooManySections(33))));
    let mut trailing = small_image();
    trailing.push(0);
    mend_checksum(&mut trailing);
    assert!(matches!(refusal(&trailing), ReadError::Trailing(1)));
}

#[test]
fn sections_that_make_no_image_are_refused_by_name() {
    let without = |index: usize| {
        let mut pieces = vector(FULL_METADATA);
        pieces.remove(index);
        refusal(&build(&Fields::default(), &pieces))
    };
    assert!(matches!(without(1), ReadError::Rule(RuleError::Missing(SectionKind::Cmdline))));
    assert!(matches!(without(2), ReadError::Rule(RuleError::Missing(SectionKind::Metadata))));
    assert!(matches!(without(0), ReadError::Rule(RuleError::RamdiskBeforeKernel)));
    let with = |index: usize, kind: u16| {
        let mut pieces = vector(FULL_METADATA);
        pieces.insert(index, piece(kind, b"{}"));
        refusal(&build(&Fields::default(), &pieces))
    };
    assert!(matches!(with(5, KERNEL), ReadError::Rule(RuleError::Duplicate(SectionKind::Kernel))));
    assert!(matches!(with(5, CMDLINE), ReadError::Rule(RuleError::Duplicate(SectionKind::Cmdline))));
    assert!(matches!(with(5, METADATA), ReadError::Rule(RuleError::Duplicate(SectionKind::Metadata))));
    assert!(matches!(with(0, RAMDISK), ReadError::Rule(RuleError::RamdiskBeforeKernel)));
    assert!(matches!(with(3, 0), ReadError::UnknownKind { index: 3, code: 0 }));
    assert!(matches!(with(3, 6), ReadError::UnknownKind { index: 3, code: 6 }));
    assert!(matches!(with(3, 0xffff), ReadError::UnknownKind { index: 3, code: 0xffff }));
    let oversized = piece(SIGNATURE, &vec![0; 32_769]);
    let error = refusal(&build(&Fields::default(), &[vector(b"{}"), vec![oversized]].concat()));
    assert!(matches!(error, ReadError::Rule(RuleError::TooLarge { kind: SectionKind::Signature, .. })));
}

#[test]
fn the_table_may_be_full_but_not_more() {
    let mut pieces = vector(FULL_METADATA);
    pieces.extend((pieces.len()..32).map(|_| piece(RAMDISK, b"more")));
    let full = build(&Fields::default(), &pieces);
    let loaded = measure(full.as_slice(), full.len() as u64).unwrap();
    assert_eq!(loaded.sections.len(), 32);
    assert_eq!(loaded.measurements.pcr0.to_string(), expected_pcrs(&pieces)[0]);
    pieces.push(piece(RAMDISK, b"too many"));
    let error = refusal(&build(&Fields::default(), &pieces));
    assert!(matches!(error, ReadError::Header(HeaderError::TooManySections(33))));
}

#[test]
fn errors_say_what_is_wrong_and_what_to_do() {
    let error = refusal(b"not an image").to_string();
    assert!(error.contains("truncated") && error.contains("12 bytes"), "{error}");
    let error = refusal(&vec![b'x'; 600]).to_string();
    assert!(error.contains("not an enclave image"), "{error}");
    let image = build(&Fields { version: 1, ..Fields::default() }, &vector(b"{}"));
    assert!(refusal(&image).to_string().contains("version 1 is not supported"));
}

/// A source that fails where told.
struct Failing<'a>(&'a [u8]);

impl std::io::Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Err(std::io::Error::other("the disk is gone"));
        }
        // One byte at a time, interrupted in between: callers must not count on more.
        let count = self.0.len().min(buffer.len()).min(1);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn a_source_that_fails_or_reads_in_drops_is_handled() {
    let image = small_image();
    for length in [0, 100, 547, 548, 560, 700, image.len() - 1] {
        let error = measure(Failing(&image[..length]), image.len() as u64).unwrap_err();
        assert!(matches!(error, LoadError::Read(ReadError::Io(_))), "{error}");
    }
    let loaded = measure(Failing(&image), image.len() as u64).unwrap();
    assert_eq!(loaded, measure(image.as_slice(), image.len() as u64).unwrap());
}

/// Puts ramdisks where the test wants them.
struct Memory<'d> {
    place: Option<&'d mut [u8]>,
    kernel: Vec<u8>,
    ahead: Vec<u64>,
    stop_at: Option<SectionKind>,
    progress: Vec<u64>,
}

impl<'d> Memory<'d> {
    fn new(place: &'d mut [u8]) -> Self {
        Self {
            place: Some(place),
            kernel: Vec::new(),
            ahead: Vec::new(),
            stop_at: None,
            progress: Vec::new(),
        }
    }
}

impl<'d> Sink<'d> for Memory<'d> {
    type Error = &'static str;

    fn place(&mut self, section: &Section, data_ahead: u64) -> Result<Placement<'d>, Self::Error> {
        self.ahead.push(data_ahead);
        if self.stop_at == Some(section.kind) {
            return Err("stopped by the test");
        }
        Ok(match section.kind {
            SectionKind::Kernel => Placement::Collect,
            SectionKind::Ramdisk => {
                let whole = self.place.take().ok_or("no place")?;
                let (this, rest) = whole.split_at_mut_checked(section.size as usize).ok_or("too small")?;
                self.place = Some(rest);
                Placement::Into(this)
            }
            _ => Placement::MeasureOnly,
        })
    }

    fn collected(&mut self, _section: &Section, data: Vec<u8>) -> Result<(), Self::Error> {
        self.kernel = data;
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        self.progress.push(bytes);
    }
}

fn big_pieces() -> Vec<Piece> {
    let noise = |seed: u8, length: usize| -> Vec<u8> {
        (0..length).map(|index| seed ^ (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    vec![
        piece(KERNEL, &noise(1, 1_000_003)),
        piece(CMDLINE, b"console=ttyS0"),
        piece(METADATA, FULL_METADATA),
        piece(RAMDISK, &noise(2, 262_144)),
        piece(RAMDISK, &noise(3, 5_000_001)),
        piece(RAMDISK, &noise(4, 262_145)),
    ]
}

#[test]
fn what_is_measured_is_what_was_placed() {
    let pieces = big_pieces();
    let image = build(&Fields::default(), &pieces);
    let ramdisks: Vec<u8> =
        pieces.iter().filter(|p| p.kind == RAMDISK).flat_map(|p| p.data.clone()).collect();
    let mut memory = vec![0; ramdisks.len()];
    let mut sink = Memory::new(&mut memory);
    let loaded: Loaded = load(image.as_slice(), image.len() as u64, &mut sink).unwrap();
    assert_eq!(sink.kernel, pieces[0].data);
    let data =
        |range: core::ops::RangeFrom<usize>| pieces[range].iter().map(|p| p.data.len() as u64).sum::<u64>();
    assert_eq!(sink.ahead, [data(1..), data(2..), data(4..), data(5..), 0]);
    assert!(sink.progress.is_sorted() && sink.progress.last() == Some(&(image.len() as u64)));
    assert_eq!(memory, ramdisks);
    let measured = &loaded.measurements;
    assert_eq!(
        [measured.pcr0, measured.pcr1, measured.pcr2].map(|pcr| pcr.to_string()),
        expected_pcrs(&pieces)
    );
    // Loading makes no digest of its own for each section.
    let Loaded { digests, .. } = measure(image.as_slice(), image.len() as u64).unwrap();
    assert_eq!((loaded.digests.len(), digests.len()), (0, pieces.len()));
    assert_eq!(Loaded { digests, ..loaded }, measure(image.as_slice(), image.len() as u64).unwrap());
}

#[test]
fn a_sink_can_stop_the_reading_at_any_section() {
    let image = build(&Fields::default(), &big_pieces());
    for kind in [SectionKind::Kernel, SectionKind::Cmdline, SectionKind::Ramdisk] {
        let mut memory = vec![0; 6_000_000];
        let mut sink = Memory::new(&mut memory);
        sink.stop_at = Some(kind);
        let error = load(image.as_slice(), image.len() as u64, &mut sink).unwrap_err();
        assert!(matches!(error, LoadError::Sink("stopped by the test")), "{error:?}");
    }
    let mut memory = vec![0; 100];
    let error = load(image.as_slice(), image.len() as u64, &mut Memory::new(&mut memory)).unwrap_err();
    assert!(matches!(error, LoadError::Sink("too small")), "{error:?}");
}

#[test]
fn a_wrongly_sized_place_is_refused() {
    struct Wrong<'d>(Option<&'d mut [u8]>);
    impl<'d> Sink<'d> for Wrong<'d> {
        type Error = core::convert::Infallible;
        fn place(&mut self, _section: &Section, _ahead: u64) -> Result<Placement<'d>, Self::Error> {
            Ok(self.0.take().map_or(Placement::MeasureOnly, Placement::Into))
        }
        fn collected(&mut self, _section: &Section, _data: Vec<u8>) -> Result<(), Self::Error> {
            Ok(())
        }
    }
    let image = small_image();
    let mut memory = [0; 7];
    let error = load(image.as_slice(), image.len() as u64, &mut Wrong(Some(&mut memory))).unwrap_err();
    assert!(matches!(error, LoadError::Placement { size: 6, offered: 7 }), "{error:?}");
}

#[test]
fn metadata_is_read_up_to_its_limit() {
    let mut pieces = vector(FULL_METADATA);
    pieces[2].data = vec![b' '; 16 << 20];
    let image = build(&Fields::default(), &pieces);
    assert!(measure(image.as_slice(), image.len() as u64).is_ok(), "at the limit");
    pieces[2].data.push(b' ');
    let image = build(&Fields::default(), &pieces);
    assert!(matches!(
        refusal(&image),
        ReadError::Rule(RuleError::TooLarge { kind: SectionKind::Metadata, .. })
    ));
}

#[test]
fn the_reader_passes_over_what_is_not_read() {
    let image = small_image();
    let mut reader = Reader::new(image.as_slice(), image.len() as u64).unwrap();
    let mut cmdline = [0; 20];
    while let Some(section) = reader.next_section().unwrap() {
        if section.kind == SectionKind::Cmdline {
            assert_eq!(reader.read(&mut cmdline[..7]).unwrap(), 7);
            assert_eq!(reader.read(&mut cmdline[7..]).unwrap(), 6);
            assert_eq!(reader.read(&mut cmdline[13..]).unwrap(), 0);
        }
    }
    assert_eq!(&cmdline[..13], b"console=ttyS0");
    assert!(reader.finish().unwrap().checksum.matches());
    assert!(copy(image.as_slice(), image.len() as u64, Cursor::new(Vec::new())).is_ok());
}
