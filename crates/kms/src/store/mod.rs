//! Keys at rest: a database in which every row is sealed under the master key.
//!
//! It is SQLite with a write-ahead log and `synchronous=FULL`: a change is on the disk when the call that made it returns, and a process
//! that is killed at any moment leaves either all of a change or nothing of it.
//!
//! What this protects, and what not:
//! - Who reads the files (the database, its log, a backup) without the master key learns the metadata, aliases and policies, and nothing of
//!   the keys' material: see `seal`.
//! - Who also writes them cannot change anything that is then believed: a row that was changed, or moved to another key's place, is
//!   refused when it is used; rows that were added, taken away or put back from earlier are found when the database is opened, because
//!   a sum over all rows is sealed too. (While the service runs, an earlier form of one row would be believed until then.)
//! - **The whole file, put back as it was at an earlier moment, is not recognised**: it is just what a restored backup is. Who can do that
//!   brings back policies and aliases of that time, and keys destroyed since. Where this matters, keep the database where only the
//!   service can write.
//! - A destroyed key's material is overwritten in the database and the log is emptied; blocks that a file system or a disk keeps elsewhere,
//!   and backups, still hold it, sealed. Rotating the master key and forgetting the old one makes all of these worthless.
//!
//! One process has a database open at a time, by a lock on a file beside it. Within it a [`Store`] is for all threads: one connection writes,
//! another reads, and neither waits for the other's disk.

mod aliases;
mod backup;
mod error;
mod keys;
pub mod master_key;
pub(crate) mod private_file;
mod rotate;
mod schema;
mod seal;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use rand_core::TryRng;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use self::aliases::{Alias, MAX_ALIAS_LEN};
pub use self::backup::{backup, backup_from};
pub use self::error::StoreError;
pub use self::keys::{MAX_DESCRIPTION_LEN, MAX_MATERIAL_LEN, StoredKey};
pub use self::master_key::{MasterKey, MasterKeyError, MasterKeySource};
pub use self::private_file::FileError;
pub use self::rotate::{Rotated, rotate};
use self::schema::Meta;
use self::seal::{DATABASE_ID_LEN, Fields, Row, Sealer, Sum};
pub use self::token::{PinSource, Token, TokenError};
use crate::key::RandomnessError;

/// The sum over all rows is a row of its own, which does not count.
const SUM_ROW: Row<'static> = Row { table: "meta", name: "sum" };

/// An open database of keys, policies and aliases.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    // Taken in this order, and in no other: writer, sealer, reader.
    writer: Mutex<Connection>,
    sealer: RwLock<Sealer>,
    reader: Mutex<Connection>,
    /// Last, so that it is dropped last: until then the connections above are closed.
    _lock: private_file::Lock,
}

impl Store {
    /// Makes an empty database, of mode 0600, where there is no file yet, and opens it.
    ///
    /// # Errors
    /// If there is a file already, or it cannot be made.
    pub fn create(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let path = private_file::resolve(path)?;
        let lock = private_file::lock(&path)?;
        // Filled beside its place: a database is there whole, or not at all.
        let workplace = private_file::workplace(&path)?;
        let new = workplace.path().join("database");
        drop(private_file::create(&new)?);
        let mut database = [0; DATABASE_ID_LEN];
        getrandom::SysRng.try_fill_bytes(&mut database).map_err(|_| RandomnessError)?;
        let sealer = Sealer::new(master.clone(), database);
        let sum = sealer.seal(SUM_ROW, &Fields::default(), &*Sum::default().to_bytes())?;
        let meta = Meta { database, key_check: sealer.key_check().to_vec(), sum };
        let mut connection = schema::connect_new(&new)?;
        schema::fill(&mut connection, &meta)?;
        connection.close().map_err(|(_, error)| error)?;
        private_file::rename_new(&new, &path)?;
        Self::open_locked(path, lock, master)
    }

    /// Opens a database, after a look at all of it: see [`StoreError`] for what can be wrong.
    ///
    /// # Errors
    /// If it is not there, not private, not ours, newer, damaged, changed by others, in use, cannot be written, or if `master` is
    /// not its master key.
    pub fn open(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let path = private_file::resolve(path)?;
        schema::check_file(&path)?;
        let lock = private_file::lock(&path)?;
        Self::open_locked(path, lock, master)
    }

    fn open_locked(path: PathBuf, lock: private_file::Lock, master: &MasterKey) -> Result<Self, StoreError> {
        schema::check_file(&path)?;
        let writer = schema::connect_writer(&path)?;
        let sealer = check(&writer, master)?;
        let reader = schema::connect_reader(&path)?;
        Ok(Self {
            path,
            writer: Mutex::new(writer),
            sealer: RwLock::new(sealer),
            reader: Mutex::new(reader),
            _lock: lock,
        })
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads, while nothing exchanges the master key.
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection, &Sealer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let sealer = self.sealer();
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(&reader, &sealer)
    }

    /// Makes a change: all of it, on the disk, or nothing.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer();
        let sealer = self.sealer();
        let mut under_way = Change::begin(&mut writer, &sealer)?;
        let value = change(&mut under_way)?;
        under_way.commit()?;
        Ok(value)
    }

    /// After a panic in a change its transaction is rolled back: the connection is as good as before.
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sealer(&self) -> RwLockReadGuard<'_, Sealer> {
        self.sealer.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way. Dropped without [`Self::commit`], it never was.
struct Change<'a> {
    transaction: Transaction<'a>,
    sealer: &'a Sealer,
    sum: Sum,
}

impl<'a> Change<'a> {
    fn begin(connection: &'a mut Connection, sealer: &'a Sealer) -> Result<Self, StoreError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sum = stored_sum(&transaction, sealer)?;
        Ok(Self { transaction, sealer, sum })
    }

    /// Seals a row that takes the place of `before`, if there was one.
    fn seal(
        &mut self,
        row: Row<'_>,
        fields: &Fields,
        secret: &[u8],
        before: Option<&[u8]>,
    ) -> Result<Vec<u8>, StoreError> {
        let sealed = self.sealer.seal(row, fields, secret)?;
        if let Some(before) = before {
            self.forget(row, before);
        }
        self.sum.add(&self.sealer.count(row, &sealed));
        Ok(sealed)
    }

    /// A row that is taken away no longer counts.
    fn forget(&mut self, row: Row<'_>, sealed: &[u8]) {
        self.sum.subtract(&self.sealer.count(row, sealed));
    }

    fn commit(self) -> Result<(), StoreError> {
        let sum = self.sealer.seal(SUM_ROW, &Fields::default(), &*self.sum.to_bytes())?;
        self.transaction.execute("UPDATE meta SET sum = ? WHERE id = 1", (sum,))?;
        self.transaction.commit()?;
        Ok(())
    }
}

/// Looks at a whole database: its file, its master key, and every row.
fn check(connection: &Connection, master: &MasterKey) -> Result<Sealer, StoreError> {
    schema::check_database(connection)?;
    let meta = schema::meta(connection)?;
    let sealer = Sealer::new(master.clone(), meta.database);
    if !sealer.is_key_check(&meta.key_check) {
        return Err(StoreError::WrongMasterKey);
    }
    let mut sum = keys::check_all(connection, &sealer)?;
    sum.add(&aliases::check_all(connection, &sealer)?);
    if sum != stored_sum(connection, &sealer)? {
        return Err(StoreError::Tampered(
            "the database (rows were taken away, added, or put back from an earlier time)".to_owned(),
        ));
    }
    Ok(sealer)
}

fn stored_sum(connection: &Connection, sealer: &Sealer) -> Result<Sum, StoreError> {
    let meta = schema::meta(connection)?;
    let sum = sealer
        .open(SUM_ROW, &Fields::default(), &meta.sum)
        .ok_or_else(|| StoreError::Tampered("the sum over all rows".to_owned()))?;
    Ok(Sum::from_bytes(&sum))
}

/// Nanoseconds since 1970, as times stand in the database.
fn to_nanoseconds(time: SystemTime) -> Result<i64, StoreError> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| StoreError::Time)?;
    i64::try_from(since.as_nanos()).map_err(|_| StoreError::Time)
}

/// The time of so many nanoseconds since 1970.
fn from_nanoseconds(nanoseconds: i64) -> Option<SystemTime> {
    let since = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Refuses what is longer than anything that the service lets in.
fn limit(what: &'static str, length: usize, limit: usize) -> Result<(), StoreError> {
    if length > limit { Err(StoreError::TooLong { what, limit }) } else { Ok(()) }
}

/// At most so many rows, for SQLite.
fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
