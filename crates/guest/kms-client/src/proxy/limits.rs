//! What is believed of programs in the enclave: everything that they can make large, many or slow has a bound.

use std::time::Duration;

/// Longest body of a request in bytes: a document has at most 256 KiB, and base64 adds a third.
pub const MAX_BODY: usize = 512 << 10;
/// Longest head of a request in bytes: request line and header fields. Those of SDKs have some 1000, and a session token.
pub const MAX_HEAD: usize = 64 << 10;
/// Most header fields of a request. Those of SDKs have a dozen.
pub const MAX_HEADERS: usize = 64;
/// Room for what has been read and not yet understood.
pub(super) const READ_BUFFER: usize = 2 * MAX_HEAD;

/// Limits on how many, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// From an idle connection to the end of a request's head.
    pub head_time: Duration,
    /// From the end of the head to the end of the body.
    pub body_time: Duration,
    /// Without a byte of an answer being taken by the program. The system rounds it to milliseconds.
    pub write_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_time: Duration::from_secs(20),
            body_time: Duration::from_secs(20),
            write_time: Duration::from_secs(20),
        }
    }
}
