//! The `enclave` command as a user runs it: the real binary, in folders of the test's own, without a guest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attest;
mod attest_documentation;
mod attest_policy;
mod build;
mod build_kms;
mod build_sources;
mod bzimage;
mod diff;
mod doctor;
mod eif;
mod enclaves;
mod extract;
mod fetched;
mod kms;
mod kms_credentials;
mod kms_keeping;
mod kms_policies;
mod newc;
mod nitro_cli;
mod nitro_cli_errors;
mod parser;
mod pki;
mod signed;
mod signing;
mod support;

/// Shared with the tests of the builder.
#[path = "../../../crates/image/tests/support/mod.rs"]
mod images;
