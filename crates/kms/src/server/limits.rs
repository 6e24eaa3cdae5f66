//! What one client, and all of them together, may take of the service.
//!
//! Everything a client can make large, many or slow is bounded here, whether it has signed anything or not.

use std::time::Duration;

/// Longest head of a request, in bytes: request line and header fields. Those of SDKs have some 1000.
pub const MAX_HEAD_LEN: usize = 16 * 1024;
/// Most header fields of a request. Those of SDKs have a dozen.
pub const MAX_HEADERS: usize = 64;
/// Longest body of a request, in bytes: base64 of the longest document (262144 bytes, AWS KMS API reference, `RecipientInfo`) and
/// of the longest ciphertext (6144), with an encryption context of 8192 bytes, and some room.
pub const MAX_BODY_LEN: usize = 512 * 1024;
/// Room for what has been read and not yet understood; hyper takes at least 8192 bytes.
pub const READ_BUFFER_LEN: usize = 32 * 1024;
/// Connections that wait for `accept`.
pub const BACKLOG: i32 = 128;
/// The most connections that a configuration may allow: each may hold a body.
pub const MAX_CONNECTIONS: usize = 4096;
/// The most requests that a configuration may allow to be answered at once: each has a thread.
pub const MAX_REQUESTS: usize = 64;
/// The longest time that a configuration may allow for anything here.
pub const MAX_TIME: Duration = Duration::from_secs(3600);

/// Limits that an operator can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all listeners at once. One more is closed as soon as it is accepted.
    pub connections: usize,
    /// Connections of one listener at once, so that one client's flood leaves the others their way in.
    pub connections_per_listener: usize,
    /// Requests that are answered at once; others wait for their turn.
    pub requests: usize,
    /// For the TLS handshake.
    pub handshake_time: Duration,
    /// From an idle connection to the end of a request's head.
    pub head_time: Duration,
    /// From the end of the head to the end of the body.
    pub body_time: Duration,
    /// For a request's turn among the others.
    pub turn_time: Duration,
    /// Without a byte of an answer being taken by the client.
    pub write_time: Duration,
    /// For running requests after the service was told to end.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_listener: 128,
            requests: 8,
            handshake_time: Duration::from_secs(10),
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            turn_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            shutdown_time: Duration::from_secs(10),
        }
    }
}
