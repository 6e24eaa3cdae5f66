//! The service without its network: what each operation answers, and what it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod agreement;
mod aliases;
mod authorization;
mod data_keys;
mod documents;
mod encryption;
mod keys;
mod lifecycle;
mod policies;
mod recipient;
mod requests;
mod world;
