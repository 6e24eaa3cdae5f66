//! The corpora of the fuzz targets (`fuzz/corpus/<target>`), for tests: every input is run as it is and with some thousand
//! mutations, so that what a fuzzer would find first is found by every `make test`. Never part of a shipped program.
//!
//! Inputs that stand for several packets hold them one after the other, each behind its length: [`join`] writes that form,
//! [`packets`] reads it out of any bytes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::{fs, iter};

pub use mutation::Numbers;

/// Inputs that a corpus has at least: fewer means that it was not found.
const FEWEST: usize = 4;

/// The inputs of a target by name, in a fixed order.
#[must_use]
pub fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry of the corpus");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            (name, fs::read(entry.path()).expect("an input of the corpus"))
        })
        .collect();
    inputs.sort();
    assert!(inputs.len() >= FEWEST, "no corpus in {}", folder.display());
    inputs
}

/// Runs a target's body on each input, and on `mutations` variants of each. A panic is told with what caused it.
pub fn replay(target: &str, mutations: u64, body: impl Fn(&[u8])) {
    let inputs = inputs(target);
    for (name, input) in &inputs {
        run(&body, input, name, None);
        for seed in 0..mutations {
            let other = &inputs[mutation::Numbers::new(seed).below(inputs.len())].1;
            run(&body, &mutation::mutate(input, other, seed), name, Some(seed));
        }
    }
}

/// Replaces inputs of a target's corpus, by name. The others stay.
pub fn write(target: &str, seeds: &[(&str, Vec<u8>)]) {
    for (name, seed) in seeds {
        fs::write(folder(target).join(name), seed).expect("the corpus can be written");
    }
}

/// Packets as one input.
#[must_use]
pub fn join<P: AsRef<[u8]>>(packets: &[P]) -> Vec<u8> {
    let framed = packets.iter().flat_map(|packet| {
        let packet = packet.as_ref();
        let length = u16::try_from(packet.len()).expect("a packet is shorter than 64 KiB");
        length.to_le_bytes().into_iter().chain(packet.iter().copied())
    });
    framed.collect()
}

/// The packets of an input. A length that says more than there is means what there is.
pub fn packets(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let (packet, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        input = rest;
        Some(packet)
    })
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn run(body: &impl Fn(&[u8]), input: &[u8], name: &str, seed: Option<u64>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let bytes: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("the input was {name}, mutation {seed:?}: {bytes}");
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were_joined() {
        let joined = join(&[&b"one"[..], b"", b"three"]);
        assert_eq!(packets(&joined).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(packets(&[0xff, 0xff, 7]).collect::<Vec<_>>(), [[7]]);
        assert_eq!(packets(&[1]).count(), 0);
    }

    #[test]
    fn mutations_differ_from_their_input_and_come_again() {
        let input = [7; 64];
        let all: Vec<_> = (0..100).map(|seed| mutation::mutate(&input, b"other", seed)).collect();
        assert!(all.iter().filter(|mutated| **mutated != input).count() > 90);
        assert_eq!(all[3], mutation::mutate(&input, b"other", 3));
        assert_eq!(mutation::mutate(&[], &[], 1).len(), mutation::mutate(&[], &[], 1).len());
    }
}
