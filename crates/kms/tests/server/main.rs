//! The service's network side over real sockets: hostile clients first.

// Helpers fail the test that calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]

mod connections;
mod credentials;
mod enclaves;
mod requests;
mod support;
mod tls;
