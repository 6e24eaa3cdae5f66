//! What the end-to-end scenarios share: the built product, images made with it, and running enclaves.
//!
//! Scenarios run the release binaries as a user does and speak to enclaves through the sockets that the
//! documentation promises. They need a KVM that can run a kernel: `make test` runs them there, in the lab where this
//! machine has none.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

pub mod demo;
pub mod diagnosis;
pub mod enclave;
pub mod hostile;
pub mod image;
pub mod image_file;
pub mod processes;
pub mod product;
pub mod systemd;
pub mod visit;
