//! MSRs: the filter that keeps a guest to the allow list, and the values a virtual CPU starts with.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd, VmFd};

use super::allow_list::{Access, MSRS};
use super::processor::ProcessorError;

/// MSRs in one of the filter's ranges. KVM takes up to 12288.
const RANGE_LENGTH: u32 = 0x2000;
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

/// Bits of one range that the list allows.
fn bitmap(base: u32, allows: impl Fn(Access) -> bool) -> Vec<u8> {
    (0..RANGE_LENGTH / 8)
        .map(|byte| {
            (0..8).fold(0, |bits, bit| {
                let number = base | byte << 3 | bit;
                let listed = MSRS.iter().any(|rule| rule.numbers.contains(&number) && allows(rule.access));
                bits | u8::from(listed) << bit
            })
        })
        .collect()
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
        .flat_map(|base| directions.iter().map(move |(flags, access)| (base, flags, access)))
        .map(|(base, flags, accesses)| (base, *flags, bitmap(base, |access| accesses.contains(&access))))
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
