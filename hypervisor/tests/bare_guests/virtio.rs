//! The virtio devices, by their registers.

use enclave_hypervisor::exit_reason::ExitReason;

use crate::code::Code;
use crate::guest::{can_run, run};

/// Both devices, then a place where there is none.
const DEVICES: [u64; 3] = [0xD000_0000, 0xD000_1000, 0xD000_2000];

#[test]
fn both_devices_are_at_their_addresses() {
    if !can_run() {
        return;
    }
    let code = DEVICES.iter().fold(Code::new(), |code, device| {
        // Magic, version, device type.
        code.load(*device).print_eax().load(device + 4).print_eax().load(device + 8).print_eax()
    });
    let ended = run(&code.reset());
    assert_eq!(ended.reason, ExitReason::GuestReset);
    let words: Vec<u32> =
        ended.console.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    let magic = u32::from_le_bytes(*b"virt");
    assert_eq!(words, [magic, 2, 19, magic, 2, 33, u32::MAX, u32::MAX, u32::MAX]);
}

#[test]
fn the_vsock_device_tells_the_guest_its_address() {
    if !can_run() {
        return;
    }
    let ended = run(&Code::new().load(0xD000_0100).print_eax().reset());
    assert_eq!(ended.console, 16u32.to_le_bytes());
}

#[test]
fn garbage_in_every_register_neither_ends_the_machine_nor_the_process() {
    if !can_run() {
        return;
    }
    let mut code = Code::new();
    for device in &DEVICES[..2] {
        for value in [u32::MAX, 0x5555_5555, 1] {
            for register in (0..0x104).step_by(4) {
                code = code.store(device + register, value);
            }
        }
        // A byte and two words at odd places.
        code = code.rdi(device + 0x51).raw(&[0xC6, 0x07, 0xFF]).rdi(device + 0x6E).raw(&[0x48, 0x89, 0x07]);
    }
    let ended = run(&code.print("alive").reset());
    assert_eq!((ended.reason, ended.text()), (ExitReason::GuestReset, "alive".to_owned()));
}
