//! Root folder to enclave image, reproducibly.
