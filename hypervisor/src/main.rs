//! `enclave-hypervisor`: one binary, three processes, chosen by the first argument.

fn main() {}
