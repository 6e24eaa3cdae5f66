//! The tables as a kernel reads them: pointers followed, sums added up, AML walked.

use super::*;

/// The bytes of the table at this address.
fn table(tables: &[u8], address: u64) -> &[u8] {
    let start = usize::try_from(address - ACPI_TABLES).unwrap();
    let length = u32::from_le_bytes(tables[start + 4..start + 8].try_into().unwrap());
    let table = &tables[start..start + usize::try_from(length).unwrap()];
    assert_eq!(sum(table), 0, "the sum of {}", String::from_utf8_lossy(&table[..4]));
    table
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

/// All tables by their signature, found from the RSDP.
fn find(tables: &[u8], signature: &[u8; 4]) -> Vec<u8> {
    let rsdp = &tables[..36];
    assert_eq!((&rsdp[..8], sum(&rsdp[..20]), sum(rsdp), rsdp[15]), (&b"RSD PTR "[..], 0, 0, 2));
    let xsdt = table(tables, u64_at(rsdp, 24));
    let mut found: Vec<&[u8]> = xsdt[36..].chunks(8).map(|entry| table(tables, u64_at(entry, 0))).collect();
    let fadt = *found.iter().find(|table| table.starts_with(b"FACP")).unwrap();
    found.push(table(tables, u64_at(fadt, 140)));
    found.into_iter().find(|table| table.starts_with(signature)).unwrap().to_vec()
}

#[test]
fn the_fadt_describes_reduced_hardware_with_sleep_and_reset_registers() {
    let fadt = find(&build(1).unwrap(), b"FACP");
    let flags = u32_at(&fadt, 112);
    assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10, "reduced hardware, reset register");
    let register = |offset: usize| (fadt[offset], fadt[offset + 1], u64_at(&fadt, offset + 4));
    // I/O space, eight bits.
    assert_eq!(register(116), (1, 8, 0x602));
    assert_eq!(fadt[128], 1, "the reset value");
    assert_eq!(register(244), (1, 8, 0x600), "sleep control");
    assert_eq!(register(256), (1, 8, 0x601), "sleep status");
    assert_eq!(fadt[8], 6, "ACPI 6");
    assert_eq!(u32_at(&fadt, 40), 0, "only one DSDT pointer");
}

#[test]
fn the_madt_has_an_apic_for_each_virtual_cpu_and_no_overrides() {
    for vcpus in [1, 2, 64] {
        let madt = find(&build(vcpus).unwrap(), b"APIC");
        assert_eq!(u32_at(&madt, 36), 0xFEE0_0000);
        let mut rest = &madt[44..];
        let mut apics = 0u8;
        let mut io_apics = 0;
        while let [kind, length, body @ ..] = rest {
            match (kind, length) {
                (0, 8) => {
                    assert_eq!((body[0], body[1], u32_at(body, 2)), (apics, apics, 1));
                    apics += 1;
                }
                (1, 12) => {
                    assert_eq!((u32_at(body, 2), u32_at(body, 6)), (0xFEC0_0000, 0));
                    io_apics += 1;
                }
                other => panic!("a structure that has no business here: {other:?}"),
            }
            rest = &rest[usize::from(*length)..];
        }
        assert_eq!((u32::from(apics), io_apics), (vcpus, 1));
    }
}

#[test]
fn more_virtual_cpus_than_the_limit_are_refused() {
    assert!(matches!(build(MAX_VCPUS + 1), Err(BootError::VcpuCount(65))));
}

/// Length of an AML package from its first byte on, and bytes that say so (ACPI 6.5 section 20.2.4).
fn package_length(aml: &[u8]) -> (usize, usize) {
    let more = usize::from(aml[0] >> 6);
    let low = if more == 0 { usize::from(aml[0] & 0x3F) } else { usize::from(aml[0] & 0xF) };
    let length = (0..more).fold(low, |length, index| length | usize::from(aml[1 + index]) << (4 + 8 * index));
    (length, more + 1)
}

/// Names and devices of a term list, which must hold nothing else. Values are skipped by their own encoding.
fn walk(mut aml: &[u8], names: &mut Vec<String>) {
    while !aml.is_empty() {
        match aml {
            [0x5B, 0x82, body @ ..] => {
                let (length, size) = package_length(body);
                let (name, inside) = name(&body[size..length]);
                names.push(format!("device {name}"));
                walk(inside, names);
                aml = &body[length..];
            }
            [0x08, body @ ..] => {
                let (name, value) = name(body);
                names.push(name);
                aml = &value[value_length(value)..];
            }
            other => panic!("neither a name nor a device: {:x?}", &other[..other.len().min(8)]),
        }
    }
}

/// A name: root prefix and dual names included.
fn name(aml: &[u8]) -> (String, &[u8]) {
    let (segments, start) = if aml[0] == 0x2E { (2, 1) } else { (1, 0) };
    let end = start + 4 * segments;
    (String::from_utf8(aml[start..end].to_vec()).unwrap(), &aml[end..])
}

fn value_length(aml: &[u8]) -> usize {
    match aml[0] {
        0x00 | 0x01 | 0xFF => 1,
        0x0A => 2,
        0x0B => 3,
        0x0C => 5,
        0x0D => aml.iter().position(|byte| *byte == 0).unwrap() + 1,
        0x11 | 0x12 => 1 + package_length(&aml[1..]).0,
        other => panic!("a value of an unknown kind: {other:#x}"),
    }
}

#[test]
fn the_dsdt_holds_soft_off_and_three_devices_and_no_code() {
    let dsdt = find(&build(1).unwrap(), b"DSDT");
    assert_eq!(dsdt[8], 2, "64-bit integers");
    let mut names = Vec::new();
    walk(&dsdt[36..], &mut names);
    assert_eq!(
        names,
        [
            "_S5_",
            "device _SB_COM1",
            "_HID",
            "_UID",
            "_CRS",
            "device _SB_VM00",
            "_HID",
            "_UID",
            "_CCA",
            "_CRS",
            "device _SB_VM01",
            "_HID",
            "_UID",
            "_CCA",
            "_CRS"
        ]
    );
    let holds = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
    // \_S5_ is a package of the sleep type 5.
    assert!(holds(b"_S5_\x12\x04\x01\x0A\x05"));
    // EISA id PNP0501, and its ports: 16-bit decode, 0x3F8 to 0x3F8, alignment 1, length 8.
    assert!(holds(&[0x0C, 0x41, 0xD0, 0x05, 0x01]));
    assert!(holds(&[0x47, 0x01, 0xF8, 0x03, 0xF8, 0x03, 0x01, 0x08]));
    // Extended interrupts: consumer, edge, active high, exclusive.
    for interrupt in [4, 5, 6] {
        assert!(holds(&[0x89, 0x06, 0x00, 0x03, 0x01, interrupt, 0, 0, 0]), "interrupt {interrupt}");
    }
    for address in [0xD000_0000u32, 0xD000_1000] {
        let mut memory = vec![0x86, 0x09, 0x00, 0x01];
        memory.extend_from_slice(&address.to_le_bytes());
        memory.extend_from_slice(&0x1000u32.to_le_bytes());
        assert!(holds(&memory), "{address:#x}");
    }
}
