//! The client and the local endpoint over real sockets, against services that do what they should not.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod answers;
mod credentials;
mod limits;
mod programs;
mod requests;
mod support;
