//! The registers with which the first virtual CPU starts. The others wait for their start-up interrupt, as KVM has it.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_regs, kvm_sregs};

use super::descriptor_tables::{GDT_LIMIT, code_segment, data_segment, task_segment};
use super::layout::{GDT, PAGE_TABLES};
use crate::messages::EntryPoint;

/// CR0: protection enable.
const CR0_PE: u64 = 1;
/// CR0: extension type, which is always set.
const CR0_ET: u64 = 1 << 4;
/// CR0: paging.
const CR0_PG: u64 = 1 << 31;
/// CR4: physical address extension.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode enable and long mode active.
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
/// RFLAGS: the bit that is always set; interrupts are off.
const RFLAGS: u64 = 2;

/// x87 control word after FNINIT: all exceptions masked.
const FPU_CONTROL: u16 = 0x37F;
/// MXCSR after reset: all exceptions masked.
const MXCSR: u32 = 0x1F80;

/// General registers: the Linux boot protocol wants the zero page in RSI, PVH the start information in EBX.
#[must_use]
pub fn general(entry: EntryPoint) -> kvm_regs {
    match entry {
        EntryPoint::Linux64 { instruction, boot_params } => {
            kvm_regs { rip: instruction, rsi: boot_params, rflags: RFLAGS, ..Default::default() }
        }
        EntryPoint::Pvh { instruction, start_info } => {
            kvm_regs { rip: instruction, rbx: start_info, rflags: RFLAGS, ..Default::default() }
        }
    }
}

/// System registers on top of those of a processor that was just reset: 64-bit mode with the page tables that
/// loading wrote, or flat 32-bit protected mode without paging.
#[must_use]
pub fn system(entry: EntryPoint, after_reset: kvm_sregs) -> kvm_sregs {
    let long_mode = matches!(entry, EntryPoint::Linux64 { .. });
    let data = data_segment();
    let mut sregs = kvm_sregs {
        cs: code_segment(long_mode),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: task_segment(),
        idt: kvm_dtable::default(),
        cr0: CR0_PE | CR0_ET,
        ..after_reset
    };
    if long_mode {
        sregs.gdt = kvm_dtable { base: GDT, limit: GDT_LIMIT, ..Default::default() };
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = PAGE_TABLES;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LONG_MODE;
    }
    sregs
}

/// Floating-point registers after reset.
#[must_use]
pub fn floating_point() -> kvm_fpu {
    kvm_fpu { fcw: FPU_CONTROL, mxcsr: MXCSR, ..Default::default() }
}
