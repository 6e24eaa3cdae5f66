//! PCR arithmetic, attestation documents, certificates, and their verification.
//!
//! Pure computation: no I/O, no clock, no unsafe code. Callers pass time and randomness in.
//!
//! - [`pcr`]: register values, the extend operation, what an image measures to.
//! - [`identity`]: the names of a host and of one enclave, from which PCR 3, PCR 4 and `module_id` follow.
//! - [`document`] and [`cose`]: the attestation document and the signed envelope it travels in.
//! - [`certificate`] and [`path`]: strict reading of certificates and the checks between them.
//! - [`pki`]: the root of trust of your own: root, host, enclave CA and leaf certificates.
//! - [`roots`] and [`policy`]: whom a relying party trusts, and what it expects.
//! - [`verify`]: the whole verification of a document, step by step.
//! - [`report`]: the account of a verification, made also when it fails.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod cbor;
pub mod certificate;
pub mod cose;
pub mod document;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod identity;
pub mod key;
pub mod path;
pub mod pcr;
pub mod pki;
pub mod policy;
pub mod report;
pub mod roots;
pub mod verify;
