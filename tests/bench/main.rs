//! `make bench`: the figures of docs/performance.md, each beside a peer measured in the same session.
//!
//! All but `images`, `kms` and `verification` run where KVM can run a kernel. Absolute figures of the lab mean nothing outside it; ratios do.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that fails says so by ending"
)]

mod attestation;
mod boot;
mod containment;
mod exits;
mod images;
mod kms;
mod loading;
mod memory;
mod neighbour;
mod pages;
mod peer;
mod processor;
mod statistics;
mod verification;
mod vsock;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 10] = [
        ("images", images::measure),
        ("kms", kms::measure),
        ("verification", verification::measure),
        ("loading", loading::measure),
        ("boot", boot::measure),
        ("memory", memory::measure),
        ("attestation", attestation::measure),
        ("vsock", vsock::measure),
        ("containment", containment::measure),
        ("neighbour", neighbour::measure),
    ];
    for (name, measure) in parts {
        if wanted.iter().any(|word| word == name) {
            println!("\n## {name}\n");
            measure();
        }
    }
}
