//! A bare guest that carries out actions one after the other, as the test writes them to a ring in its memory.
//!
//! The guest's part is a loop: take an entry, load registers from it, jump to the one instruction that it names, clear the
//! entry, count. So the counter says how far the guest is, and what the guest does is decided here.

use std::sync::atomic::Ordering;

use hostile_guest::{Action, Width};
use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::vm_support::Memory;
use enclave_hypervisor::arch::layout::HIGH_MEMORY;

/// How many actions have been carried out.
const COUNTER: u64 = 0x1F_0000;
/// The ring of entries.
const RING: u64 = 0x20_0000;
const ENTRIES: u64 = 4096;
/// An entry: the instruction's address, then RDI, RAX, RDX, RCX and RSI.
const ENTRY: u64 = 6 * 8;

/// Each instruction with the jump behind it has this much room, and so has the loop before them.
const SLOT: u64 = 16;
const LOOP_SLOTS: u64 = 6;

/// Instructions on what the registers hold. Their encodings: Intel SDM volume 2.
const INSTRUCTIONS: [&[u8]; 16] = [
    &[0x88, 0x07],       // mov [rdi], al
    &[0x66, 0x89, 0x07], // mov [rdi], ax
    &[0x89, 0x07],       // mov [rdi], eax
    &[0x48, 0x89, 0x07], // mov [rdi], rax
    &[0x8A, 0x07],       // mov al, [rdi]
    &[0x66, 0x8B, 0x07], // mov ax, [rdi]
    &[0x8B, 0x07],       // mov eax, [rdi]
    &[0x48, 0x8B, 0x07], // mov rax, [rdi]
    &[0xEE],             // out dx, al
    &[0x66, 0xEF],       // out dx, ax
    &[0xEF],             // out dx, eax
    &[0xEC],             // in al, dx
    &[0x66, 0xED],       // in ax, dx
    &[0xED],             // in eax, dx
    &[0xF3, 0x6E],       // rep outsb
    &[0xF3, 0xA4],       // rep movsb
];
const STORE: u64 = 0;
const LOAD: u64 = 4;
const OUT: u64 = 8;
const IN: u64 = 11;
const OUT_STRING: u64 = 14;
const COPY: u64 = 15;

/// The guest's code.
pub fn code() -> Code {
    let low = |address: u64| u32::try_from(address).unwrap().to_le_bytes();
    let mut code = Code::new()
        .raw(&[0xBB])
        .raw(&low(RING)) // mov ebx, ring
        .raw(&[0x41, 0xBC])
        .raw(&low(RING)) // mov r12d, ring
        .raw(&[0xBD])
        .raw(&low(RING + ENTRIES * ENTRY)) // mov ebp, end
        .raw(&[0x41, 0xBD])
        .raw(&low(COUNTER)) // mov r13d, counter
        // again: mov r11, [rbx]; test r11, r11; jz again
        .raw(&[0x4C, 0x8B, 0x1B, 0x4D, 0x85, 0xDB, 0x74, 0xF8])
        .raw(&[0x48, 0x8B, 0x7B, 0x08]) // mov rdi, [rbx+8]
        .raw(&[0x48, 0x8B, 0x43, 0x10]) // mov rax, [rbx+16]
        .raw(&[0x48, 0x8B, 0x53, 0x18]) // mov rdx, [rbx+24]
        .raw(&[0x48, 0x8B, 0x4B, 0x20]) // mov rcx, [rbx+32]
        .raw(&[0x48, 0x8B, 0x73, 0x28]) // mov rsi, [rbx+40]
        .raw(&[0x41, 0xFF, 0xE3]); // jmp r11
    let done = offset(&code);
    let again = done - 31;
    code = code
        .raw(&[0x48, 0xC7, 0x03, 0, 0, 0, 0]) // mov qword [rbx], 0
        .raw(&[0x48, 0x83, 0xC3, 48]) // add rbx, 48
        .raw(&[0x49, 0xFF, 0x45, 0x00]) // inc qword [r13]
        .raw(&[0x48, 0x39, 0xEB]) // cmp rbx, rbp
        .raw(&[0x75, 0x03]) // jne over
        .raw(&[0x4C, 0x89, 0xE3]); // mov rbx, r12
    code = jump(code, again);
    assert!(offset(&code) <= LOOP_SLOTS * SLOT, "{}", offset(&code));
    for (slot, instruction) in (LOOP_SLOTS..).zip(INSTRUCTIONS) {
        while offset(&code) < slot * SLOT {
            code = code.raw(&[0x90]);
        }
        code = jump(code.raw(instruction), done);
        assert!(offset(&code) <= (slot + 1) * SLOT);
    }
    code
}

fn offset(code: &Code) -> u64 {
    u64::try_from(code.bytes().len()).unwrap()
}

/// `jmp` to an offset from the code's beginning.
fn jump(code: Code, target: u64) -> Code {
    let distance = i64::try_from(target).unwrap() - i64::try_from(offset(&code) + 5).unwrap();
    code.raw(&[0xE9]).raw(&i32::try_from(distance).unwrap().to_le_bytes())
}

/// The test's end of the ring.
pub struct Executor<'m> {
    memory: &'m Memory,
    written: u64,
}

impl<'m> Executor<'m> {
    pub fn new(memory: &'m Memory) -> Self {
        Self { memory, written: 0 }
    }

    /// Actions that have been carried out.
    pub fn done(&self) -> u64 {
        self.memory.mapped.load(GuestAddress(COUNTER), Ordering::Acquire).unwrap()
    }

    /// Fills the ring.
    pub fn feed(&mut self, actions: &mut impl Iterator<Item = Action>) {
        // A guest that has gone astray may count anything.
        let waiting = self.written.saturating_sub(self.done());
        for action in actions.take(usize::try_from(ENTRIES.saturating_sub(waiting)).unwrap()) {
            let [instruction, registers @ ..] = entry(&action);
            let at = RING + self.written % ENTRIES * ENTRY;
            for (register, address) in registers.into_iter().zip((at + 8..).step_by(8)) {
                self.memory.mapped.write_obj(register, GuestAddress(address)).unwrap();
            }
            // Last: the guest takes the entry once it sees this.
            let instruction = HIGH_MEMORY + (LOOP_SLOTS + instruction) * SLOT;
            self.memory.mapped.store(instruction, GuestAddress(at), Ordering::Release).unwrap();
            self.written += 1;
        }
    }

    /// Writes to memory from outside, as another virtual CPU would.
    pub fn write(&self, action: &Action) {
        if let Action::Store { address, width, value } = *action {
            let bytes = &value.to_le_bytes()[..1 << steps(width)];
            self.memory.mapped.write_slice(bytes, GuestAddress(address)).unwrap();
        }
    }
}

/// How often a byte is to be doubled.
fn steps(width: Width) -> u64 {
    match width {
        Width::Byte => 0,
        Width::Word => 1,
        Width::Double => 2,
        Width::Quad => 3,
    }
}

/// The number of the instruction, and RDI, RAX, RDX, RCX and RSI.
fn entry(action: &Action) -> [u64; 6] {
    match *action {
        Action::Store { address, width, value } => [STORE + steps(width), address, value, 0, 0, 0],
        Action::Load { address, width } => [LOAD + steps(width), address, 0, 0, 0, 0],
        Action::Out { port, width, value } => [OUT + steps(width).min(2), 0, value.into(), port.into(), 0, 0],
        Action::In { port, width } => [IN + steps(width).min(2), 0, 0, port.into(), 0, 0],
        Action::OutString { port, address, count } => [OUT_STRING, 0, 0, port.into(), count.into(), address],
        Action::Copy { from, to, count } => [COPY, to, 0, 0, count.into(), from],
    }
}
