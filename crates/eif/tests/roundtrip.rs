//! Random images: written again they are the same byte for byte, and their registers are what `sha384sum` says.

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
use eif::header::{Flags, Header, SectionKind};
use eif::load::measure;
use eif::rewrite::copy;
use eif::writer::{WriteError, Writer};
use proptest::prelude::*;

/// Sections in an order that the rules allow: a kernel before the ramdisks, everything else anywhere.
fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let data = || prop::collection::vec(any::<u8>(), 0..200);
    let gap = || prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 1..40)];
    let piece = move |kind: u16| {
        (gap(), any::<u16>(), data()).prop_map(move |(gap, flags, data)| Piece { gap, kind, flags, data })
    };
    let ramdisks = prop::collection::vec(piece(RAMDISK), 1..6);
    let others = (piece(KERNEL), piece(CMDLINE), piece(METADATA), prop::option::of(piece(SIGNATURE)));
    (ramdisks, others, any::<prop::sample::Index>(), any::<[prop::sample::Index; 3]>()).prop_map(
        |(ramdisks, (kernel, cmdline, metadata, signature), _, places)| {
            let mut pieces = vec![kernel];
            pieces.extend(ramdisks);
            for (piece, place) in [Some(cmdline), Some(metadata), signature].into_iter().zip(places) {
                if let Some(piece) = piece {
                    pieces.insert(place.index(pieces.len() + 1), piece);
                }
            }
            pieces
        },
    )
}

fn fields() -> impl Strategy<Value = Fields> {
    (any::<u16>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u32>(), any::<u64>()).prop_map(
        |(flags, default_mem, default_cpus, reserved, unused, unused_entry)| Fields {
            version: 4,
            flags,
            default_mem,
            default_cpus,
            reserved,
            unused,
            unused_entry,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_copy_is_the_same_image(fields in fields(), pieces in pieces()) {
        let image = build(&fields, &pieces);
        let copied = copy(image.as_slice(), image.len() as u64, Cursor::new(Vec::new())).unwrap();
        prop_assert_eq!(copied.output.into_inner(), image.clone());
        prop_assert_eq!(copied.length, image.len() as u64);

        let loaded = measure(image.as_slice(), image.len() as u64).unwrap();
        prop_assert!(loaded.checksum.matches());
        prop_assert_eq!(loaded.header.flags, Flags::from_bits(fields.flags));
        prop_assert_eq!(&loaded.measurements, &copied.measurements);
        let kinds: Vec<u16> = loaded.sections.iter().map(|section| section.kind.code()).collect();
        prop_assert_eq!(kinds, pieces.iter().map(|piece| piece.kind).collect::<Vec<_>>());
    }
}

proptest! {
    // Each case runs a program six times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_registers_are_what_sha384sum_says(fields in fields(), pieces in pieces()) {
        let image = build(&fields, &pieces);
        let measured = measure(image.as_slice(), image.len() as u64).unwrap().measurements;
        let registers = [measured.pcr0, measured.pcr1, measured.pcr2].map(|pcr| pcr.to_string());
        prop_assert_eq!(registers, expected_pcrs(&pieces));
    }

    #[test]
    fn each_section_has_its_own_digest(fields in fields(), pieces in pieces()) {
        let image = build(&fields, &pieces);
        let digests = measure(image.as_slice(), image.len() as u64).unwrap().digests;
        let digests: Vec<String> = digests.iter().map(hex::encode).collect();
        let expected: Vec<String> = pieces.iter().map(|piece| sha384sum(&piece.data)).collect();
        prop_assert_eq!(digests, expected);
    }
}

#[test]
fn the_writer_writes_the_published_image() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Header::default()).unwrap();
    let sections: [(SectionKind, &[u8]); 5] = [
        (SectionKind::Kernel, b"KERNEL"),
        (SectionKind::Cmdline, b"console=ttyS0"),
        (SectionKind::Metadata, b"{}"),
        (SectionKind::Ramdisk, b"RAMDISK-ONE"),
        (SectionKind::Ramdisk, b"RAMDISK-TWO"),
    ];
    for (kind, data) in sections {
        assert_eq!(writer.section(kind, data).unwrap(), data.len() as u64);
    }
    let written = writer.finish().unwrap();
    assert_eq!(written.header.crc32, 0x3A5B_C1E2);
    let image = written.output.into_inner();
    // The SHA-256 of the whole file, published with the vector.
    assert_eq!(sha256sum(&image), "3ff697775c7c9fecaf420b23c72223b840b68d8b1f24296c33a716e9e9eb11c2");
    assert!(written.measurements.pcr0.to_string().starts_with("501688b0181f0935"));
    assert!(written.measurements.pcr1.to_string().starts_with("d1c14ef97f2ec1d8"));
    assert!(written.measurements.pcr2.to_string().starts_with("f33eabf2c1c9c848"));
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let empty = || Writer::new(Cursor::new(Vec::new()), Header::default()).unwrap();
    assert!(matches!(empty().finish(), Err(WriteError::Rule(_))));
    assert!(matches!(empty().section(SectionKind::Ramdisk, &b"r"[..]), Err(WriteError::Rule(_))));
    let mut writer = empty();
    writer.section(SectionKind::Kernel, &b"k"[..]).unwrap();
    assert!(matches!(writer.section(SectionKind::Kernel, &b"k"[..]), Err(WriteError::Rule(_))));
    let too_long = vec![b'x'; (64 << 10) + 1];
    assert!(matches!(writer.section(SectionKind::Cmdline, too_long.as_slice()), Err(WriteError::Rule(_))));
    let mut writer = empty();
    writer.section(SectionKind::Kernel, &b"k"[..]).unwrap();
    for _ in 1..32 {
        writer.section(SectionKind::Ramdisk, &b"r"[..]).unwrap();
    }
    assert!(matches!(writer.section(SectionKind::Ramdisk, &b"r"[..]), Err(WriteError::TooManySections)));
}

fn sha256sum(content: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(content))
}
