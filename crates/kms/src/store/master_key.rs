//! The master key, under which everything in the database is sealed, and the places where it is kept.
//!
//! - A file of the service's user with mode 0600: 32 bytes in hexadecimal and a newline. `openssl rand -hex 32` makes one.
//! - A systemd credential of the same content: systemd decrypts it, by the host's TPM if it has one, for the service alone
//!   (`systemd-creds encrypt`, `LoadCredentialEncrypted=`).
//! - A token that speaks PKCS#11: the master key lies wrapped beside the database, and only the token's key, which never leaves it,
//!   unwraps it: see [`token`](super::token).
//!
//! A place has room for a second key with `.next` behind its name, which is there while the master key is rotated: see
//! [`rotate`](super::rotate).

use core::fmt;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rand_core::TryRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::private_file::{self, FileError};
use super::token::{Token, TokenError};
use crate::key::RandomnessError;

/// Behind the name of a key that is to take another's place.
pub(super) const NEXT: &str = ".next";
/// Behind the name of a key whose place another has taken.
pub(super) const OLD: &str = ".old";
/// The variable in which systemd names the folder of a service's credentials: systemd.exec(5).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// 64 digits, a newline, and one byte that shows that there is more.
const MAX_TEXT_LEN: usize = 2 * MasterKey::LEN + 2;

/// 32 random bytes, wiped when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; MasterKey::LEN]>);

impl MasterKey {
    /// Bytes of a master key.
    pub const LEN: usize = 32;

    /// Makes a new one.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut key = Self(Zeroizing::new([0; Self::LEN]));
        getrandom::SysRng.try_fill_bytes(key.0.as_mut()).map_err(|_| RandomnessError)?;
        Ok(key)
    }

    /// The key of these bytes, which must be random.
    #[must_use]
    pub const fn from_bytes(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Reads 64 hexadecimal digits and nothing else but one newline behind them.
    fn from_text(text: &[u8]) -> Option<Self> {
        let digits = text.strip_suffix(b"\n").unwrap_or(text);
        let mut key = Self(Zeroizing::new([0; Self::LEN]));
        hex::decode_to_slice(digits, key.0.as_mut()).ok()?;
        Some(key)
    }

    fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(vec![0; 2 * Self::LEN]);
        // Cannot fail: the buffer has just that length.
        let _ = hex::encode_to_slice(self.as_bytes(), &mut text);
        // As long as it will ever be, before the secret is in it: growing would leave a copy.
        let mut line = Zeroizing::new(Vec::with_capacity(2 * Self::LEN + 1));
        line.extend_from_slice(&text);
        line.push(b'\n');
        line
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Why there is no master key. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    /// The file could not be used, or is not private.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file says something else.
    #[error(
        "{} holds no master key: that is 64 hexadecimal digits; `openssl rand -hex 32` makes one for a new database",
        .0.display()
    )]
    Malformed(PathBuf),
    /// The name of a credential would lead elsewhere.
    #[error("`{0}` cannot be the name of a credential; use letters, digits, `-`, `_` and `.`")]
    CredentialName(String),
    /// Not a service of systemd's, or one without credentials.
    #[error(
        "there are no credentials: systemd set no {CREDENTIALS_DIRECTORY}; start this as a service with \
         LoadCredentialEncrypted="
    )]
    NoCredentials,
    /// Only systemd makes credentials.
    #[error(
        "the credential `{0}` is made outside of the service; pipe `openssl rand -hex 32` into `systemd-creds encrypt`"
    )]
    MakeCredential(String),
    /// The token, or the program that speaks to it.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The random number generator failed.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// Where a master key is kept. Its form in the configuration: `{ file = "PATH" }`, `{ credential = "NAME" }` or `{ token = { .. } }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterKeySource {
    /// A private file.
    File(PathBuf),
    /// A credential of systemd's.
    Credential(String),
    /// Wrapped by a key in a token.
    Token(Token),
}

/// The key in its place, and the one that is to take it while a rotation is under way.
#[derive(Debug)]
pub struct MasterKeys {
    /// The key in its place.
    pub current: MasterKey,
    /// The one with `.next` behind its name, if there is one.
    pub next: Option<MasterKey>,
}

impl MasterKeySource {
    /// The same source with its relative paths in `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Credential(name) => Self::Credential(name),
            Self::Token(token) => Self::Token(token.within(folder)),
        }
    }

    /// Makes a new master key and puts it there, on the disk.
    ///
    /// # Errors
    /// If there is one already, or the place takes none: a credential is made outside of the service.
    pub fn generate(&self) -> Result<MasterKey, MasterKeyError> {
        if let Self::Token(token) = self {
            token.make_key()?;
        }
        let key = MasterKey::generate()?;
        self.write(&key, "")?;
        Ok(key)
    }

    /// Reads the key.
    ///
    /// # Errors
    /// If there is none, or not one that is private and well-formed.
    pub fn load(&self) -> Result<MasterKey, MasterKeyError> {
        self.read("")
    }

    /// Reads the key and the one that is to take its place.
    ///
    /// # Errors
    /// As [`Self::load`]; that there is no next key is no error.
    pub fn load_all(&self) -> Result<MasterKeys, MasterKeyError> {
        let next = match self.read(NEXT) {
            Ok(key) => Some(key),
            Err(MasterKeyError::File(error)) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(MasterKeys { current: self.load()?, next })
    }

    /// Makes the next key and puts it beside the current one.
    pub(super) fn make_next(&self) -> Result<MasterKey, MasterKeyError> {
        // A credential for the next key comes from outside, as the current one did.
        if let Self::Credential(_) = self {
            return self.read(NEXT);
        }
        let key = MasterKey::generate()?;
        self.forget_next()?;
        self.write(&key, NEXT)?;
        Ok(key)
    }

    /// Removes the next key, to which the database was never brought.
    pub(super) fn forget_next(&self) -> Result<(), MasterKeyError> {
        match self.place() {
            Some(path) => Ok(private_file::remove(&private_file::beside(path, NEXT))?),
            None => Ok(()),
        }
    }

    /// Puts the next key into its place. The key that was there stays, with `.old` behind its name: backups need it.
    pub(super) fn adopt_next(&self) -> Result<(), MasterKeyError> {
        let Some(path) = self.place() else { return Ok(()) };
        let next = private_file::beside(path, NEXT);
        let old = private_file::beside(path, OLD);
        // A second link before the first goes: at no moment is there no key.
        private_file::remove(&old)?;
        std::fs::hard_link(path, &old).map_err(|error| FileError::io("keep as", &old, error))?;
        Ok(private_file::rename(&next, path)?)
    }

    /// Where the key that was there before the last rotation is; `None` for a credential, whose old one is not ours to keep.
    #[must_use]
    pub fn old(&self) -> Option<PathBuf> {
        self.place().map(|path| private_file::beside(path, OLD))
    }

    /// The file that we write, if it is one.
    fn place(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Credential(_) => None,
            Self::Token(token) => Some(token.wrapped()),
        }
    }

    fn read(&self, suffix: &str) -> Result<MasterKey, MasterKeyError> {
        let (path, text) = match self {
            Self::File(path) => {
                let path = private_file::beside(path, suffix);
                let text = private_file::read(&path, MAX_TEXT_LEN)?;
                (path, text)
            }
            Self::Credential(name) => read_credential(name, suffix, MAX_TEXT_LEN)?,
            Self::Token(token) => {
                let wrapped = private_file::read(
                    &private_file::beside(token.wrapped(), suffix),
                    super::token::MAX_WRAPPED_LEN,
                )?;
                return Ok(token.unwrap_key(&wrapped)?);
            }
        };
        MasterKey::from_text(&text).ok_or(MasterKeyError::Malformed(path))
    }

    fn write(&self, key: &MasterKey, suffix: &str) -> Result<(), MasterKeyError> {
        match self {
            Self::File(path) => {
                private_file::write_new(&private_file::beside(path, suffix), &key.to_text())?;
            }
            Self::Credential(name) => return Err(MasterKeyError::MakeCredential(name.clone())),
            Self::Token(token) => {
                let wrapped = token.wrap_key(key)?;
                private_file::write_new(&private_file::beside(token.wrapped(), suffix), &wrapped)?;
            }
        }
        Ok(())
    }
}

/// A credential's file and content.
pub(super) fn read_credential(
    name: &str,
    suffix: &str,
    limit: usize,
) -> Result<(PathBuf, Zeroizing<Vec<u8>>), MasterKeyError> {
    let path = credential(name, suffix, env::var_os(CREDENTIALS_DIRECTORY))?;
    // systemd answers for its mode and owner: root's, or the service's, by version and settings.
    let file = std::fs::File::open(&path).map_err(|error| FileError::io("open", &path, error))?;
    let text = private_file::read_open(file, &path, limit)?;
    Ok((path, text))
}

/// The file of a credential: systemd.exec(5), "Credentials".
fn credential(name: &str, suffix: &str, folder: Option<OsString>) -> Result<PathBuf, MasterKeyError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(MasterKeyError::CredentialName(name.to_owned()));
    }
    let folder = folder.filter(|folder| !folder.is_empty()).ok_or(MasterKeyError::NoCredentials)?;
    Ok(PathBuf::from(folder).join(format!("{name}{suffix}")))
}

#[cfg(test)]
mod tests;
