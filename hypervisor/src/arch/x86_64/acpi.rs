//! The ACPI tables (ACPI 6.5): what the machine has, as plain data.
//!
//! Hardware-reduced ACPI with sleep and reset registers; one local APIC per virtual CPU and one I/O APIC, with every
//! interrupt where its number says, so no overrides; and a DSDT of devices without a single method, so that no code
//! of ours is interpreted in the guest. The RSDP comes first, at an address where old kernels search for it.

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::{BootError, to_u64};
use super::layout::{
    ACPI_RESET, ACPI_RESET_VALUE, ACPI_S5_SLEEP_TYPE, ACPI_SLEEP_CONTROL, ACPI_SLEEP_STATUS, ACPI_TABLES,
    COM1, COM1_INTERRUPT, COM1_PORTS, IO_APIC, LOCAL_APIC, MAX_VCPUS, MP_TABLE, VIRTIO_MMIO_DEVICES,
    VIRTIO_MMIO_SIZE, virtio_mmio_address, virtio_mmio_interrupt,
};

/// Who made the tables.
const OEM_ID: [u8; 6] = *b"ENCLAV";
/// The tables' name.
const OEM_TABLE_ID: [u8; 8] = *b"ENCLAVES";
/// Changes with the tables.
const OEM_REVISION: u32 = 1;

/// FADT, `IAPC_BOOT_ARCH` (ACPI 6.5 table 5.11): no VGA to probe, no message-signalled interrupts, no PCIe ASPM, no
/// CMOS clock. The bit for a keyboard controller stays clear as well: ours only resets.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5;

/// Tables start at multiples of this.
const ALIGNMENT: usize = 16;

/// Writes all tables to [`ACPI_TABLES`].
///
/// # Errors
/// [`BootError::VcpuCount`] beyond [`MAX_VCPUS`]; [`BootError::Memory`] if there is no memory at the address.
pub fn write(memory: &GuestMemoryMmap, vcpus: u32) -> Result<(), BootError> {
    let tables = build(vcpus)?;
    Ok(memory.write_slice(&tables, GuestAddress(ACPI_TABLES))?)
}

/// All tables, RSDP first, as they lie from [`ACPI_TABLES`] on.
fn build(vcpus: u32) -> Result<Vec<u8>, BootError> {
    let mut tables = Tables { bytes: vec![0; Rsdp::len()] };
    let dsdt = tables.append(&dsdt());
    let fadt = tables.append(&fadt(dsdt));
    let madt = tables.append(&madt(vcpus)?);
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = tables.append(&to_bytes(&xsdt));
    let rsdp = to_bytes(&Rsdp::new(OEM_ID, xsdt));
    for (place, byte) in tables.bytes.iter_mut().zip(rsdp) {
        *place = byte;
    }
    if to_u64(tables.bytes.len()) > u64::from(MP_TABLE) - ACPI_TABLES {
        return Err(BootError::VcpuCount(vcpus));
    }
    Ok(tables.bytes)
}

/// Tables one after the other.
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table and returns its address.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let address = ACPI_TABLES.saturating_add(to_u64(self.bytes.len()));
        self.bytes.extend_from_slice(table);
        address
    }
}

fn to_bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// One byte-wide port.
fn port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into())
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(ACPI_RESET);
    fadt.reset_value = ACPI_RESET_VALUE;
    fadt.sleep_control_reg = port(ACPI_SLEEP_CONTROL);
    fadt.sleep_status_reg = port(ACPI_SLEEP_STATUS);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(OEM_TABLE_ID).into();
    to_bytes(&fadt.finalize())
}

fn madt(vcpus: u32) -> Result<Vec<u8>, BootError> {
    let mut madt =
        MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for vcpu in 0..vcpus {
        let id = u8::try_from(vcpu).ok().filter(|_| vcpus <= MAX_VCPUS).ok_or(BootError::VcpuCount(vcpus))?;
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IO_APIC, 0));
    Ok(to_bytes(&madt))
}

/// The devices: a serial port and the virtio-mmio devices. Its revision makes integers 64 bits wide.
fn dsdt() -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    dsdt.append_slice(&soft_off());
    dsdt.append_slice(&serial_port());
    for index in 0..VIRTIO_MMIO_DEVICES {
        dsdt.append_slice(&virtio_device(index));
    }
    dsdt.as_slice().to_vec()
}

/// `\_S5_`: the sleep type that turns the machine off.
fn soft_off() -> Vec<u8> {
    to_bytes(&aml::Name::new("_S5_".into(), &aml::Package::new(vec![&ACPI_S5_SLEEP_TYPE])))
}

/// COM1. Without this entry Linux on hardware-reduced ACPI finds the port but no interrupt for it.
fn serial_port() -> Vec<u8> {
    // The size of an I/O range is one byte in AML.
    let ports = u8::try_from(COM1_PORTS).unwrap_or(u8::MAX);
    to_bytes(&aml::Device::new(
        "_SB_.COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::IO::new(COM1, COM1, 1, ports),
                    &aml::Interrupt::new(true, true, false, false, COM1_INTERRUPT),
                ]),
            ),
        ],
    ))
}

/// A virtio-mmio device (`LNRO0005`, which Linux's virtio_mmio driver takes).
fn virtio_device(index: u32) -> Vec<u8> {
    // Both are far below 4 GiB: layout.rs asserts it.
    let address = u32::try_from(virtio_mmio_address(index)).unwrap_or(u32::MAX);
    let length = u32::try_from(VIRTIO_MMIO_SIZE).unwrap_or(u32::MAX);
    to_bytes(&aml::Device::new(
        format!("_SB_.VM{index:02}").as_str().into(),
        vec![
            &aml::Name::new("_HID".into(), &"LNRO0005"),
            &aml::Name::new("_UID".into(), &index),
            &aml::Name::new("_CCA".into(), &aml::ONE),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::Memory32Fixed::new(true, address, length),
                    &aml::Interrupt::new(true, true, false, false, virtio_mmio_interrupt(index)),
                ]),
            ),
        ],
    ))
}

#[cfg(test)]
mod tests;
