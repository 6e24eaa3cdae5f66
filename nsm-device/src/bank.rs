//! The bank of 32 PCRs and their locks.

use std::collections::BTreeMap;

use attestation::pcr::{PCR_COUNT, Pcr, PcrIndex};
use thiserror::Error;

/// How many registers are locked before the guest runs: 0 to 15.
pub const BOOT_LOCKED: u8 = 16;

/// An operation on a register that is locked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("PCR {0} is locked")]
pub struct LockedError(pub PcrIndex);

/// A register: its value and its lock, which nothing opens again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// The value.
    pub value: Pcr,
    /// True once it can no longer be extended.
    pub locked: bool,
}

/// All registers of one security module. They start as zeros, unlocked.
#[derive(Debug, Clone)]
pub struct PcrBank([Register; PCR_COUNT as usize]);

impl Default for PcrBank {
    fn default() -> Self {
        Self([Register { value: Pcr::ZERO, locked: false }; PCR_COUNT as usize])
    }
}

impl PcrBank {
    /// A register as it is.
    #[must_use]
    pub fn describe(&self, index: PcrIndex) -> Register {
        // An index is below the number of registers by construction.
        self.0.get(usize::from(index.get())).copied().unwrap_or(Register { value: Pcr::ZERO, locked: true })
    }

    /// Extends a register with `data` and returns its new value.
    ///
    /// # Errors
    /// [`LockedError`] if it is locked; it keeps its value.
    pub fn extend(&mut self, index: PcrIndex, data: &[u8]) -> Result<Pcr, LockedError> {
        self.change(index, |register| register.value = register.value.extend(data))
    }

    /// Locks a register.
    ///
    /// # Errors
    /// [`LockedError`] if it was locked before.
    pub fn lock(&mut self, index: PcrIndex) -> Result<(), LockedError> {
        self.change(index, |register| register.locked = true).map(|_| ())
    }

    /// Locks every register below `end`, whether or not some are locked already.
    pub fn lock_below(&mut self, end: u8) {
        for register in self.0.iter_mut().take(usize::from(end)) {
            register.locked = true;
        }
    }

    /// Gives a register its measured value. Only for the measurements of the boot.
    pub(crate) fn set(&mut self, index: PcrIndex, value: Pcr) -> Result<(), LockedError> {
        self.change(index, |register| register.value = value).map(|_| ())
    }

    /// The locked registers: those that documents show.
    #[must_use]
    pub fn locked(&self) -> BTreeMap<PcrIndex, Pcr> {
        let registers = PcrIndex::all().zip(&self.0);
        registers
            .filter(|(_, register)| register.locked)
            .map(|(index, register)| (index, register.value))
            .collect()
    }

    fn change(&mut self, index: PcrIndex, change: impl FnOnce(&mut Register)) -> Result<Pcr, LockedError> {
        match self.0.get_mut(usize::from(index.get())) {
            Some(register) if !register.locked => {
                change(register);
                Ok(register.value)
            }
            _ => Err(LockedError(index)),
        }
    }
}
