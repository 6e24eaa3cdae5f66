//! How much a guest or a host program may ask for. Every limit has a test at its edge.

use std::time::Duration;

/// Bytes of credit that a connection gives to the guest: Linux's own default (`VIRTIO_VSOCK_DEFAULT_BUF_SIZE`).
pub const CREDIT_BYTES: u32 = 256 * 1024;
/// The same for connections beyond [`GENEROUS_CONNECTIONS`], so that all connections of an enclave together cannot
/// keep more than 64 MiB + 60 MiB in the host, however slowly host programs read.
pub const SMALL_CREDIT_BYTES: u32 = 16 * 1024;
/// How many connections at a time get the full credit.
pub const GENEROUS_CONNECTIONS: usize = 256;

/// Limits and times of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, in any state. The guest's next request is answered with a reset.
    pub connections: usize,
    /// Host programs at a time that have not said yet which port they want. The next one is closed.
    pub handshakes: usize,
    /// Resets at a time that wait for a receive buffer without belonging to a connection. Further ones are dropped:
    /// waiting for buffers instead would let a guest that floods one queue block the other.
    pub resets: usize,
    /// How long the host's end, or the guest, may take to answer a connection request.
    pub connect: Duration,
    /// How long a host program may take to say which port it wants.
    pub handshake: Duration,
    /// How long the guest may take to finish a connection that the host has closed.
    pub close: Duration,
    /// How long a host program may read so little of what a guest wrote before it closed the connection that its
    /// socket takes no more.
    pub linger: Duration,
    /// After which time to ask again for credit that the guest has not given, at first; doubled six times at most.
    pub credit_retry: Duration,
    /// After which time a guest that has not answered such a question is taken for one that never does.
    pub credit_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshakes: 256,
            resets: 1024,
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(10),
            linger: Duration::from_secs(60),
            credit_retry: Duration::from_millis(5),
            credit_answer: Duration::from_millis(100),
        }
    }
}
