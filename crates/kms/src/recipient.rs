//! The attestation document of a request, verified, and the answer sealed for its key.
