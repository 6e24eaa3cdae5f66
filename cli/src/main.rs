//! The `enclave` command.

fn main() {}
