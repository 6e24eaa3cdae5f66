//! The filter and the topology on processors made by hand.

use super::*;

const VENDOR_INTEL: [u32; 3] = [0x756E_6547, 0x6C65_746E, 0x4965_6E69];
const VENDOR_AMD: [u32; 3] = [0x6874_7541, 0x444D_4163, 0x6974_6E65];

fn leaf(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    let flags = if matches!(function, 4 | 7 | 0xB | 0xD | 0x1F | 0x8000_001D) {
        KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    } else {
        0
    };
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

/// A processor that offers every bit of every leaf.
fn everything([ebx, ecx, edx]: [u32; 3]) -> Vec<kvm_cpuid_entry2> {
    let mut leaves = vec![leaf(0, 0, [0x23, ebx, edx, ecx])];
    leaves.extend(
        (1..=0x23).flat_map(|function| (0..12).map(move |index| leaf(function, index, [u32::MAX; 4]))),
    );
    leaves.retain(|entry| entry.function == 0 || entry.flags != 0 || entry.index == 0);
    // Caches: levels 1, 2, 3, and the end of the list.
    leaves.retain(|entry| entry.function != 4);
    for (index, eax) in [0xFFFF_FE21, 0xFFFF_FE43, 0xFFFF_FE63, 0].into_iter().enumerate() {
        leaves.push(leaf(4, u32::try_from(index).unwrap(), [eax, 0, 0, 0]));
        leaves.push(leaf(0x8000_001D, u32::try_from(index).unwrap(), [eax, 0, 0, 0]));
    }
    leaves.extend((0x4000_0000..=0x4000_0010).map(|function| leaf(function, 0, [u32::MAX; 4])));
    leaves.extend(
        (0x8000_0000..=0x8000_0026)
            .filter(|function| *function != 0x8000_001D)
            .map(|function| leaf(function, 0, [u32::MAX; 4])),
    );
    leaves
}

fn guest(vendor: [u32; 3], vcpus: u32, index: u32) -> Vec<kvm_cpuid_entry2> {
    CpuidTemplate::from_offered(&everything(vendor), vcpus).for_vcpu(index).unwrap().as_slice().to_vec()
}

fn get(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let found: Vec<_> =
        leaves.iter().filter(|entry| (entry.function, entry.index) == (function, index)).collect();
    assert!(found.len() <= 1, "leaf {function:#x}.{index} twice");
    found.first().map_or([0; 4], |entry| [entry.eax, entry.ebx, entry.ecx, entry.edx])
}

#[test]
fn nesting_counters_and_everything_unknown_are_gone() {
    for vendor in [VENDOR_INTEL, VENDOR_AMD] {
        let leaves = guest(vendor, 4, 0);
        let [_, _, ecx, edx] = get(&leaves, 1, 0);
        // MONITOR, VMX, SMX, PDCM; MCE, MCA, thermal.
        assert_eq!(ecx & (1 << 3 | 1 << 5 | 1 << 6 | 1 << 15), 0);
        assert_eq!(edx & (1 << 7 | 1 << 14 | 1 << 22), 0);
        // SGX, HLE, RTM.
        assert_eq!(get(&leaves, 7, 0)[1] & (1 << 2 | 1 << 4 | 1 << 11), 0);
        assert_eq!(get(&leaves, 0x8000_0001, 0)[2] & 1 << 2, 0, "SVM");
        for function in [
            3,
            5,
            9,
            0xA,
            0xF,
            0x10,
            0x12,
            0x14,
            0x19,
            0x1C,
            0x1D,
            0x23,
            0x4000_0002,
            0x8000_000A,
            0x8000_001F,
            0x8000_0022,
            0x8000_0026,
        ] {
            assert_eq!(get(&leaves, function, 0), [0; 4], "leaf {function:#x}");
        }
        assert_eq!(get(&leaves, 0, 0)[0], 0x1F);
        assert_eq!(get(&leaves, 0x4000_0000, 0)[0], 0x4000_0001);
        assert_eq!(get(&leaves, 0x8000_0000, 0)[0], 0x8000_0021);
    }
}

#[test]
fn a_host_with_few_leaves_keeps_its_maximum() {
    let offered = [leaf(0, 0, [7, VENDOR_INTEL[0], 0, 0]), leaf(0x8000_0000, 0, [0x8000_0008, 0, 0, 0])];
    let leaves = CpuidTemplate::from_offered(&offered, 1).for_vcpu(0).unwrap().as_slice().to_vec();
    assert_eq!(leaves.len(), 2, "no topology leaf beyond the maximum");
    assert_eq!((get(&leaves, 0, 0)[0], get(&leaves, 0x8000_0000, 0)[0]), (7, 0x8000_0008));
}

#[test]
fn every_virtual_cpu_is_a_core_of_one_package() {
    for (cores, bits) in [(1u32, 0u32), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6)] {
        for index in [0, cores - 1] {
            let leaves = guest(VENDOR_INTEL, cores, index);
            let [_, ebx, _, edx] = get(&leaves, 1, 0);
            assert_eq!((ebx >> 24, ebx >> 16 & 0xFF), (index, cores));
            assert_eq!(edx >> 28 & 1, u32::from(cores > 1));
            for function in [0xB, 0x1F] {
                assert_eq!(get(&leaves, function, 0), [0, 1, 0x100, index]);
                assert_eq!(get(&leaves, function, 1), [bits, cores, 0x201, index]);
                assert_eq!(get(&leaves, function, 2), [0, 0, 2, index]);
            }
            let ids = (1 << bits) - 1;
            for (cache, shared) in [(0, 0), (1, 0), (2, ids)] {
                let eax = get(&leaves, 4, cache)[0];
                assert_eq!((eax >> 14 & 0xFFF, eax >> 26), (shared, ids), "cache {cache}");
            }
            assert_eq!(get(&leaves, 4, 3)[0], 0, "the end of the caches");
        }
    }
}

#[test]
fn amd_has_its_own_words_for_the_topology() {
    let leaves = guest(VENDOR_AMD, 5, 4);
    assert_eq!(get(&leaves, 0x8000_0008, 0)[2], 3 << 12 | 4);
    assert_eq!(get(&leaves, 0x8000_001E, 0), [4, 4, 0, 0]);
    assert_eq!(get(&leaves, 0x8000_0001, 0)[2] & 2, 2, "cores, not threads");
    assert_eq!(get(&leaves, 0x8000_001D, 2)[0] >> 14 & 0xFFF, 7);
    assert_eq!(get(&guest(VENDOR_AMD, 1, 0), 0x8000_0001, 0)[2] & 2, 0);
    let intel = guest(VENDOR_INTEL, 5, 4);
    assert_eq!((get(&intel, 0x8000_0008, 0)[2], get(&intel, 0x8000_0001, 0)[2] & 2), (0, 0));
}

#[test]
fn the_xsave_area_is_as_long_as_the_states_that_are_left() {
    let offered = [
        leaf(0, 0, [0xD, 0, 0, 0]),
        leaf(0xD, 0, [0x6_02E7, 0x2B00, 0x2B00, 0]),
        leaf(0xD, 2, [256, 576, 0, 0]),
        leaf(0xD, 9, [8, 2688, 0, 0]),
        // AMX tiles, which are not listed.
        leaf(0xD, 18, [8192, 2816, 6, 0]),
    ];
    let leaves = CpuidTemplate::from_offered(&offered, 1).for_vcpu(0).unwrap().as_slice().to_vec();
    assert_eq!(get(&leaves, 0xD, 0), [0x2E7, 2696, 2696, 0]);
    assert_eq!(get(&leaves, 0xD, 18), [0; 4]);
}
