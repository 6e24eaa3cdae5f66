//! A request to the security module, as Linux's drivers make it: two chains, one notification.

use std::os::fd::AsFd;

use enclave_hypervisor::exit_reason::ExitReason;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vm_memory::{Bytes, GuestAddress};

use crate::code::Code;
use crate::driver::Rings;
use crate::guest::{SMALL, can_run, load, start};
use crate::vm_support::{Memory, Vm};

/// Registers of the NSM device.
const NSM: u64 = 0xD000_1000;

/// The only queue.
const QUEUE: Rings = Rings::of(0);
const USED: u64 = QUEUE.used;
const REQUEST: u64 = 0x30_0000;
const RESPONSE: u64 = 0x31_0000;

/// Two descriptors, each a chain, both available: what a driver prepares before it notifies.
fn prepare_queue(memory: &Memory, request: &[u8], response_length: u32) {
    memory.mapped.write_slice(request, GuestAddress(REQUEST)).unwrap();
    let length = u32::try_from(request.len()).unwrap();
    QUEUE.describe(memory, &[(REQUEST, length, false), (RESPONSE, response_length, true)]);
    QUEUE.offer(memory, &[0, 1]);
}

/// Brings the device up and notifies it.
fn drive() -> Code {
    crate::driver::drive(NSM, 1, &[0])
}

/// Takes one request and answers it.
fn answer(vm: &Vm, response: &[u8]) -> Vec<u8> {
    let mut request = vec![0; 0x2000];
    let (length, _) = recv(vm.security_module.as_fd(), &mut request, RecvFlags::empty()).unwrap();
    request.truncate(length);
    send(vm.security_module.as_fd(), response, SendFlags::NOSIGNAL).unwrap();
    request
}

/// The used ring's two entries: head and length.
fn used(memory: &Memory) -> [(u32, u32); 2] {
    [QUEUE.used_entry(memory, 0), QUEUE.used_entry(memory, 1)]
}

fn exchange(request: &[u8], response: &[u8], room: u32) -> (Memory, Vec<u8>) {
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, request, room);
    // Both are used: flags 0, index 2. Then the interrupt's reason: a used buffer.
    let code = drive().wait_for(USED, 2 << 16).wait_for(NSM + 0x60, 1).reset();
    let entry = load(&memory, &code);
    let vm = start(&memory, entry, 1, true);
    let received = answer(&vm, response);
    assert_eq!(vm.wait().reason, ExitReason::GuestReset);
    (memory, received)
}

#[test]
fn a_request_as_two_chains_is_answered_in_the_second() {
    if !can_run() {
        return;
    }
    let (memory, received) = exchange(b"\x69GetRandom", b"\xA1 an answer", 0x3000);
    assert_eq!(received, b"\x69GetRandom");
    assert_eq!(used(&memory), [(0, 0), (1, 11)]);
    let mut answer = [0; 12];
    memory.mapped.read_slice(&mut answer, GuestAddress(RESPONSE)).unwrap();
    assert_eq!(&answer, b"\xA1 an answer\0");
}

#[test]
fn an_answer_that_does_not_fit_becomes_an_error() {
    if !can_run() {
        return;
    }
    let (memory, _) = exchange(b"\x6BDescribeNSM", &[0xFF; 100], 99);
    let error = b"\xA1\x65Error\x6EBufferTooSmall";
    assert_eq!(used(&memory), [(0, 0), (1, u32::try_from(error.len()).unwrap())]);
    let mut answer = vec![0; error.len()];
    memory.mapped.read_slice(&mut answer, GuestAddress(RESPONSE)).unwrap();
    assert_eq!(answer, error);
}

#[test]
fn a_buffer_of_one_byte_gets_one_byte() {
    if !can_run() {
        return;
    }
    let (memory, _) = exchange(b"\x6BDescribeNSM", &[0xFF; 100], 1);
    assert_eq!(used(&memory), [(0, 0), (1, 1)]);
    assert_eq!(memory.mapped.read_obj::<u16>(GuestAddress(RESPONSE)).unwrap(), 0xA1);
}

#[test]
fn a_dead_security_module_is_an_error_not_a_wait() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, b"\x69GetRandom", 0x3000);
    let entry = load(&memory, &drive().wait_for(USED, 2 << 16).reset());
    let mut vm = Vm::prepare(crate::guest::program(), &[0], true, false);
    vm.drop_security_module();
    vm.boot(&memory, entry);
    assert_eq!(vm.wait().reason, ExitReason::GuestReset);
    let mut answer = [0; 21];
    memory.mapped.read_slice(&mut answer, GuestAddress(RESPONSE)).unwrap();
    assert_eq!(&answer, b"\xA1\x65Error\x6DInternalError");
}

#[test]
fn a_reset_forgets_the_request_and_its_late_answer() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, b"\x69GetRandom", 0x3000);
    // Asks, resets the device at a sign from outside, and asks the same again.
    let sign = 0x20_8000;
    let code = drive().print("1").wait_for(sign, 1);
    let again = drive().wait_for(USED, 2 << 16).reset();
    let entry = load(&memory, &code.raw(again.bytes()));
    let vm = start(&memory, entry, 1, true);
    let mut request = [0; 64];
    recv(vm.security_module.as_fd(), &mut request, RecvFlags::empty()).unwrap();
    memory.mapped.write_obj(1u32, GuestAddress(sign)).unwrap();
    recv(vm.security_module.as_fd(), &mut request, RecvFlags::empty()).unwrap();
    for response in [b"first", b"other"] {
        send(vm.security_module.as_fd(), response, SendFlags::NOSIGNAL).unwrap();
    }
    assert_eq!(vm.wait().reason, ExitReason::GuestReset);
    let mut answer = [0; 5];
    memory.mapped.read_slice(&mut answer, GuestAddress(RESPONSE)).unwrap();
    assert_eq!(&answer, b"other");
}

#[test]
fn chains_that_do_not_alternate_stop_the_device_and_not_the_machine() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, b"\x69GetRandom", 0x3000);
    // The response's buffer first.
    QUEUE.offer(&memory, &[1, 0]);
    // The status says that the device needs a reset, by a configuration interrupt; a reset makes it work again.
    let code = drive().wait_for(NSM + 0x70, 0x4F).wait_for(NSM + 0x60, 2).print("stopped");
    let code = code.store(NSM + 0x70, 0).wait_for(NSM + 0x70, 0).reset();
    let entry = load(&memory, &code);
    let ended = start(&memory, entry, 1, true).wait();
    assert_eq!((ended.reason, ended.text()), (ExitReason::GuestReset, "stopped".to_owned()));
}

#[test]
fn an_empty_request_is_answered_without_the_security_module() {
    if !can_run() {
        return;
    }
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, b"", 0x3000);
    let entry = load(&memory, &drive().wait_for(USED, 2 << 16).reset());
    assert_eq!(start(&memory, entry, 1, true).wait().reason, ExitReason::GuestReset);
    let mut answer = [0; 24];
    memory.mapped.read_slice(&mut answer, GuestAddress(RESPONSE)).unwrap();
    assert_eq!(&answer, b"\xA1\x65Error\x70InvalidOperation");
}

#[test]
fn a_request_longer_than_any_reaches_the_security_module_cut_but_too_long() {
    if !can_run() {
        return;
    }
    let (memory, received) = exchange(&[0x41; 0x1000], b"\xA0", 0x3000);
    assert_eq!((received.len(), used(&memory)[1]), (0x1000, (1, 1)));
    // Over the limit by much: one byte more than the limit is enough for the security module to say so.
    let memory = Memory::new(SMALL);
    prepare_queue(&memory, &[0x41; 0x1000], 0x3000);
    QUEUE.describe(&memory, &[(REQUEST, 0x1_0000, false), (RESPONSE, 0x3000, true)]);
    let entry = load(&memory, &drive().wait_for(USED, 2 << 16).reset());
    let vm = start(&memory, entry, 1, true);
    assert_eq!(answer(&vm, b"\xA0").len(), 0x1001);
    assert_eq!(vm.wait().reason, ExitReason::GuestReset);
}
