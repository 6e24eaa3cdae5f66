//! The enclave image file: read, write, measure, verify.
