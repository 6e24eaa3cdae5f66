//! Rotation: everything is sealed anew under a new master key.
//!
//! In four steps, each on the disk before the next:
//! 1. The new key is put beside the current one, with `.next` behind its name.
//! 2. All rows, the sum and the key check are written anew in one transaction.
//! 3. The current key gets a second name with `.old` behind it: backups made before need it.
//! 4. The new key takes the current one's name.
//!
//! A crash between any two leaves a database that is wholly under one of the two keys, and both keys in their places. [`Store::open_from`]
//! sees by the key check which one that is, and ends the rotation (steps 3 and 4) or forgets it (the new key is removed).
//!
//! A credential is changed by who made it: the next one must be there under `NAME.next`, steps 3 and 4 are the administrator's, and until then
//! the service opens the database with either.

use std::path::Path;
use std::sync::PoisonError;

use rusqlite::TransactionBehavior;

use super::error::StoreError;
use super::master_key::{MasterKey, MasterKeySource, MasterKeys};
use super::seal::{Sealer, Sum};
use super::{Change, Store, aliases, keys};

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// How many keys were sealed anew.
    pub keys: usize,
    /// How many aliases were.
    pub aliases: usize,
}

/// Gives a database that no service has open a new master key, and puts that into its place.
///
/// # Errors
/// If the database cannot be opened, or the new key or the database cannot be written. The database is then wholly under the old
/// key or wholly under the new one, and opens.
pub fn rotate(path: &Path, source: &MasterKeySource) -> Result<Rotated, StoreError> {
    // This also ends a rotation that was interrupted.
    Store::open_from(path, source)?.rotate(source)
}

impl Store {
    /// Opens a database with the master key of `source`, and ends a rotation that was interrupted.
    ///
    /// # Errors
    /// As [`Store::open`]; and if the master key cannot be had.
    pub fn open_from(path: &Path, source: &MasterKeySource) -> Result<Self, StoreError> {
        let MasterKeys { current, next } = source.load_all()?;
        match (Self::open(path, &current), next) {
            (Ok(store), Some(_)) => {
                source.forget_next()?;
                Ok(store)
            }
            (Err(StoreError::WrongMasterKey), Some(next)) => {
                let store = Self::open(path, &next)?;
                source.adopt_next()?;
                Ok(store)
            }
            (result, _) => result,
        }
    }

    /// Makes a new master key, seals everything anew under it, and puts it into its place.
    ///
    /// # Errors
    /// As [`rotate`]. If the new key is not in its place afterwards, [`Self::open_from`] puts it there.
    pub fn rotate(&self, source: &MasterKeySource) -> Result<Rotated, StoreError> {
        let next = source.make_next()?;
        let rotated = self.rotate_master_key(&next)?;
        source.adopt_next()?;
        Ok(rotated)
    }

    /// Seals everything anew under `new`, in one transaction. Reads wait meanwhile.
    ///
    /// The new key must be safe before this is called: see the module.
    ///
    /// # Errors
    /// If a row was changed from outside or it cannot be written: then all is under the old key as before.
    pub fn rotate_master_key(&self, new: &MasterKey) -> Result<Rotated, StoreError> {
        let mut writer = self.writer();
        // No reader has a row in its hands while the key changes.
        let mut sealer = self.sealer.write().unwrap_or_else(PoisonError::into_inner);
        let next = Sealer::new(new.clone(), sealer.database());
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What is there must be just what was: a rotation would vouch for it anew.
        super::check(&transaction, &sealer.master())?;
        let mut change = Change { transaction, sealer: &next, sum: Sum::default() };
        let rotated = Rotated {
            keys: keys::reseal_all(&mut change, &sealer)?,
            aliases: aliases::reseal_all(&mut change, &sealer)?,
        };
        change
            .transaction
            .execute("UPDATE meta SET key_check = ? WHERE id = 1", (next.key_check().as_slice(),))?;
        change.commit()?;
        *sealer = next;
        drop(sealer);
        drop(writer);
        self.empty_log()?;
        Ok(rotated)
    }

    /// Moves the log into the database and empties it, so that nothing of what was overwritten is left there. A reader of another
    /// process (a backup) may prevent that: the next time does it then.
    pub(super) fn empty_log(&self) -> Result<(), StoreError> {
        self.writer().query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        Ok(())
    }
}
