//! The enclave's three processes, and what commands use to start them and to talk to them.
//!
//! An enclave is a supervisor, a virtual machine process and a security module, each its own execution of
//! `enclave-hypervisor`, joined by socketpairs. docs/architecture.md draws them.

pub mod arch;
pub mod channel;
pub mod description;
pub mod exit_reason;
pub mod launch;
pub mod messages;
