//! The security module: protocol, PCR bank, attestation documents.
