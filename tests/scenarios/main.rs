//! The product as a user runs it, with real Linux guests.
//!
//! Every scenario needs a KVM that can run a kernel, so all are ignored by default: `make test` runs them with
//! `--include-ignored`, in the lab where this machine's KVM cannot.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

mod alone;
mod attestation;
mod boots;
mod contained;
mod containers;
mod ends;
mod faults;
mod hostile;
mod kms;
mod nitro_cli;
mod signed;
mod systemd;
mod vsock;
