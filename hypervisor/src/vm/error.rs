//! What can go wrong in the virtual machine process before its virtual CPUs run.

use std::io;

use thiserror::Error;

use crate::arch::layout::MAX_VCPUS;
use crate::arch::processor::ProcessorError;
use crate::channel::ChannelError;
use crate::memory::MemoryError;

/// Why a machine could not be prepared or started.
#[derive(Debug, Error)]
pub enum VmError {
    /// The channel to the supervisor failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The supervisor said something out of order.
    #[error("the supervisor's message is out of order: {0}")]
    Protocol(&'static str),
    /// KVM refused.
    #[error("{what} failed: {source}")]
    Kvm {
        /// What was being done.
        what: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
    /// The processor or its surroundings could not be set up.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// A number of virtual CPUs that the machine cannot have.
    #[error("{0} virtual CPUs were asked for: 1 to {MAX_VCPUS} are possible")]
    VcpuCount(usize),
    /// A virtual CPU's thread cannot run where it should.
    #[error(
        "virtual CPU {vcpu} cannot run on CPU {cpu}: {source} (is it online, and allowed in this cpuset?)"
    )]
    Affinity {
        /// The virtual CPU.
        vcpu: u32,
        /// The host's CPU.
        cpu: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Guest memory could not be mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A virtio device could not be made.
    #[error("a device could not be made: {0}")]
    Device(String),
    /// A thread could not give up what it does not need.
    #[error(transparent)]
    Containment(#[from] containment::ContainmentError),
    /// The host refused a system call.
    #[error("{what} failed: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl VmError {
    /// For `map_err` on KVM's calls.
    pub(super) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { what, source }
    }

    /// For `map_err` on system calls.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
