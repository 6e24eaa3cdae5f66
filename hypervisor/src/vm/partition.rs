//! The KVM virtual machine: memory slots, interrupts, notifications, and the descriptors of its virtual CPUs.
//!
//! It allocates no memory: regions are given to it. Threads are `vcpu`'s.
#![expect(unsafe_code, reason = "KVM is told addresses of memory")]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::error::VmError;
use crate::arch::layout::MAX_VCPUS;
use crate::arch::platform;
use crate::arch::processor::{self, ProcessorTemplate};

/// The KVM API's only version.
const API_VERSION: i32 = 12;

/// A virtual machine without threads.
#[derive(Debug)]
pub(super) struct Partition {
    vm: VmFd,
    /// KVM keeps using the memory, so the partition keeps the mappings.
    memory: Option<GuestMemoryMmap>,
}

impl Partition {
    /// Makes a virtual machine and its virtual CPUs, which are ready to be entered.
    pub(super) fn new(kvm: OwnedFd, vcpus: usize) -> Result<(Self, Vec<VcpuFd>), VmError> {
        let count = u32::try_from(vcpus)
            .ok()
            .filter(|count| (1..=MAX_VCPUS).contains(count))
            .ok_or(VmError::VcpuCount(vcpus))?;
        // SAFETY: the descriptor is owned; that it is KVM's is checked next.
        let kvm = unsafe { Kvm::from_raw_fd(kvm.into_raw_fd()) };
        if kvm.get_api_version() != API_VERSION {
            return Err(VmError::Protocol("the descriptor is not /dev/kvm"));
        }
        let template = ProcessorTemplate::new(&kvm, count)?;
        let vm = kvm.create_vm().map_err(VmError::kvm("creating the virtual machine"))?;
        platform::prepare(&vm)?;
        let descriptors = (0..count)
            .map(|index| {
                let vcpu = vm.create_vcpu(index.into()).map_err(VmError::kvm("creating a virtual CPU"))?;
                processor::set_up(&vcpu, &template, index)?;
                Ok(vcpu)
            })
            .collect::<Result<Vec<_>, VmError>>()?;
        Ok((Self { vm, memory: None }, descriptors))
    }

    /// Gives the machine its memory, once.
    pub(super) fn set_memory(&mut self, memory: GuestMemoryMmap) -> Result<(), VmError> {
        for (slot, region) in (0u32..).zip(memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr().expose_provenance() as u64,
            };
            // SAFETY: the range is a mapping of the whole region that lives as long as `self.memory`, which the
            // partition never drops before the virtual machine.
            unsafe { self.vm.set_user_memory_region(region) }
                .map_err(VmError::kvm("giving the machine its memory"))?;
        }
        self.memory = Some(memory);
        Ok(())
    }

    /// An event that raises the interrupt of this number.
    pub(super) fn interrupt(&self, number: u32) -> Result<EventFd, VmError> {
        let event = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
            .map_err(VmError::system("making an interrupt's event"))?;
        self.vm.register_irqfd(&event, number).map_err(VmError::kvm("connecting an interrupt"))?;
        Ok(event)
    }

    /// An event that is signalled when the guest writes `value`, four bytes, to `address`.
    pub(super) fn notification(&self, address: u64, value: u32) -> Result<EventFd, VmError> {
        let event = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
            .map_err(VmError::system("making a notification's event"))?;
        self.vm
            .register_ioevent(&event, &IoEventAddress::Mmio(address), value)
            .map_err(VmError::kvm("connecting a notification"))?;
        Ok(event)
    }
}
