//! The enclave image file (EIF): read, write, measure, sign, verify.
//!
//! Pure computation over whatever the caller can read or write: no file is opened here, no clock read. The format is
//! that of AWS Nitro Enclaves; its specification is the README of the crate `aws-nitro-enclaves-image-format`.
//!
//! [`load::load`] is the way in for whoever boots an image, [`load::measure`] for whoever only asks what it is,
//! [`writer::Writer`] for whoever makes one, [`rewrite::sign`] for whoever signs one.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod certificate;
pub mod describe;
pub mod fuzzing;
mod hashing;
pub mod header;
pub mod key;
pub mod load;
pub mod measure;
pub mod metadata;
pub mod private_key;
pub mod reader;
pub mod rewrite;
pub mod rules;
pub mod sign;
pub mod signature;
pub mod unpacked;
pub mod writer;
