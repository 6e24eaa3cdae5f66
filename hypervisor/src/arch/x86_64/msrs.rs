//! MSRs: the filter that keeps a guest to the allow list, and the values a virtual CPU starts with.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd};

use super::allow_list::{Access, MSRS};
use super::processor::ProcessorError;

/// MSRs in one of the filter's ranges. KVM takes up to 12288.
const RANGE_LENGTH: u32 = 0x2000;
/// Bytes of a bitmap with a bit for each MSR of a range.
const BITMAP_LENGTH: usize = 0x2000 / 8;
/// First numbers of the ranges: Intel's, KVM's, and AMD's two.
const RANGE_BASES: [u32; 4] = [0, 0x4B56_4000, 0xC000_0000, 0xC001_0000];

/// MISC_ENABLE.
const MISC_ENABLE: u32 = 0x1A0;
/// MISC_ENABLE: fast strings, as firmware leaves them.
const FAST_STRINGS: u64 = 1;
/// Default memory type of the MTRRs.
const MTRR_DEFAULT_TYPE: u32 = 0x2FF;
/// MTRRs on, and all memory of type write-back: there is no firmware that would say so.
const MTRR_ON_WRITE_BACK: u64 = 1 << 11 | 6;

/// Bits of the range that begins at `base`, set where the list allows one of these accesses.
fn bitmap(base: u32, accesses: [Access; 2]) -> Vec<u8> {
    let mut bits = vec![0u8; BITMAP_LENGTH];
    let listed =
        MSRS.iter().filter(|rule| accesses.contains(&rule.access)).flat_map(|rule| rule.numbers.clone());
    for bit in listed.filter_map(|number| number.checked_sub(base)) {
        let byte = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        if let Some(byte) = bits.get_mut(byte) {
            *byte |= 1 << (bit % 8);
        }
    }
    bits
}

/// Denies the guest every MSR outside the allow list: such an access raises #GP.
///
/// # Errors
/// KVM's. A KVM without the filter (Linux before 5.10) is refused.
pub fn restrict(vm: &VmFd) -> Result<(), ProcessorError> {
    if !vm.check_extension(Cap::X86MsrFilter) {
        return Err(ProcessorError::MissingFeature("the MSR filter (KVM_CAP_X86_MSR_FILTER, Linux 5.10)"));
    }
    let directions = [
        (MsrFilterRangeFlags::READ, [Access::Read, Access::Both]),
        (MsrFilterRangeFlags::WRITE, [Access::Write, Access::Both]),
    ];
    let bitmaps: Vec<_> = RANGE_BASES
        .into_iter()
        .flat_map(|base| directions.map(|(flags, accesses)| (base, flags, bitmap(base, accesses))))
        .collect();
    let ranges: Vec<_> = bitmaps
        .iter()
        .map(|(base, flags, bitmap)| MsrFilterRange {
            flags: *flags,
            base: *base,
            msr_count: RANGE_LENGTH,
            bitmap,
        })
        .collect();
    vm.set_msr_filter(MsrFilterDefaultAction::DENY, &ranges)
        .map_err(|source| ProcessorError::Kvm { what: "installing the MSR filter", source })
}

/// Sets what is not zero after a reset, or what firmware would set.
///
/// # Errors
/// KVM's.
pub fn set_initial(vcpu: &VcpuFd) -> Result<(), ProcessorError> {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let entries = [entry(MISC_ENABLE, FAST_STRINGS), entry(MTRR_DEFAULT_TYPE, MTRR_ON_WRITE_BACK)];
    let refused = |source| ProcessorError::Kvm { what: "setting MSRs", source };
    let msrs = Msrs::from_entries(&entries).map_err(|_| ProcessorError::TooManyLeaves(entries.len()))?;
    if vcpu.set_msrs(&msrs).map_err(refused)? == entries.len() {
        Ok(())
    } else {
        Err(ProcessorError::MissingFeature("MISC_ENABLE and MTRRs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(bitmap: &[u8], bit: usize) -> bool {
        bitmap[bit / 8] >> (bit % 8) & 1 == 1
    }

    #[test]
    fn every_listed_msr_lies_in_a_range_of_the_filter() {
        for rule in MSRS {
            let covered = RANGE_BASES
                .iter()
                .any(|base| rule.numbers.start() >= base && *rule.numbers.end() < base + RANGE_LENGTH);
            assert!(covered, "{:#x?}", rule.numbers);
        }
    }

    #[test]
    fn bitmaps_hold_the_list_and_nothing_else() {
        let readable = bitmap(0, [Access::Read, Access::Both]);
        let writable = bitmap(0, [Access::Write, Access::Both]);
        assert_eq!(readable.len(), 1024);
        // TSC both ways; ARCH_CAPABILITIES read; PRED_CMD written; performance counters neither.
        assert!(allows(&readable, 0x10) && allows(&writable, 0x10));
        assert!(allows(&readable, 0x10A) && !allows(&writable, 0x10A));
        assert!(!allows(&readable, 0x49) && allows(&writable, 0x49));
        for counter in [0xC1, 0x186, 0x38D, 0x38F, 0x309, 0x345] {
            assert!(!allows(&readable, counter) && !allows(&writable, counter));
        }
        // VMX's capabilities, and AMD's switch for SVM.
        assert!((0x480..=0x493).all(|number| !allows(&readable, number)));
        assert!(!allows(&bitmap(0xC001_0000, [Access::Read, Access::Both]), 0x114));
    }
}
