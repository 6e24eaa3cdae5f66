//! The MP table (Intel MultiProcessor Specification 1.4, chapter 4): processors and interrupts, as kernels without ACPI read them.
//!
//! Kernels with ACPI take all of it from there (acpi.rs) and never read the table. They look for it all the same: Linux maps and
//! unmaps its way through the area above 0xF0000 in 4096 steps, 70 000 invalidated pages, unless it finds the table at the first.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::BootError;
use super::layout::{IO_APIC, LOCAL_APIC, MAX_VCPUS, MP_TABLE, device_interrupts};

/// Bytes of the floating pointer structure (section 4.1). The table follows it.
const POINTER_LENGTH: u32 = 16;
/// Revision 1.4, in both structures.
const REVISION: u8 = 4;
/// Version of local APICs on a chip (table 4-4: 1x).
const LOCAL_APIC_VERSION: u8 = 0x14;
/// Version of KVM's I/O APIC (`IOAPIC_VERSION_ID` in arch/x86/kvm/ioapic.h).
const IO_APIC_VERSION: u8 = 0x11;
/// Processor and I/O APIC flag: usable.
const ENABLED: u8 = 1;
/// Processor flag: the one that starts first.
const BOOT_PROCESSOR: u8 = 1 << 1;
/// The only bus. Its interrupts are edge-triggered and active high unless an entry says otherwise.
const ISA: u8 = 0;
/// Entry kinds (table 4-3).
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const INTERRUPT: u8 = 3;

/// Writes the pointer and the table to [`MP_TABLE`].
///
/// # Errors
/// [`BootError::VcpuCount`] beyond [`MAX_VCPUS`]; [`BootError::Memory`] if there is no memory at the address.
pub(super) fn write(memory: &GuestMemoryMmap, vcpus: u32) -> Result<(), BootError> {
    Ok(memory.write_slice(&build(vcpus)?, GuestAddress(MP_TABLE.into()))?)
}

/// Pointer and table, as they lie from [`MP_TABLE`] on.
fn build(vcpus: u32) -> Result<Vec<u8>, BootError> {
    let mut bytes = pointer();
    bytes.extend(table(vcpus)?);
    Ok(bytes)
}

fn pointer() -> Vec<u8> {
    let mut pointer = b"_MP_".to_vec();
    pointer.extend(MP_TABLE.saturating_add(POINTER_LENGTH).to_le_bytes());
    // Its length in units of 16 bytes, the revision, the checksum, and five feature bytes: a table, and no IMCR.
    pointer.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    with_checksum(pointer, 10)
}

fn table(vcpus: u32) -> Result<Vec<u8>, BootError> {
    let count = u8::try_from(vcpus).ok().filter(|_| vcpus <= MAX_VCPUS).ok_or(BootError::VcpuCount(vcpus))?;
    // Its number must be no processor's.
    let io_apic = count;
    let mut entries: Vec<Vec<u8>> = (0..count).map(processor).collect();
    entries.push([&[BUS, ISA][..], b"ISA   "].concat());
    entries.push([&[IO_APIC_ENTRY, io_apic, IO_APIC_VERSION, ENABLED][..], &IO_APIC.to_le_bytes()].concat());
    // Below 16: layout.rs asserts it.
    entries.extend(device_interrupts().filter_map(|number| u8::try_from(number).ok()).map(|number| {
        // An ordinary interrupt, polarity and trigger as the bus has them, at the I/O APIC's input of the same number.
        vec![INTERRUPT, 0, 0, 0, ISA, number, io_apic, number]
    }));
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    let entries = entries.concat();
    let length = entries.len().saturating_add(HEADER_LENGTH);
    let mut table = b"PCMP".to_vec();
    table.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    table.extend([REVISION, 0]);
    table.extend(b"ENCLAVE ENCLAVE     ");
    // No table of the maker's.
    table.extend([0; 6]);
    table.extend(count.to_le_bytes());
    table.extend(LOCAL_APIC.to_le_bytes());
    // No extended entries.
    table.extend([0; 4]);
    table.extend(entries);
    Ok(with_checksum(table, 7))
}

/// Bytes of the table before its first entry (section 4.2).
const HEADER_LENGTH: usize = 44;

/// A virtual CPU. Signature and features are left empty: CPUID tells them.
fn processor(id: u8) -> Vec<u8> {
    let flags = if id == 0 { ENABLED | BOOT_PROCESSOR } else { ENABLED };
    let mut entry = vec![PROCESSOR, id, LOCAL_APIC_VERSION, flags];
    entry.extend([0; 16]);
    entry
}

/// Sets the byte at `place` so that all add up to zero.
fn with_checksum(mut bytes: Vec<u8>, place: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(place) {
        *checksum = sum.wrapping_neg();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u16_at(bytes: &[u8], offset: usize) -> usize {
        usize::from(u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap()))
    }

    #[test]
    fn the_pointer_leads_to_the_table_behind_it() {
        let bytes = build(1).unwrap();
        let (pointer, table) = bytes.split_at(16);
        assert_eq!((&pointer[..4], pointer[8], pointer[9]), (&b"_MP_"[..], 1, 4));
        assert_eq!(pointer[4..8], 0x000F_0010_u32.to_le_bytes());
        assert_eq!((sum(pointer), &pointer[11..]), (0, &[0; 5][..]));
        assert_eq!((&table[..4], u16_at(table, 4), sum(table)), (&b"PCMP"[..], table.len(), 0));
        assert_eq!(table[36..40], 0xFEE0_0000_u32.to_le_bytes());
    }

    #[test]
    fn each_virtual_cpu_has_an_entry_and_the_first_one_boots() {
        for vcpus in [1, 2, 64] {
            let bytes = build(u32::from(vcpus)).unwrap();
            let table = &bytes[16..];
            let mut rest = &table[44..];
            let (mut processors, mut others, mut entries) = (Vec::new(), Vec::new(), 0);
            while let Some(kind) = rest.first() {
                let (entry, left) = rest.split_at(if *kind == 0 { 20 } else { 8 });
                if *kind == 0 {
                    processors.push((entry[1], entry[3]))
                } else {
                    others.push(entry.to_vec())
                }
                (rest, entries) = (left, entries + 1);
            }
            let expected: Vec<_> = (0..vcpus).map(|id| (id, if id == 0 { 3 } else { 1 })).collect();
            assert_eq!((processors, u16_at(table, 34)), (expected, entries));
            assert_eq!(
                others,
                [
                    b"\x01\x00ISA   ".to_vec(),
                    vec![2, vcpus, 0x11, 1, 0, 0, 0xC0, 0xFE],
                    vec![3, 0, 0, 0, 0, 4, vcpus, 4],
                    vec![3, 0, 0, 0, 0, 5, vcpus, 5],
                    vec![3, 0, 0, 0, 0, 6, vcpus, 6],
                ]
            );
        }
    }

    #[test]
    fn more_virtual_cpus_than_a_machine_has_are_refused() {
        assert!(matches!(build(65), Err(BootError::VcpuCount(65))));
        assert!(matches!(build(256), Err(BootError::VcpuCount(256))));
    }
}
