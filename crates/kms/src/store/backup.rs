//! Backup: a copy of one moment, made while the service runs, and read back before anyone relies on it.
//!
//! The copy is itself a database: restoring it is opening it, under the master key of that time.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::error::StoreError;
use super::master_key::{MasterKey, MasterKeySource, MasterKeys};
use super::private_file::{self, FileError};
use super::{Store, check, schema};

/// How many pages a step copies: all.
const ALL: i32 = -1;

impl Store {
    /// Copies the database into a new file of mode 0600, which is then checked in full.
    ///
    /// # Errors
    /// If there is a file of that name already, it cannot be written, or the copy does not stand the check.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let master = self.sealer().master();
        backup(&self.path, to, &master)
    }
}

/// The same of a database that a service may have open: all of one moment, whatever it writes meanwhile.
///
/// # Errors
/// As [`Store::backup`]; and if the database cannot be read or `master` is not its master key.
pub fn backup(database: &Path, to: &Path, master: &MasterKey) -> Result<(), StoreError> {
    let database = private_file::resolve(database)?;
    schema::check_file(&database)?;
    let source = schema::connect_reader(&database)?;
    let to = private_file::resolve(to)?;
    if to.symlink_metadata().is_ok() {
        return Err(FileError::io("write", &to, std::io::ErrorKind::AlreadyExists).into());
    }
    // A file of that name is a whole backup: it is written beside its place.
    let workplace = private_file::workplace(&to)?;
    let new = workplace.path().join("copy");
    let file = private_file::create(&new)?;
    copy(&source, &new)?;
    verify(&new, master)?;
    file.sync_all().map_err(|error| FileError::io("write", &to, error))?;
    Ok(private_file::rename_new(&new, &to)?)
}

/// The same with the master key of `source`, also while a rotation has not ended.
///
/// # Errors
/// As [`backup`]; and if the master key cannot be had.
pub fn backup_from(database: &Path, to: &Path, source: &MasterKeySource) -> Result<(), StoreError> {
    let MasterKeys { current, next } = source.load_all()?;
    match (backup(database, to, &current), next) {
        (Err(StoreError::WrongMasterKey), Some(next)) => backup(database, to, &next),
        (result, _) => result,
    }
}

fn copy(source: &Connection, to: &Path) -> Result<(), StoreError> {
    let mut copy = schema::connect_new(to)?;
    let backup = Backup::new(source, &mut copy)?;
    match backup.step(ALL)? {
        StepResult::Done => {}
        other => return Err(StoreError::Damaged(format!("it could not be copied ({other:?})"))),
    }
    drop(backup);
    // The copy says of itself that it has a log, as the original does. It shall be one file.
    let mode: String = copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if mode != "delete" {
        return Err(StoreError::Damaged(format!("the copy's journal is `{mode}`")));
    }
    copy.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn verify(copy: &Path, master: &MasterKey) -> Result<(), StoreError> {
    schema::check_file(copy)?;
    let connection = schema::connect_reader(copy)?;
    check(&connection, master)?;
    Ok(())
}

#[cfg(test)]
mod tests;
