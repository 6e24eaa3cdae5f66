//! Attested key release: a key service that speaks the wire protocol of AWS KMS and gives keys to the right enclave alone.
//!
//! - [`audit`]: the append-only log of every decision.
//! - [`error`]: errors by the names that AWS gives them.
//! - [`key`]: what a key is: its metadata and its material.
//! - [`operations`]: what the service does: one module for each group of operations.
//! - [`policy`]: key policies in the JSON language of AWS.
//! - [`principal`]: who may sign requests.
//! - [`recipient`]: the attestation document of a request, verified, and the answer sealed for its key.
//! - [`server`]: listeners, TLS, HTTP and its limits.
//! - [`store`]: keys at rest: a database in which every row is sealed under the master key.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod audit;
mod curve;
pub mod error;
pub mod key;
pub mod operations;
pub mod policy;
pub mod principal;
pub mod recipient;
pub mod server;
pub mod store;
