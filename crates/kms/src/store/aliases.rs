//! Aliases: names that stand for keys. A row has nothing secret; its seal says that the service wrote it.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension};

use super::error::StoreError;
use super::keys::{self, parse_id};
use super::seal::{Fields, Row, Sealer, Sum};
use super::{Change, Store, from_nanoseconds, limit, row_limit, to_nanoseconds};
use crate::key::KeyId;

/// Bytes of the longest name: AWS's limit too (API reference, CreateAlias).
pub const MAX_ALIAS_LEN: usize = 256;

const COLUMNS: &str = "name, target, created, updated, sealed";

/// A name and the key that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name, such as `alias/backup`.
    pub name: String,
    /// The key.
    pub target: KeyId,
    /// When it was made.
    pub created: SystemTime,
    /// When it last got another key.
    pub updated: SystemTime,
}

/// A row as it stands in the database: nothing of it is believed yet.
struct RawAlias {
    name: String,
    target: String,
    created: i64,
    updated: i64,
    sealed: Vec<u8>,
}

impl Store {
    /// The key that a name stands for, if there is such a name.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if its row was changed from outside, or if it cannot be read.
    pub fn alias(&self, name: &str) -> Result<Option<KeyId>, StoreError> {
        self.read(|connection, sealer| {
            let raw = find(connection, name)?;
            Ok(raw.map(|raw| raw.open(sealer)).transpose()?.map(|alias| alias.target))
        })
    }

    /// Makes a name for a key.
    ///
    /// # Errors
    /// [`StoreError::AliasExists`], [`StoreError::NoSuchKey`], [`StoreError::TooLong`], or if it cannot be written.
    pub fn create_alias(&self, name: &str, target: &KeyId, now: SystemTime) -> Result<(), StoreError> {
        limit("the alias", name.len(), MAX_ALIAS_LEN)?;
        let now = to_nanoseconds(now)?;
        self.change(|change| {
            if find(&change.transaction, name)?.is_some() {
                return Err(StoreError::AliasExists(name.to_owned()));
            }
            require_key(change, target)?;
            let mut raw = RawAlias {
                name: name.to_owned(),
                target: target.to_string(),
                created: now,
                updated: now,
                sealed: Vec::new(),
            };
            raw.sealed = change.seal(raw.row(), &raw.fields(), &[], None)?;
            raw.write(change)
        })
    }

    /// Gives a name another key.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAlias`], [`StoreError::NoSuchKey`], or if it cannot be written.
    pub fn update_alias(&self, name: &str, target: &KeyId, now: SystemTime) -> Result<(), StoreError> {
        let now = to_nanoseconds(now)?;
        self.change(|change| {
            let mut raw = existing(change, name)?;
            require_key(change, target)?;
            raw.target = target.to_string();
            raw.updated = now;
            raw.sealed = change.seal(raw.row(), &raw.fields(), &[], Some(&raw.sealed))?;
            raw.write(change)
        })
    }

    /// Removes a name; its key stays.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAlias`], or if it cannot be written.
    pub fn delete_alias(&self, name: &str) -> Result<(), StoreError> {
        self.change(|change| {
            let raw = existing(change, name)?;
            raw.delete(change)
        })
    }

    /// Names behind `after` in the order of names, of one key or of all, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if one of the rows was changed from outside, or if they cannot be read.
    pub fn list_aliases(
        &self,
        target: Option<&KeyId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Alias>, StoreError> {
        let target = target.map(KeyId::to_string);
        self.read(|connection, sealer| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM aliases WHERE name > ?1 AND (?2 IS NULL OR target = ?2) ORDER BY name LIMIT ?3"
            ))?;
            let rows = statement
                .query_map((after.unwrap_or_default(), target, row_limit(limit)), RawAlias::read)?;
            rows.map(|raw| raw?.open(sealer)).collect()
        })
    }
}

impl RawAlias {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            target: row.get(1)?,
            created: row.get(2)?,
            updated: row.get(3)?,
            sealed: row.get(4)?,
        })
    }

    fn row(&self) -> Row<'_> {
        Row { table: "aliases", name: &self.name }
    }

    /// Every column that is not the seal.
    fn fields(&self) -> Fields {
        Fields::default()
            .with(self.name.as_bytes())
            .with(self.target.as_bytes())
            .with_number(Some(self.created))
            .with_number(Some(self.updated))
    }

    /// The alias, if the row is as we wrote it.
    fn open(&self, sealer: &Sealer) -> Result<Alias, StoreError> {
        let tampered = || StoreError::Tampered(format!("the alias {:?}", self.name));
        sealer.open(self.row(), &self.fields(), &self.sealed).ok_or_else(tampered)?;
        Ok(Alias {
            name: self.name.clone(),
            target: parse_id(&self.target)?,
            created: from_nanoseconds(self.created).ok_or_else(tampered)?,
            updated: from_nanoseconds(self.updated).ok_or_else(tampered)?,
        })
    }

    fn write(&self, change: &Change<'_>) -> Result<(), StoreError> {
        change.transaction.execute(
            "INSERT OR REPLACE INTO aliases (name, target, created, updated, sealed) VALUES (?, ?, ?, ?, ?)",
            (&self.name, &self.target, self.created, self.updated, &self.sealed),
        )?;
        Ok(())
    }

    fn delete(&self, change: &mut Change<'_>) -> Result<(), StoreError> {
        // One that somebody else wrote does not count in the sum.
        self.open(change.sealer)?;
        change.forget(self.row(), &self.sealed);
        change.transaction.execute("DELETE FROM aliases WHERE name = ?", (&self.name,))?;
        Ok(())
    }
}

/// Opens every alias and returns their sum.
pub(super) fn check_all(connection: &Connection, sealer: &Sealer) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    for raw in all(connection, None)? {
        raw.open(sealer)?;
        sum.add(&sealer.count(raw.row(), &raw.sealed));
    }
    Ok(sum)
}

/// Opens every alias by `old` and seals it anew by the change's sealer.
pub(super) fn reseal_all(change: &mut Change<'_>, old: &Sealer) -> Result<usize, StoreError> {
    let all = all(&change.transaction, None)?;
    let count = all.len();
    for mut raw in all {
        raw.open(old)?;
        raw.sealed = change.seal(raw.row(), &raw.fields(), &[], None)?;
        raw.write(change)?;
    }
    Ok(count)
}

/// Removes the aliases of a key.
pub(super) fn delete_of(change: &mut Change<'_>, target: &str) -> Result<(), StoreError> {
    for raw in all(&change.transaction, Some(target))? {
        raw.delete(change)?;
    }
    Ok(())
}

fn all(connection: &Connection, target: Option<&str>) -> Result<Vec<RawAlias>, StoreError> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM aliases WHERE ?1 IS NULL OR target = ?1"))?;
    let rows = statement.query_map((target,), RawAlias::read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn find(connection: &Connection, name: &str) -> Result<Option<RawAlias>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM aliases WHERE name = ?"))?;
    Ok(statement.query_row((name,), RawAlias::read).optional()?)
}

/// The row of an alias that must be there, and that nobody else changed.
fn existing(change: &Change<'_>, name: &str) -> Result<RawAlias, StoreError> {
    let raw = find(&change.transaction, name)?.ok_or_else(|| StoreError::NoSuchAlias(name.to_owned()))?;
    raw.open(change.sealer)?;
    Ok(raw)
}

fn require_key(change: &Change<'_>, target: &KeyId) -> Result<(), StoreError> {
    if keys::exists(&change.transaction, target)? {
        Ok(())
    } else {
        Err(StoreError::NoSuchKey(target.clone()))
    }
}
