//! What a guest may see and touch of the processor: everything else reads as zero (CPUID) or faults (MSRs).
//!
//! The lists hold for every guest and host. A feature reaches a guest if it is listed here *and* KVM offers it on this
//! host. Left out on purpose: nesting (VMX, SVM), performance monitoring (PMU, LBR, PT, IBS), machine checks, SGX,
//! TSX, AMX, user-mode wait and monitor instructions, thermal and power management, resource directors, memory encryption leaves
//! and whatever appears in processors after this list. CPUID numbers: Intel SDM volume 2A "CPUID", AMD APM volume 3
//! appendix E, and Linux, Documentation/virt/kvm/x86/cpuid.rst. MSR numbers: Linux, arch/x86/include/asm/msr-index.h.

use core::ops::RangeInclusive;

/// All bits of a register.
const ALL: u32 = u32::MAX;
/// No bits of a register.
const NONE: u32 = 0;

/// Bits of the four registers that a CPUID leaf may show.
#[derive(Debug, Clone)]
pub struct CpuidRule {
    /// The leaf (EAX).
    pub leaf: u32,
    /// The subleaves (ECX). Leaves that have none are subleaf 0.
    pub subleaves: RangeInclusive<u32>,
    /// Bits that may be set, in the order EAX, EBX, ECX, EDX.
    pub bits: [u32; 4],
}

const fn rule(leaf: u32, subleaves: RangeInclusive<u32>, bits: [u32; 4]) -> CpuidRule {
    CpuidRule { leaf, subleaves, bits }
}

/// Sets the bits with these numbers.
const fn bits<const N: usize>(numbers: [u32; N]) -> u32 {
    let mut set = 0;
    let mut rest: &[u32] = &numbers;
    while let [number, tail @ ..] = rest {
        set |= 1 << *number;
        rest = tail;
    }
    set
}

/// The highest basic leaf.
pub const MAX_BASIC_LEAF: u32 = 0x1F;
/// The highest leaf of the hypervisor's range.
pub const MAX_HYPERVISOR_LEAF: u32 = 0x4000_0001;
/// The highest extended leaf.
pub const MAX_EXTENDED_LEAF: u32 = 0x8000_0021;

/// States that XSAVE may keep: x87, SSE, AVX, the three of AVX-512, protection keys.
pub const XSAVE_STATES: u32 = bits([0, 1, 2, 5, 6, 7, 9]);

/// Leaf 1, ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, MOVBE, POPCNT, TSC deadline, AES,
/// XSAVE, AVX, F16C, RDRAND, and 31: a hypervisor is present.
const FEATURES_1_ECX: u32 = bits([0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31]);
/// Leaf 1, EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, SEP, MTRR, PGE, CMOV, PAT, PSE-36, CLFLUSH, MMX, FXSR, SSE, SSE2,
/// self-snoop, HTT (which topology sets).
const FEATURES_1_EDX: u32 =
    bits([0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 25, 26, 27, 28]);
/// Leaf 7, EBX: FSGSBASE, TSC_ADJUST, BMI1, AVX2, x87 pointers only on exceptions, SMEP, BMI2, ERMS, INVPCID, no FPU CS/DS, AVX-512
/// F, DQ, RDSEED, ADX, SMAP, AVX-512 IFMA, CLFLUSHOPT, CLWB, AVX-512 CD, SHA, AVX-512 BW, VL.
const FEATURES_7_EBX: u32 =
    bits([0, 1, 3, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31]);
/// Leaf 7, ECX: AVX-512 VBMI, UMIP, PKU, AVX-512 VBMI2, GFNI, VAES, VPCLMULQDQ, AVX-512 VNNI, BITALG, VPOPCNTDQ, LA57, RDPID.
const FEATURES_7_ECX: u32 = bits([1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 16, 22]);
/// Leaf 7, EDX: fast short REP MOVSB, AVX-512 VP2INTERSECT, MD_CLEAR, SERIALIZE, AVX-512 FP16, IBRS/IBPB, STIBP, L1D flush,
/// ARCH_CAPABILITIES, SSBD.
const FEATURES_7_EDX: u32 = bits([4, 8, 10, 14, 23, 26, 27, 28, 29, 31]);
/// Leaf 7.1, EAX: AVX-VNNI, AVX-512 BF16, fast zero-length REP MOVSB, fast short REP STOSB, fast short REP CMPSB.
const FEATURES_7_1_EAX: u32 = bits([4, 5, 10, 11, 12]);
/// Leaf 7.2, EDX: controls against speculation (PSFD, IPRED, RRSBA, DDPD, BHI, MCDT_NO).
const FEATURES_7_2_EDX: u32 = bits([0, 1, 2, 3, 4, 5]);
/// Leaf 0xD.1, EAX: XSAVEOPT, XSAVEC, XGETBV with ECX 1, XSAVES.
const FEATURES_D_1_EAX: u32 = bits([0, 1, 2, 3]);
/// KVM: no delay after port I/O, kvm-clock in its second form, end of interrupt in memory, IPIs by hypercall, stable
/// clock. Not: asynchronous page faults and stolen time, by which the host would write into guest memory at
/// a moment of its own, and what moves guests between hosts.
const FEATURES_KVM_EAX: u32 = bits([1, 3, 6, 11, 24]);
/// Leaf 0x80000001, ECX: LAHF in 64-bit mode, CMP legacy (which topology sets), CR8 in 32-bit mode, LZCNT, SSE4A, misaligned SSE,
/// PREFETCHW, XOP, FMA4, TBM, topology extensions.
const FEATURES_EXT_ECX: u32 = bits([0, 1, 4, 5, 6, 7, 8, 11, 16, 21, 22]);
/// Leaf 0x80000001, EDX: AMD's copy of leaf 1, SYSCALL, NX, MMX extensions, FXSR optimisation, 1 GiB pages, RDTSCP, long mode.
const FEATURES_EXT_EDX: u32 =
    bits([0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 29]);
/// Leaf 0x80000008, EBX: CLZERO, XSAVEERPTR, WBNOINVD, IBPB, IBRS, STIBP, STIBP always on, IBRS same mode, SSBD, virtual SSBD, SSB_NO, PSFD,
/// BTC_NO, IBPB_RET.
const FEATURES_EXT_8_EBX: u32 = bits([0, 2, 9, 12, 14, 15, 17, 19, 24, 25, 26, 28, 29, 30]);
/// Leaf 0x80000021, EAX: no nested data breakpoints, LFENCE serialises, VERW clears, null selector clears base, automatic IBRS, SBPB, IBPB
/// flushes branch types, SRSO_NO, SRSO user/kernel no.
const FEATURES_EXT_21_EAX: u32 = bits([0, 2, 5, 6, 8, 27, 28, 29, 30]);

/// The CPUID allow list. Topology (leaves 1, 4, 0xB, 0x1F, 0x80000008, 0x8000001D, 0x8000001E) is
/// written over it in `cpuid`.
pub const CPUID: &[CpuidRule] = &[
    rule(0, 0..=0, [ALL; 4]),
    rule(1, 0..=0, [ALL, 0x0000_FF00, FEATURES_1_ECX, FEATURES_1_EDX]),
    rule(2, 0..=0, [ALL; 4]),
    rule(4, 0..=7, [ALL; 4]),
    // ARAT: the local APIC's timer never stops.
    rule(6, 0..=0, [bits([2]), NONE, NONE, NONE]),
    rule(7, 0..=0, [0x3, FEATURES_7_EBX, FEATURES_7_ECX, FEATURES_7_EDX]),
    rule(7, 1..=1, [FEATURES_7_1_EAX, NONE, NONE, NONE]),
    rule(7, 2..=2, [NONE, NONE, NONE, FEATURES_7_2_EDX]),
    rule(0xB, 0..=2, [ALL; 4]),
    rule(0xD, 0..=0, [XSAVE_STATES, ALL, ALL, NONE]),
    rule(0xD, 1..=1, [FEATURES_D_1_EAX, ALL, NONE, NONE]),
    // Sizes, offsets and alignments of single states; those not in XSAVE_STATES are left out.
    rule(0xD, 2..=9, [ALL, ALL, bits([1]), NONE]),
    rule(0x1F, 0..=2, [ALL; 4]),
    rule(0x4000_0000, 0..=0, [ALL; 4]),
    rule(0x4000_0001, 0..=0, [FEATURES_KVM_EAX, NONE, NONE, NONE]),
    rule(0x8000_0000, 0..=0, [ALL; 4]),
    rule(0x8000_0001, 0..=0, [ALL, ALL, FEATURES_EXT_ECX, FEATURES_EXT_EDX]),
    rule(0x8000_0002, 0..=0, [ALL; 4]),
    rule(0x8000_0003, 0..=0, [ALL; 4]),
    rule(0x8000_0004, 0..=0, [ALL; 4]),
    rule(0x8000_0005, 0..=0, [ALL; 4]),
    rule(0x8000_0006, 0..=0, [ALL; 4]),
    // The time-stamp counter runs at a constant rate.
    rule(0x8000_0007, 0..=0, [NONE, NONE, NONE, bits([8])]),
    rule(0x8000_0008, 0..=0, [0x00FF_FFFF, FEATURES_EXT_8_EBX, NONE, NONE]),
    rule(0x8000_001D, 0..=7, [ALL; 4]),
    rule(0x8000_001E, 0..=0, [ALL; 4]),
    rule(0x8000_0021, 0..=0, [FEATURES_EXT_21_EAX, NONE, NONE, NONE]),
];

/// What a guest may do with an MSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// RDMSR only.
    Read,
    /// WRMSR only.
    Write,
    /// Both.
    Both,
}

/// MSRs with consecutive numbers and the same access.
#[derive(Debug, Clone)]
pub struct MsrRule {
    /// The numbers.
    pub numbers: RangeInclusive<u32>,
    /// What may be done.
    pub access: Access,
}

const fn msr(number: u32, access: Access) -> MsrRule {
    MsrRule { numbers: number..=number, access }
}

const fn msrs(numbers: RangeInclusive<u32>, access: Access) -> MsrRule {
    MsrRule { numbers, access }
}

/// The MSR allow list. KVM adds the x2APIC's registers (0x800 to 0x8FF), which it never filters.
pub const MSRS: &[MsrRule] = &[
    msr(0x10, Access::Both),                       // TSC
    msr(0x17, Access::Read),                       // PLATFORM_ID, which microcode code reads
    msr(0x1B, Access::Both),                       // APIC_BASE
    msr(0x3B, Access::Both),                       // TSC_ADJUST
    msr(0x48, Access::Both),                       // SPEC_CTRL
    msr(0x49, Access::Write),                      // PRED_CMD: IBPB
    msr(0x8B, Access::Both), // microcode revision: Intel's way to read it begins with a write of 0
    msr(0xCE, Access::Read), // PLATFORM_INFO
    msr(0xFE, Access::Read), // MTRRcap
    msr(0x10A, Access::Read), // ARCH_CAPABILITIES
    msr(0x10B, Access::Write), // FLUSH_CMD: L1D
    msr(0x122, Access::Both), // TSX_CTRL, to keep TSX off
    msr(0x140, Access::Both), // MISC_FEATURES_ENABLES: CPUID faulting
    msrs(0x174..=0x176, Access::Both), // SYSENTER
    msr(0x1A0, Access::Both), // MISC_ENABLE, read by Linux before it can handle a fault
    msr(0x1D9, Access::Both), // DEBUGCTL: single-stepping by branch
    msrs(0x200..=0x20F, Access::Both), // MTRR, variable ranges
    msr(0x250, Access::Both), // MTRR, fixed ranges
    msrs(0x258..=0x259, Access::Both), // MTRR, fixed ranges
    msrs(0x268..=0x26F, Access::Both), // MTRR, fixed ranges
    msr(0x277, Access::Both), // PAT
    msr(0x2FF, Access::Both), // MTRR, default type
    msr(0x6E0, Access::Both), // TSC_DEADLINE
    msr(0xDA0, Access::Both), // XSS
    msrs(0x4B56_4D00..=0x4B56_4D01, Access::Both), // KVM: wall clock, system time
    msr(0x4B56_4D04, Access::Both), // KVM: end of interrupt in memory
    msrs(0xC000_0080..=0xC000_0084, Access::Both), // EFER, STAR, LSTAR, CSTAR, SFMASK
    msrs(0xC000_0100..=0xC000_0103, Access::Both), // FS, GS, kernel GS base, TSC_AUX
    msr(0xC001_0010, Access::Both), // SYSCFG
    msr(0xC001_0015, Access::Both), // HWCR
    msr(0xC001_001F, Access::Both), // NB_CFG
    msr(0xC001_0055, Access::Read), // interrupt pending message, read for an erratum
    msr(0xC001_011F, Access::Both), // VIRT_SPEC_CTRL
    msr(0xC001_1029, Access::Both), // DE_CFG: LFENCE serialises
];
