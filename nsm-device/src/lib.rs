//! The security module: protocol, PCR bank, attestation documents.
//!
//! Request bytes in, response bytes out: [`SecurityModule::handle`]. It knows nothing of KVM, of virtio or of
//! guest memory, and it never panics on a request. What was booted is told to it once, before the first vCPU
//! runs; whoever carries the bytes afterwards cannot make it say anything else.
//!
//! [`protocol`] has both directions of the encoding, so that the guest's library speaks it as well.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod bank;
pub mod module;
pub mod protocol;

pub use module::{Identity, SecurityModule};
