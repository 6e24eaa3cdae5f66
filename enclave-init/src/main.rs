//! The first process in an enclave.

fn main() {}
