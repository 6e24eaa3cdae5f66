//! The virtual machine process: KVM, devices, virtual CPUs. It trusts its supervisor and nobody else.
//!
//! - `partition`: the KVM virtual machine, its memory and its virtual CPUs' descriptors. It owns no memory: it is
//!   given regions of a descriptor.
//! - `vcpu`: one thread for each virtual CPU, on the host CPU it was told.
//! - `machine`: which devices at which addresses. `console`, `nsm` and `host_end` are what they are made of, `worker`
//!   the threads that let virtio devices work.
//! - `control`: the life of the process: prepare, boot, run, end, in this order, by the supervisor's messages.

mod console;
mod control;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host_end;
mod machine;
mod nsm;
mod partition;
mod stop;
mod vcpu;
mod worker;

use std::os::fd::OwnedFd;

use crate::channel::Channel;
use crate::messages::FromVm;

pub use error::VmError;

/// The whole life of the process, on its channels to the supervisor and to the security module. Returns when the
/// machine has ended and the supervisor knows why, or when the supervisor is gone. `missing` is what this host did not allow
/// of the process's containment.
///
/// # Errors
/// What kept the machine from starting; the supervisor was told that as well, if it could be.
pub fn run(supervisor: OwnedFd, security_module: OwnedFd, missing: Vec<String>) -> Result<(), VmError> {
    let supervisor = Channel::new(supervisor);
    if !missing.is_empty() {
        supervisor.send(&FromVm::Contained { missing }, &[])?;
    }
    control::serve(supervisor, security_module)
}
