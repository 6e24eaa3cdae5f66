//! The first process in an enclave: from the kernel's last step to the application's first, and from the
//! application's end to the enclave's.
//!
//! It does what AWS's init does, in the same order, so that an image behaves alike under both, and adds what
//! that one leaves to every application: loopback, working directory, user, extended attributes, kernel modules from a list, a host
//! name, and a report of how the application ended. The steps and their order are in [`boot`].
//!
//! It is a library only so that its parts can be tested without being process 1; the program is `main.rs`.

pub mod application;
pub mod attributes;
pub mod boot;
pub mod console;
pub mod failure;
pub mod files;
pub mod heartbeat;
pub mod launch;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod reaper;
pub mod report;
pub mod signals;
pub mod user;
pub mod vsock;
