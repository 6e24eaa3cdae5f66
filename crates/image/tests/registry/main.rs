//! Images from registries: from Debian's docker-registry, and from servers that lie, stall, cut and never end.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

mod credentials;
mod dishonest;
mod refusing;
mod server;
mod stock;
mod support;
mod transfers;
