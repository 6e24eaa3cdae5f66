//! Every fixed address, port and interrupt of the machine. docs/architecture.md repeats the table for users.
//!
//! ```text
//! 0x0000_0500            GDT for the first instruction
//! 0x0000_6000            PVH start information
//! 0x0000_7000            zero page (struct boot_params)
//! 0x0000_9000..0xF000    page tables: the first 4 GiB, identity-mapped
//! 0x0002_0000..0x3_0000  kernel command line
//! 0x000E_0000..0xF_0000  ACPI tables, RSDP first: the area where kernels look for it by themselves
//! 0x000F_0000..0x10_0000 MP table, where kernels look for it by themselves
//! 0x0010_0000..          kernel, ramdisks, free memory
//! 0xC000_0000..4 GiB     no memory: devices and interrupt controllers
//! 0x1_0000_0000..        the rest of the memory
//! ```

/// One gibibyte in bytes.
const GIB: u64 = 1 << 30;

/// Global descriptor table for the first instruction.
pub const GDT: u64 = 0x500;
/// `struct hvm_start_info`, its memory map and its module list, up to the zero page.
pub const PVH_START_INFO: u64 = 0x6000;
/// `struct boot_params`, one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// Page tables for the first instruction: one PML4, one PDPT, four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes kept for the command line and its terminating zero.
pub const COMMAND_LINE_SPACE: u64 = 0x1_0000;
/// End of the memory below 1 MiB that is free to use: above lie an empty EBDA, no video memory and the ACPI tables.
pub const LOW_MEMORY_END: u64 = 0x9_FC00;
/// Start of the hole that a PC has for video memory.
pub const VIDEO_HOLE: u64 = 0xA_0000;
/// ACPI tables. The RSDP is at this address: kernels that predate `acpi_rsdp_addr` find it by searching from here
/// (ACPI 6.5 section 5.2.5.1).
pub const ACPI_TABLES: u64 = 0xE_0000;
/// MP table, and the end of the area for ACPI tables. It begins the last of the areas that kernels search for it (MP specification
/// 1.4 chapter 4).
pub const MP_TABLE: u32 = 0xF_0000;
/// Where memory for kernels begins.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// First address without memory.
pub const MMIO_HOLE: u64 = 3 * GIB;
/// First address after the hole.
pub const MMIO_HOLE_END: u64 = 4 * GIB;
/// One past the highest guest physical address that memory may have: what four-level paging tables of every
/// processor with 46 physical address bits reach.
pub const ADDRESS_SPACE_END: u64 = 1 << 46;

/// Registers of the first virtio-mmio device. The others follow, [`VIRTIO_MMIO_SIZE`] bytes apart.
pub const VIRTIO_MMIO: u64 = 0xD000_0000;
/// Bytes of one virtio-mmio device's registers.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;
/// Interrupt of the first virtio-mmio device (edge-triggered, active high). The others follow.
pub const VIRTIO_MMIO_INTERRUPT: u32 = 5;
/// How many virtio-mmio devices the machine has: vsock, then the security module.
pub const VIRTIO_MMIO_DEVICES: u32 = 2;

/// I/O APIC, where KVM puts it.
pub const IO_APIC: u32 = 0xFEC0_0000;
/// Local APIC, where processors put it.
pub const LOCAL_APIC: u32 = 0xFEE0_0000;
/// One page for KVM's identity map (needed by old Intel processors), in the hole.
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
/// Three pages for KVM's task state segment (needed by old Intel processors), in the hole.
pub const KVM_TSS: u32 = 0xFFFB_D000;

/// COM1: eight ports.
pub const COM1: u16 = 0x3F8;
/// Ports of COM1.
pub const COM1_PORTS: u16 = 8;
/// Interrupt of COM1 (edge-triggered, active high).
pub const COM1_INTERRUPT: u32 = 4;
/// Data port of the keyboard controller.
pub const I8042_DATA: u16 = 0x60;
/// Command and status port of the keyboard controller.
pub const I8042_COMMAND: u16 = 0x64;
/// The keyboard controller's command that pulses the processor's reset line.
pub const I8042_RESET: u8 = 0xFE;
/// ACPI sleep control register (ACPI 6.5 section 4.8.3.7), one byte.
pub const ACPI_SLEEP_CONTROL: u16 = 0x600;
/// ACPI sleep status register, one byte.
pub const ACPI_SLEEP_STATUS: u16 = 0x601;
/// ACPI reset register (section 4.8.3.6), one byte.
pub const ACPI_RESET: u16 = 0x602;
/// What to write to [`ACPI_RESET`].
pub const ACPI_RESET_VALUE: u8 = 1;
/// Sleep type of the soft-off state, as `\_S5_` says it.
pub const ACPI_S5_SLEEP_TYPE: u8 = 5;
/// Sleep type field of [`ACPI_SLEEP_CONTROL`].
pub const ACPI_SLEEP_TYPE_SHIFT: u8 = 2;
/// Sleep enable bit of [`ACPI_SLEEP_CONTROL`].
pub const ACPI_SLEEP_ENABLE: u8 = 1 << 5;

/// The most virtual CPUs of a machine.
pub const MAX_VCPUS: u32 = 64;

/// Address of the registers of the virtio-mmio device number `index`.
#[must_use]
pub const fn virtio_mmio_address(index: u32) -> u64 {
    VIRTIO_MMIO + index as u64 * VIRTIO_MMIO_SIZE
}

/// Interrupt of the virtio-mmio device number `index`.
#[must_use]
pub const fn virtio_mmio_interrupt(index: u32) -> u32 {
    VIRTIO_MMIO_INTERRUPT + index
}

/// The interrupts of all devices, each at the I/O APIC's input of the same number. There are no others.
pub fn device_interrupts() -> impl Iterator<Item = u32> {
    core::iter::once(COM1_INTERRUPT).chain((0..VIRTIO_MMIO_DEVICES).map(virtio_mmio_interrupt))
}

// The areas must not run into each other, and every interrupt must be one that needs no override in the MADT.
const _: () = assert!(COMMAND_LINE + COMMAND_LINE_SPACE <= LOW_MEMORY_END);
const _: () = assert!(PAGE_TABLES + 6 * 0x1000 <= COMMAND_LINE);
const _: () = assert!(virtio_mmio_address(VIRTIO_MMIO_DEVICES) <= MMIO_HOLE_END);
const _: () = assert!(virtio_mmio_interrupt(VIRTIO_MMIO_DEVICES) <= 16);
