//! What a virtual machine has besides memory and virtual CPUs: interrupt controllers and their wiring.
//!
//! Local APICs and the I/O APIC are KVM's. There is no timer but the local APIC's, which counts the time-stamp
//! counter (TSC deadline): a hardware-reduced ACPI machine has no PIT that a kernel would look for, and kvm-clock
//! tells kernels the counter's rate. Interrupts go to the I/O APIC only: nobody programs the old PICs.

use kvm_bindings::{
    KVM_CAP_PMU_CAPABILITY, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_PMU_CAP_DISABLE, KvmIrqRouting,
    kvm_enable_cap, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip,
};
use kvm_ioctls::VmFd;

use super::layout::{KVM_IDENTITY_MAP, KVM_TSS, device_interrupts};
use super::msrs;
use super::processor::ProcessorError;

/// Prepares a machine that has no virtual CPU yet.
///
/// # Errors
/// KVM's.
pub fn prepare(vm: &VmFd) -> Result<(), ProcessorError> {
    let failed = |what| move |source| ProcessorError::Kvm { what, source };
    vm.set_identity_map_address(KVM_IDENTITY_MAP).map_err(failed("placing KVM's identity map"))?;
    // Lossless: the address is below 4 GiB.
    let tss = usize::try_from(KVM_TSS).unwrap_or_default();
    vm.set_tss_address(tss).map_err(failed("placing KVM's task state segment"))?;
    vm.create_irq_chip().map_err(failed("creating the interrupt controllers"))?;
    route_interrupts(vm)?;
    disable_pmu(vm)?;
    msrs::restrict(vm)
}

/// Connects the devices' interrupts, and nothing else, to the I/O APIC's inputs of the same number.
fn route_interrupts(vm: &VmFd) -> Result<(), ProcessorError> {
    let entries: Vec<_> = device_interrupts()
        .map(|number| kvm_irq_routing_entry {
            gsi: number,
            type_: KVM_IRQ_ROUTING_IRQCHIP,
            u: kvm_irq_routing_entry__bindgen_ty_1 {
                irqchip: kvm_irq_routing_irqchip { irqchip: KVM_IRQCHIP_IOAPIC, pin: number },
            },
            ..Default::default()
        })
        .collect();
    let routing =
        KvmIrqRouting::from_entries(&entries).map_err(|_| ProcessorError::TooManyLeaves(entries.len()))?;
    vm.set_gsi_routing(&routing)
        .map_err(|source| ProcessorError::Kvm { what: "connecting interrupts to the I/O APIC", source })
}

/// Takes the performance counters away altogether, where KVM can (Linux 5.18). CPUID shows none in any case, and the
/// MSR filter denies them.
fn disable_pmu(vm: &VmFd) -> Result<(), ProcessorError> {
    let offered = vm.check_extension_raw(u64::from(KVM_CAP_PMU_CAPABILITY));
    let disable = i32::try_from(KVM_PMU_CAP_DISABLE).unwrap_or_default();
    if offered <= 0 || offered & disable == 0 {
        return Ok(());
    }
    let mut capability = kvm_enable_cap { cap: KVM_CAP_PMU_CAPABILITY, ..Default::default() };
    if let Some(argument) = capability.args.first_mut() {
        *argument = KVM_PMU_CAP_DISABLE.into();
    }
    vm.enable_cap(&capability)
        .map_err(|source| ProcessorError::Kvm { what: "taking the performance counters away", source })
}
