//! Keys: their metadata, policy and sealed material.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension};
use zeroize::Zeroizing;

use super::error::StoreError;
use super::seal::{Fields, Row, Sealer, Sum};
use super::{Change, Store, aliases, from_nanoseconds, limit, row_limit, to_nanoseconds};
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};
use crate::policy::MAX_POLICY_BYTES;

/// Bytes of the longest description: AWS's 8192 characters (API reference, CreateKey), each of up to four bytes.
pub const MAX_DESCRIPTION_LEN: usize = 4 * 8192;
/// Bytes of the longest material: more than any kind of key has.
pub const MAX_MATERIAL_LEN: usize = 8 * 1024;

const COLUMNS: &str = "id, created, description, usage, spec, state, deletion, policy, sealed";

/// A key with all that belongs to it.
#[derive(Debug)]
pub struct StoredKey {
    /// What is known of it.
    pub metadata: KeyMetadata,
    /// Its policy, as it was put.
    pub policy: String,
    /// Its secret, wiped when dropped.
    pub material: Zeroizing<Vec<u8>>,
}

/// A row as it stands in the database: nothing of it is believed yet.
struct RawKey {
    id: String,
    created: i64,
    description: String,
    usage: String,
    spec: String,
    state: String,
    deletion: Option<i64>,
    policy: String,
    sealed: Vec<u8>,
}

impl Store {
    /// Keeps a new key.
    ///
    /// # Errors
    /// [`StoreError::KeyExists`], [`StoreError::TooLong`], or if it cannot be written.
    pub fn insert_key(
        &self,
        metadata: &KeyMetadata,
        policy: &str,
        material: &[u8],
    ) -> Result<(), StoreError> {
        limit("the key material", material.len(), MAX_MATERIAL_LEN)?;
        let mut raw = RawKey::new(metadata, policy)?;
        self.change(|change| {
            if find(&change.transaction, &raw.id)?.is_some() {
                return Err(StoreError::KeyExists(metadata.id.clone()));
            }
            raw.sealed = change.seal(raw.row(), &raw.fields(), material, None)?;
            raw.write(change)
        })
    }

    /// A key, if there is one of that id.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if its row was changed from outside, or if it cannot be read.
    pub fn key(&self, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.read(|connection, sealer| {
            find(connection, &id.to_string())?.map(|raw| raw.open(sealer)).transpose()
        })
    }

    /// Ids behind `after` in the order of ids, at most `limit`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn list_keys(&self, after: Option<&KeyId>, limit: usize) -> Result<Vec<KeyId>, StoreError> {
        self.read(|connection, _| {
            let after = after.map_or(String::new(), KeyId::to_string);
            let mut statement =
                connection.prepare_cached("SELECT id FROM keys WHERE id > ? ORDER BY id LIMIT ?")?;
            let rows = statement.query_map((after, row_limit(limit)), |row| row.get::<_, String>(0))?;
            rows.map(|id| parse_id(&id?)).collect()
        })
    }

    /// Gives a key another policy.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], [`StoreError::TooLong`], or if it cannot be written.
    pub fn set_policy(&self, id: &KeyId, policy: &str) -> Result<(), StoreError> {
        self.change_key(id, |_, text| {
            policy.clone_into(text);
        })
    }

    /// Brings a key into another state.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], or if it cannot be written.
    pub fn set_state(&self, id: &KeyId, state: KeyState) -> Result<(), StoreError> {
        self.change_key(id, |metadata, _| metadata.state = state)
    }

    /// Gives a key another description.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`], [`StoreError::TooLong`], or if it cannot be written.
    pub fn set_description(&self, id: &KeyId, description: &str) -> Result<(), StoreError> {
        self.change_key(id, |metadata, _| description.clone_into(&mut metadata.description))
    }

    /// Destroys the keys whose time has come, and their aliases: nothing of them is left in the database. Returns which.
    ///
    /// # Errors
    /// If one of them was changed from outside, or it cannot be written; then none is destroyed.
    pub fn destroy_due(&self, now: SystemTime) -> Result<Vec<KeyId>, StoreError> {
        let now = to_nanoseconds(now)?;
        // Every minute, and mostly nothing is due: a change would write to the disk each time.
        if self.read(|connection, _| due(connection, now))?.is_empty() {
            return Ok(Vec::new());
        }
        let destroyed = self.change(|change| {
            let mut destroyed = Vec::new();
            for raw in due(&change.transaction, now)? {
                // A date that somebody else wrote destroys nothing.
                let key = raw.open(change.sealer)?;
                aliases::delete_of(change, &raw.id)?;
                change.forget(raw.row(), &raw.sealed);
                change.transaction.execute("DELETE FROM keys WHERE id = ?", (&raw.id,))?;
                destroyed.push(key.metadata.id);
            }
            Ok(destroyed)
        })?;
        self.empty_log()?;
        Ok(destroyed)
    }

    fn change_key(
        &self,
        id: &KeyId,
        edit: impl FnOnce(&mut KeyMetadata, &mut String),
    ) -> Result<(), StoreError> {
        self.change(|change| {
            let before = find(&change.transaction, &id.to_string())?
                .ok_or_else(|| StoreError::NoSuchKey(id.clone()))?;
            let StoredKey { mut metadata, mut policy, material } = before.open(change.sealer)?;
            edit(&mut metadata, &mut policy);
            let mut raw = RawKey::new(&metadata, &policy)?;
            raw.sealed = change.seal(raw.row(), &raw.fields(), &material, Some(&before.sealed))?;
            raw.write(change)
        })
    }
}

impl RawKey {
    /// A row that is not sealed yet.
    fn new(metadata: &KeyMetadata, policy: &str) -> Result<Self, StoreError> {
        limit("the policy", policy.len(), MAX_POLICY_BYTES)?;
        limit("the description", metadata.description.len(), MAX_DESCRIPTION_LEN)?;
        let deletion = match metadata.state {
            KeyState::Enabled | KeyState::Disabled => None,
            KeyState::PendingDeletion { at } => Some(to_nanoseconds(at)?),
        };
        Ok(Self {
            id: metadata.id.to_string(),
            created: to_nanoseconds(metadata.created)?,
            description: metadata.description.clone(),
            usage: metadata.usage.aws_name().to_owned(),
            spec: metadata.spec.aws_name().to_owned(),
            state: metadata.state.aws_name().to_owned(),
            deletion,
            policy: policy.to_owned(),
            sealed: Vec::new(),
        })
    }

    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            created: row.get(1)?,
            description: row.get(2)?,
            usage: row.get(3)?,
            spec: row.get(4)?,
            state: row.get(5)?,
            deletion: row.get(6)?,
            policy: row.get(7)?,
            sealed: row.get(8)?,
        })
    }

    fn row(&self) -> Row<'_> {
        Row { table: "keys", name: &self.id }
    }

    /// Every column that is not sealed.
    fn fields(&self) -> Fields {
        Fields::default()
            .with(self.id.as_bytes())
            .with_number(Some(self.created))
            .with(self.description.as_bytes())
            .with(self.usage.as_bytes())
            .with(self.spec.as_bytes())
            .with(self.state.as_bytes())
            .with_number(self.deletion)
            .with(self.policy.as_bytes())
    }

    /// The key, if the row is as we wrote it.
    fn open(&self, sealer: &Sealer) -> Result<StoredKey, StoreError> {
        let material = sealer
            .open(self.row(), &self.fields(), &self.sealed)
            .ok_or_else(|| StoreError::Tampered(format!("the key {}", self.id)))?;
        // The master key vouches for the row: what cannot be read now was written by a version with a mistake, or a newer one.
        let metadata = self
            .metadata()
            .ok_or_else(|| StoreError::Damaged(format!("the row of key {} has unknown values", self.id)))?;
        Ok(StoredKey { metadata, policy: self.policy.clone(), material })
    }

    fn metadata(&self) -> Option<KeyMetadata> {
        let state = match (self.state.as_str(), self.deletion) {
            ("Enabled", None) => KeyState::Enabled,
            ("Disabled", None) => KeyState::Disabled,
            ("PendingDeletion", Some(at)) => KeyState::PendingDeletion { at: from_nanoseconds(at)? },
            _ => return None,
        };
        Some(KeyMetadata {
            id: self.id.parse().ok()?,
            created: from_nanoseconds(self.created)?,
            description: self.description.clone(),
            usage: KeyUsage::from_aws_name(&self.usage)?,
            spec: KeySpec::from_aws_name(&self.spec)?,
            state,
        })
    }

    fn write(&self, change: &Change<'_>) -> Result<(), StoreError> {
        // Not REPLACE: that deletes first, which aliases of the key forbid.
        change.transaction.execute(
            "INSERT INTO keys (id, created, description, usage, spec, state, deletion, policy, sealed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE SET description = ?3, \
             state = ?6, deletion = ?7, policy = ?8, sealed = ?9",
            (
                &self.id,
                self.created,
                &self.description,
                &self.usage,
                &self.spec,
                &self.state,
                self.deletion,
                &self.policy,
                &self.sealed,
            ),
        )?;
        Ok(())
    }
}

/// Opens every key and returns their sum.
pub(super) fn check_all(connection: &Connection, sealer: &Sealer) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM keys"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let raw = RawKey::read(row)?;
        raw.open(sealer)?;
        sum.add(&sealer.count(raw.row(), &raw.sealed));
    }
    Ok(sum)
}

/// Opens every key by `old` and seals it anew by the change's sealer.
pub(super) fn reseal_all(change: &mut Change<'_>, old: &Sealer) -> Result<usize, StoreError> {
    let ids = {
        let mut statement = change.transaction.prepare("SELECT id FROM keys")?;
        statement.query_map((), |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?
    };
    for id in &ids {
        let Some(mut raw) = find(&change.transaction, id)? else { continue };
        let material = raw.open(old)?.material;
        raw.sealed = change.seal(raw.row(), &raw.fields(), &material, None)?;
        raw.write(change)?;
    }
    Ok(ids.len())
}

/// Whether there is a key of that id.
pub(super) fn exists(connection: &Connection, id: &KeyId) -> Result<bool, StoreError> {
    Ok(find(connection, &id.to_string())?.is_some())
}

/// A key's id as it stands in the database.
pub(super) fn parse_id(text: &str) -> Result<KeyId, StoreError> {
    text.parse().map_err(|_| StoreError::Tampered("the id of a key".to_owned()))
}

fn find(connection: &Connection, id: &str) -> Result<Option<RawKey>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?"))?;
    Ok(statement.query_row((id,), RawKey::read).optional()?)
}

fn due(connection: &Connection, now: i64) -> Result<Vec<RawKey>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM keys WHERE deletion IS NOT NULL AND deletion <= ?"
    ))?;
    let rows = statement.query_map((now,), RawKey::read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
