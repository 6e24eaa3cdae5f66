//! The enclave's three processes, and what commands use to start them and to talk to them.
//!
//! An enclave is a supervisor, a virtual machine process and a security module, each its own execution of
//! `enclave-hypervisor`, joined by socketpairs. docs/architecture.md draws them.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]

pub mod arch;
pub mod channel;
pub mod child;
pub mod client;
pub mod console_log;
pub mod containment_trial;
pub mod control;
pub mod description;
pub mod exit_reason;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inherited;
pub mod launch;
pub mod loading;
pub mod memory;
pub mod messages;
pub mod run_dir;
pub mod security_module;
pub mod spawn;
pub mod state;
pub mod supervisor;
pub mod system_calls;
pub mod unix_socket;
pub mod vm;
