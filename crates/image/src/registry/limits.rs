//! How much a registry may send.

use std::time::Duration;

/// How much a registry may send, and for how long it may be silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest or of a list of platforms. Registries keep to 4 MiB too (Distribution Specification, "Pushing Manifests").
    pub manifest_bytes: u64,
    /// Bytes of an image's configuration.
    pub config_bytes: u64,
    /// Bytes of an answer that grants a token.
    pub token_bytes: u64,
    /// Layers of one image. Docker stops at 127, the overlay file system at 500.
    pub layers: usize,
    /// Bytes of one layer as it is transferred.
    pub blob_bytes: u64,
    /// Bytes of all layers together as they are transferred.
    pub image_bytes: u64,
    /// How often one request is sent on to another address.
    pub redirects: usize,
    /// How often one transfer is begun in all.
    pub attempts: u32,
    /// Between one attempt and the next; doubled each time.
    pub pause: Duration,
    /// For a connection to come about.
    pub connect_time: Duration,
    /// Between two pieces of an answer.
    pub stall_time: Duration,
    /// For a manifest or a token in all.
    pub document_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            config_bytes: 4 << 20,
            token_bytes: 64 << 10,
            layers: 512,
            blob_bytes: 16 << 30,
            image_bytes: 16 << 30,
            redirects: 5,
            attempts: 4,
            pause: Duration::from_secs(1),
            connect_time: Duration::from_secs(15),
            stall_time: Duration::from_secs(30),
            document_time: Duration::from_secs(60),
        }
    }
}
