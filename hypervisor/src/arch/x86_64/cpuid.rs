//! CPUID of a virtual CPU: what KVM offers, cut down to the allow list, with the topology of this machine.
//!
//! The topology is one package with as many cores as there are virtual CPUs, one thread each, so that no guest
//! scheduler takes two of them for siblings. APIC ids count from zero.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use super::allow_list::{CPUID, MAX_BASIC_LEAF, MAX_EXTENDED_LEAF, MAX_HYPERVISOR_LEAF, XSAVE_STATES};
use super::processor::ProcessorError;

/// Leaf 1, ECX: x2APIC mode.
const X2APIC: u32 = 1 << 21;
/// Leaf 1, ECX: the local APIC's timer can fire at a time-stamp. KVM emulates it on every host but may not list it.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: running on a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001, ECX, on AMD: the logical processors of the package are cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaves 4 and 0x8000001D, EAX: which logical processors share the cache, less one.
const CACHE_SHARING: u32 = 0xFFF << 14;
/// Leaf 4, EAX: cores in the package, less one.
const CACHE_CORES: u32 = 0x3F << 26;
/// Cache level from which on all cores share.
const SHARED_CACHE_LEVEL: u32 = 3;
/// Leaf 0xB: level type "thread".
const LEVEL_THREAD: u32 = 1 << 8;
/// Leaf 0xB: level type "core".
const LEVEL_CORE: u32 = 2 << 8;
/// Bytes of the XSAVE area before the first extended state: legacy region and header.
const XSAVE_BASE: u32 = 576;

/// CPUID leaves common to all virtual CPUs of one machine.
#[derive(Debug, Clone)]
pub struct CpuidTemplate {
    entries: Vec<kvm_cpuid_entry2>,
    topology: Topology,
    amd: bool,
}

/// Cores of the one package.
#[derive(Debug, Clone, Copy)]
struct Topology {
    cores: u32,
}

impl Topology {
    /// Bits of an APIC id that number the cores.
    const fn id_bits(self) -> u32 {
        self.cores.next_power_of_two().trailing_zeros()
    }

    /// Cores that APIC ids can number, less one.
    const fn id_mask(self) -> u32 {
        self.cores.next_power_of_two().saturating_sub(1)
    }
}

impl CpuidTemplate {
    /// What KVM offers here, cut down for a machine of `vcpus` virtual CPUs.
    ///
    /// # Errors
    /// KVM's, or [`ProcessorError::MissingFeature`] if KVM lacks what every guest relies on.
    pub fn new(kvm: &Kvm, vcpus: u32) -> Result<Self, ProcessorError> {
        let offered = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|source| ProcessorError::Kvm { what: "reading the CPUID that KVM offers", source })?;
        if !kvm.check_extension(Cap::TscDeadlineTimer) {
            // The machine has no other timer: no PIT, no HPET, no ACPI timer.
            return Err(ProcessorError::MissingFeature(
                "the TSC deadline timer (KVM_CAP_TSC_DEADLINE_TIMER)",
            ));
        }
        Ok(Self::from_offered(offered.as_slice(), vcpus))
    }

    fn from_offered(offered: &[kvm_cpuid_entry2], vcpus: u32) -> Self {
        let amd = offered.iter().any(|entry| entry.function == 0 && is_amd(entry));
        let mut entries: Vec<_> = offered.iter().filter_map(filter).collect();
        size_xsave_area(&mut entries);
        for entry in &mut entries {
            adjust(entry);
        }
        Self { entries, topology: Topology { cores: vcpus.max(1) }, amd }
    }

    /// The leaves of virtual CPU number `index`.
    ///
    /// # Errors
    /// [`ProcessorError::TooManyLeaves`] if KVM offers more than it takes back, which would be KVM's fault.
    pub fn for_vcpu(&self, index: u32) -> Result<CpuId, ProcessorError> {
        let mut entries = self.entries.clone();
        // These are made anew below.
        entries.retain(|entry| !matches!(entry.function, 0xB | 0x1F));
        let max_leaf = entries.iter().find(|entry| entry.function == 0).map_or(0, |entry| entry.eax);
        for leaf in [0xB, 0x1F] {
            if leaf <= max_leaf {
                entries.extend(topology_leaf(leaf, self.topology, index));
            }
        }
        for entry in &mut entries {
            place_in_topology(entry, self.topology, index, self.amd);
        }
        CpuId::from_entries(&entries).map_err(|_| ProcessorError::TooManyLeaves(entries.len()))
    }
}

/// AMD's processors, and Hygon's, which are built like them.
const fn is_amd(vendor: &kvm_cpuid_entry2) -> bool {
    // "Auth" and "Hygo", the first letters of the vendors' names.
    matches!(vendor.ebx, 0x6874_7541 | 0x6F67_7948)
}

/// The entry with what the allow list leaves of it, or `None` if the list does not know it.
fn filter(offered: &kvm_cpuid_entry2) -> Option<kvm_cpuid_entry2> {
    let indexed = offered.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
    let subleaf = if indexed { offered.index } else { 0 };
    let rule =
        CPUID.iter().find(|rule| rule.leaf == offered.function && rule.subleaves.contains(&subleaf))?;
    if offered.function == 0xD && subleaf >= 2 && XSAVE_STATES & 1u32.checked_shl(subleaf)? == 0 {
        return None;
    }
    let [eax, ebx, ecx, edx] = rule.bits;
    let mut entry = *offered;
    entry.eax &= eax;
    entry.ebx &= ebx;
    entry.ecx &= ecx;
    entry.edx &= edx;
    Some(entry)
}

/// Leaf 0xD.0, ECX: the size of an XSAVE area with all states that are left. KVM computes EBX, which depends on XCR0.
fn size_xsave_area(entries: &mut [kvm_cpuid_entry2]) {
    let size = entries
        .iter()
        .filter(|entry| entry.function == 0xD && entry.index >= 2)
        .map(|entry| entry.ebx.saturating_add(entry.eax))
        .fold(XSAVE_BASE, u32::max);
    for entry in entries.iter_mut().filter(|entry| entry.function == 0xD && entry.index == 0) {
        entry.ebx = entry.ebx.min(size);
        entry.ecx = size;
    }
}

/// What is the same for all virtual CPUs of all machines.
fn adjust(entry: &mut kvm_cpuid_entry2) {
    match entry.function {
        0 => entry.eax = entry.eax.min(MAX_BASIC_LEAF),
        1 => entry.ecx |= X2APIC | TSC_DEADLINE | HYPERVISOR,
        0x4000_0000 => entry.eax = MAX_HYPERVISOR_LEAF,
        0x8000_0000 => entry.eax = entry.eax.min(MAX_EXTENDED_LEAF),
        _ => {}
    }
}

/// Leaf 0xB or 0x1F: one thread in a core, all cores in the package, nothing above.
fn topology_leaf(function: u32, topology: Topology, apic_id: u32) -> [kvm_cpuid_entry2; 3] {
    let entry = |index, eax, ebx, ecx| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | ecx,
        edx: apic_id,
        ..Default::default()
    };
    [
        entry(0, 0, 1, LEVEL_THREAD),
        entry(1, topology.id_bits(), topology.cores, LEVEL_CORE),
        entry(2, 0, 0, 0),
    ]
}

/// Writes the machine's topology and this virtual CPU's place in it into one leaf.
fn place_in_topology(entry: &mut kvm_cpuid_entry2, topology: Topology, apic_id: u32, amd: bool) {
    let several = topology.cores > 1;
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0xFF00) | (topology.cores & 0xFF) << 16 | apic_id << 24;
            entry.edx = (entry.edx & !HTT) | if several { HTT } else { 0 };
        }
        4 => {
            entry.eax = share_cache(entry.eax, topology) & !CACHE_CORES;
            if cache_type(entry.eax) != 0 {
                entry.eax |= topology.id_mask() << 26 & CACHE_CORES;
            }
        }
        0x8000_0001 => entry.ecx = (entry.ecx & !CMP_LEGACY) | if amd && several { CMP_LEGACY } else { 0 },
        0x8000_0008 if amd => {
            entry.ecx = topology.cores.saturating_sub(1) & 0xFF | topology.id_bits() << 12;
        }
        0x8000_001D => entry.eax = share_cache(entry.eax, topology),
        0x8000_001E => {
            entry.eax = apic_id;
            // One thread in each core, one node.
            entry.ebx = apic_id & 0xFF;
            entry.ecx = 0;
            entry.edx = 0;
        }
        _ => {}
    }
}

/// Which kind of cache a leaf 4 or 0x8000001D describes; 0 is none.
const fn cache_type(eax: u32) -> u32 {
    eax & 0x1F
}

/// First and second level caches belong to one core, others to all of them.
const fn share_cache(eax: u32, topology: Topology) -> u32 {
    let level = eax >> 5 & 7;
    let shared = cache_type(eax) != 0 && level >= SHARED_CACHE_LEVEL;
    eax & !CACHE_SHARING | if shared { topology.id_mask() << 14 & CACHE_SHARING } else { 0 }
}

#[cfg(test)]
mod tests;
