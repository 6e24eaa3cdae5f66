//! PCR arithmetic, attestation documents, certificates, and their verification.
//!
//! Pure computation: no I/O, no clock, no unsafe code. Callers pass time and randomness in.

pub mod pcr;
