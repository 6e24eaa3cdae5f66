//! Replays the fuzz target's corpus and a few thousand mutations of it, so that what a fuzzer would find first is found
//! by every test run. The fuzz target itself is fuzz/fuzz_targets/eif.rs; both run `eif::fuzzing::image`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod common;

use common::*;
use corpus::Numbers;
use eif::fuzzing;

/// Mutations of each corpus file.
const MUTATIONS: u64 = 150;

/// Values at which sizes and offsets go wrong.
const EDGES: [u64; 8] = [0, 1, 11, 12, 547, 548, u64::MAX, u64::MAX - 559];

fn mutate(image: &mut Vec<u8>, numbers: &mut Numbers) {
    match numbers.below(6) {
        0 => image.truncate(numbers.below(image.len())),
        1 => {
            let (from, to) = (numbers.below(image.len()), numbers.below(image.len()));
            let piece: Vec<u8> = image[from.min(to)..from.max(to)].to_vec();
            let at = numbers.below(image.len());
            image.splice(at..at, piece);
        }
        2 if image.len() >= 548 => {
            let (entry, edge) = (numbers.below(64), EDGES[numbers.below(EDGES.len())]);
            image[0x1c + 8 * entry..][..8].copy_from_slice(&edge.to_be_bytes());
        }
        _ => {
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(image.len());
                if let Some(byte) = image.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
    }
    if image.len() >= 548 && numbers.below(2) == 0 {
        mend_checksum(image);
    }
}

#[test]
fn the_corpus_breaks_nothing() {
    for (name, image) in corpus::inputs("eif") {
        println!("{name}");
        fuzzing::image(&image);
    }
}

#[test]
fn mutations_of_the_corpus_break_nothing() {
    for (name, image) in corpus::inputs("eif") {
        for seed in 0..MUTATIONS {
            let mut numbers = Numbers::new(seed);
            let mut mutated = image.clone();
            for _ in 0..=numbers.below(3) {
                mutate(&mut mutated, &mut numbers);
            }
            println!("{name}, seed {seed}");
            fuzzing::image(&mutated);
        }
    }
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_seeds() {
    let gapped = || {
        let mut pieces = vector(FULL_METADATA);
        pieces[0].gap = vec![0; 64];
        pieces[3].gap = b"gap".to_vec();
        pieces
    };
    let signed = |section: &[u8]| {
        let mut pieces = vector(FULL_METADATA);
        pieces.push(piece(SIGNATURE, section));
        build(&Fields::default(), &pieces)
    };
    let signature =
        signature_section(include_bytes!("data/p256.cert.pem"), b"\x84\x43\xa1\x01\x26\xa0\x40\x40");
    let mut truncated = build(&Fields::default(), &vector(b"{}"));
    truncated.truncate(640);
    let seeds: [(&str, Vec<u8>); 10] = [
        ("vector-a", build(&Fields::default(), &vector(b"{}"))),
        ("vector-b", build(&Fields::default(), &vector(FULL_METADATA))),
        ("aarch64", build(&Fields { flags: 1, ..Fields::default() }, &vector(b"{}"))),
        (
            "unknown-flags",
            build(&Fields { flags: 0x0340, reserved: 7, unused: 9, ..Fields::default() }, &gapped()),
        ),
        ("gaps", build(&Fields::default(), &gapped())),
        ("version-2", build(&Fields { version: 2, ..Fields::default() }, &vector(b"{}"))),
        ("no-metadata", build(&Fields::default(), &vector(b"{}")[..2])),
        ("signed", signed(&signature)),
        ("signed-badly", signed(b"\x81\xa2\x73signing_certificate\x9b\x7f")),
        ("truncated", truncated),
    ];
    corpus::write("eif", &seeds);
}
