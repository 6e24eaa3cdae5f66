//! A virtual CPU, from what KVM makes to what a kernel expects.

use kvm_ioctls::VcpuFd;
use thiserror::Error;

use super::cpuid::CpuidTemplate;
use super::{msrs, registers};
use crate::messages::EntryPoint;

pub use super::cpuid::CpuidTemplate as ProcessorTemplate;

/// Why a virtual CPU or its surroundings could not be set up.
#[derive(Debug, Error)]
pub enum ProcessorError {
    /// KVM refused.
    #[error("{what} failed: {source}")]
    Kvm {
        /// What was being done.
        what: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
    /// The host's KVM is too old or too small.
    #[error("this host's KVM does not have {0}")]
    MissingFeature(&'static str),
    /// More entries than KVM takes in one call.
    #[error("{0} entries are more than KVM takes")]
    TooManyLeaves(usize),
}

/// Gives virtual CPU number `index` its CPUID and its MSRs.
///
/// # Errors
/// KVM's.
pub fn set_up(vcpu: &VcpuFd, template: &CpuidTemplate, index: u32) -> Result<(), ProcessorError> {
    let cpuid = template.for_vcpu(index)?;
    vcpu.set_cpuid2(&cpuid).map_err(|source| ProcessorError::Kvm { what: "setting the CPUID", source })?;
    msrs::set_initial(vcpu)?;
    vcpu.set_fpu(&registers::floating_point())
        .map_err(|source| ProcessorError::Kvm { what: "setting the floating-point registers", source })
}

/// Puts the first virtual CPU before its first instruction. The others wait for it to start them.
///
/// # Errors
/// KVM's.
pub fn enter(vcpu: &VcpuFd, entry: EntryPoint) -> Result<(), ProcessorError> {
    let failed =
        |source| ProcessorError::Kvm { what: "setting the registers of the first virtual CPU", source };
    let sregs = vcpu.get_sregs().map_err(failed)?;
    vcpu.set_sregs(&registers::system(entry, sregs)).map_err(failed)?;
    vcpu.set_regs(&registers::general(entry)).map_err(failed)
}

/// The registers that tell where a virtual CPU stood, for people.
#[must_use]
pub fn describe(vcpu: &VcpuFd) -> String {
    let (Ok(regs), Ok(sregs)) = (vcpu.get_regs(), vcpu.get_sregs()) else {
        return "its registers cannot be read".to_owned();
    };
    format!(
        "rip {:#x} rsp {:#x} rflags {:#x} rax {:#x} rcx {:#x} rdx {:#x} rbx {:#x} rsi {:#x} rdi {:#x} \
         cs {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
        regs.rip,
        regs.rsp,
        regs.rflags,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rbx,
        regs.rsi,
        regs.rdi,
        sregs.cs.selector,
        sregs.cr0,
        sregs.cr2,
        sregs.cr3,
        sregs.cr4,
        sregs.efer,
    )
}
