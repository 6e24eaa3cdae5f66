//! The channels between the processes. The first byte of an input says which direction, the rest is packets.

use crate::arch::boot::fuzzing::set_registers;
use crate::fuzzing::{MOST_MESSAGES, read};
use crate::memory;
use crate::messages::{BootSpec, ToVm};
use crate::{security_module, supervisor};

/// Bytes of the memory that boot messages are checked against.
const MEMORY: u64 = 1 << 32;
const PAGE: u64 = 4096;

/// Has a receiver hear the packets of an input. Returns how many it understood.
///
/// # Panics
/// One of the rules of the receiver was broken.
pub fn messages(data: &[u8]) -> usize {
    let Some((direction, packets)) = data.split_first() else { return 0 };
    let packets = corpus::packets(packets).take(MOST_MESSAGES);
    match direction % 4 {
        0 => packets.filter_map(read::<ToVm>).inspect(to_vm).count(),
        1 => supervisor::fuzzing::machine(packets),
        2 => security_module::fuzzing::supervisor(packets),
        _ => supervisor::fuzzing::security_module(packets),
    }
}

/// What the virtual machine process does with a message as far as it needs no KVM.
fn to_vm(message: &ToVm) {
    let ToVm::Boot(BootSpec { regions, entry }) = message else { return };
    set_registers(*entry);
    if memory::check_regions(regions, PAGE, MEMORY).is_err() {
        return;
    }
    assert!(!regions.is_empty());
    for region in regions {
        let end = |start: u64| u128::from(start) + u128::from(region.length);
        assert!(region.length > 0 && end(region.offset) <= u128::from(MEMORY), "{region:?}");
        assert!(end(region.guest_address) <= u128::from(u64::MAX), "{region:?}");
        assert!((region.guest_address | region.length | region.offset).is_multiple_of(PAGE), "{region:?}");
    }
}
