//! Sealing: what is secret is encrypted, and everything that a row says is authenticated with it.
//!
//! Each row has a key of its own, derived from the master key, the database and the row's name by HKDF-Expand with SHA-256 (RFC 5869
//! section 2.3; the master key is uniformly random, so that its extraction step is not needed). Under it a row is sealed by AES-256-GCM
//! (NIST SP 800-38D) with a random nonce of 96 bits, anew at each change. A key may seal 2^32 times with random nonces (section 8.3
//! there): that limit is now one on changes of a single row, which nobody reaches, and not on all changes under a master key.
//!
//! The associated data is all that the row says in the clear, each field with its length before it. So a policy, a state or a target
//! cannot be changed, and nothing can be moved from one row to another, by who has not the master key.
//!
//! That alone would let an old row be put back, or a row be taken away. So the database also keeps a sealed sum over all rows: each
//! counts with a pseudorandom value of its name and its sealed bytes, and the sum is brought up to date with each change in constant
//! time. The values are never written anywhere, so that nobody can look for other rows of the same sum.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use kms_protocol::mac::hmac_sha_256;
use rand_core::TryRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::StoreError;
use super::master_key::MasterKey;
use crate::key::RandomnessError;

/// Bytes of a nonce of AES-GCM.
const NONCE_LEN: usize = 12;
/// Bytes of the name of a database.
pub(super) const DATABASE_ID_LEN: usize = 16;
/// Bytes of the value by which a master key is recognised.
pub(super) const KEY_CHECK_LEN: usize = 32;
/// What all our derivations begin with.
const CONTEXT: &[u8] = b"enclave kms store 1";

/// A table and one of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) table: &'static str,
    pub(super) name: &'a str,
}

/// What a row says in the clear, in a form that no two rows share.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// Adds a field.
    pub(super) fn with(mut self, field: &[u8]) -> Self {
        // A field of more than u32::MAX bytes never gets here: SQLite's limit is set far below.
        self.0.extend(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.extend(field);
        self
    }

    /// Adds a number, or that there is none.
    pub(super) fn with_number(self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.with(&number.to_be_bytes()),
            None => self.with(&[]),
        }
    }
}

/// Seals and opens rows of one database under one master key.
#[derive(Debug)]
pub(super) struct Sealer {
    master: MasterKey,
    database: [u8; DATABASE_ID_LEN],
}

impl Sealer {
    pub(super) fn new(master: MasterKey, database: [u8; DATABASE_ID_LEN]) -> Self {
        Self { master, database }
    }

    /// The database's name.
    pub(super) const fn database(&self) -> [u8; DATABASE_ID_LEN] {
        self.database
    }

    /// The master key.
    pub(super) fn master(&self) -> MasterKey {
        self.master.clone()
    }

    /// Says whether a master key is the one of this database, and nothing else of it.
    pub(super) fn key_check(&self) -> Zeroizing<[u8; KEY_CHECK_LEN]> {
        self.derive("key check", Row { table: "", name: "" })
    }

    /// Whether `stored` is this master key's check value; takes the same time whatever it is.
    pub(super) fn is_key_check(&self, stored: &[u8]) -> bool {
        self.key_check().ct_eq(stored).into()
    }

    /// Nonce, ciphertext and tag of `secret`, bound to `row` and what it says.
    pub(super) fn seal(&self, row: Row<'_>, fields: &Fields, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::SysRng.try_fill_bytes(&mut nonce).map_err(|_| RandomnessError)?;
        let mut sealed = nonce.to_vec();
        let payload = Payload { msg: secret, aad: &fields.0 };
        // The cipher refuses only what is longer than 64 GiB.
        let ciphertext = self
            .cipher(row)
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| StoreError::TooLong { what: "a secret", limit: u32::MAX as usize })?;
        sealed.extend(ciphertext);
        Ok(sealed)
    }

    /// What was sealed, if it is this row's and the row says what it said.
    pub(super) fn open(&self, row: Row<'_>, fields: &Fields, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let payload = Payload { msg: ciphertext, aad: &fields.0 };
        self.cipher(row).decrypt(&Nonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// What a row counts in the sum over all rows.
    pub(super) fn count(&self, row: Row<'_>, sealed: &[u8]) -> Sum {
        let code = Zeroizing::new(hmac_sha_256(&*self.derive("sum", row), sealed));
        Sum::from_bytes(&*code)
    }

    fn cipher(&self, row: Row<'_>) -> Aes256Gcm {
        let key = self.derive("row", row);
        Aes256Gcm::new((&*key).into())
    }

    fn derive(&self, purpose: &str, row: Row<'_>) -> Zeroizing<[u8; 32]> {
        let info = Fields::default()
            .with(CONTEXT)
            .with(&self.database)
            .with(purpose.as_bytes())
            .with(row.table.as_bytes())
            .with(row.name.as_bytes());
        expand(self.master.as_bytes(), &info.0)
    }
}

/// HKDF-Expand of one block: RFC 5869, section 2.3.
fn expand(key: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hmac_sha_256(key, &[info, &[1]].concat()))
}

/// A sum over rows, in which their order does not count.
#[derive(Debug, Default, Clone, PartialEq, Eq, zeroize::ZeroizeOnDrop)]
pub(super) struct Sum([u64; 4]);

impl Sum {
    /// Bytes of [`Self::to_bytes`].
    pub(super) const LEN: usize = 32;

    /// With a row added.
    pub(super) fn add(&mut self, row: &Self) {
        for (sum, part) in self.0.iter_mut().zip(row.0) {
            *sum = sum.wrapping_add(part);
        }
    }

    /// With a row taken away.
    pub(super) fn subtract(&mut self, row: &Self) {
        for (sum, part) in self.0.iter_mut().zip(row.0) {
            *sum = sum.wrapping_sub(part);
        }
    }

    /// For sealing.
    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        for (chunk, part) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// What [`Self::to_bytes`] gave; bytes behind that do not count.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        for (part, chunk) in sum.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *part = u64::from_be_bytes(*chunk);
        }
        sum
    }
}

#[cfg(test)]
mod tests;
