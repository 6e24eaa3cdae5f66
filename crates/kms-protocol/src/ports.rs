//! The vsock ports at which an enclave looks for its host's part, unless it is told others.

/// The key service, or a forwarder to it: where AWS's kmstool-enclave-cli asks (`--proxy-port`, aws-nitro-enclaves-sdk-c,
/// bin/kmstool-enclave-cli/README.md).
pub const SERVICE: u32 = 8000;

/// Credentials. Our own choice, beside the service's.
pub const CREDENTIALS: u32 = 8001;
