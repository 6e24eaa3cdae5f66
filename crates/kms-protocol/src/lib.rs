//! What both ends of the KMS protocol need: the service (crate kms) and its clients (crate guest).
//!
//! Pure computation: no I/O, no clock, no unsafe code. Callers pass time and randomness in.
//!
//! - [`sigv4`]: signatures of requests, made and checked.
//! - [`credentials`]: what they are made with, as AWS's tools write it.
//! - [`mac`]: the code that both rest on.
//! - [`ports`]: where enclaves ask.
//! - [`cms`]: the envelope in which a key service answers an enclave, made and opened.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod cms;
pub mod credentials;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod mac;
pub mod ports;
pub mod sigv4;
