//! Capabilities: none are left, and none can come back. See capabilities(7).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

use crate::{ContainmentError, step};

/// Capabilities are numbered below this; the kernel says where its own end.
const NUMBERS: u32 = 64;

/// Empties every set of this thread.
pub(crate) fn drop_all() -> Result<(), ContainmentError> {
    clear_ambient_capability_set().map_err(step("clear its ambient capabilities"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(step("drop its capabilities"))
}

/// Makes sure that none can come back once they are dropped. The bounding set and the secure bits take a capability to change; a
/// thread without it, which cannot gain any by exec, has no use for them.
pub(crate) fn lock() -> Result<(), ContainmentError> {
    if !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETPCAP)) {
        return Ok(());
    }
    for number in 0..NUMBERS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel knows no capability of this number or above.
            Err(Errno::INVAL) => break,
            // Some hosts give an ordinary user a namespace whose capabilities count for nothing.
            Err(Errno::PERM) => return Ok(()),
            Err(errno) => return Err(step("empty its capability bounding set")(errno)),
        }
    }
    // A uid of 0 gives nothing from now on, and this cannot be undone.
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(locked).map_err(step("lock its secure bits"))
}
