//! What a key is: its metadata and its material.
//!
//! Names and values are those of AWS KMS (API reference, data type `KeyMetadata`).

use core::fmt;
use core::str::FromStr;
use std::time::SystemTime;

use rand_core::TryCryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::curve::Curve;

/// Bytes of an AES-256 key: the material of [`KeySpec::SymmetricDefault`].
pub const SYMMETRIC_LEN: usize = 32;

/// The name of one key: a random UUID in lower-case text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Uuid);

/// A text that is not the id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key id is a UUID in lower-case text, such as 1234abcd-12ab-34cd-56ef-1234567890ab")]
pub struct ParseKeyIdError;

/// The random number generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no randomness: the random number generator failed")]
pub struct RandomnessError;

impl KeyId {
    /// Bytes of [`Self::as_bytes`].
    pub const LEN: usize = 16;

    /// Makes a new id from `rng`.
    ///
    /// # Errors
    /// [`RandomnessError`] if the generator fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, RandomnessError> {
        let mut bytes = [0; Self::LEN];
        rng.try_fill_bytes(&mut bytes).map_err(|_| RandomnessError)?;
        Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// The id that these bytes stand for: what [`Self::as_bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id in 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        self.0.as_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The crate also reads braces, URNs and capitals: one key has one name here.
        let id = Self(Uuid::try_parse(text).map_err(|_| ParseKeyIdError)?);
        if id.to_string() == text { Ok(id) } else { Err(ParseKeyIdError) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = ParseKeyIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyUsage {
    /// Encrypt, Decrypt, ReEncrypt and data keys.
    EncryptDecrypt,
    /// DeriveSharedSecret.
    KeyAgreement,
}

/// What kind of material a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeySpec {
    /// AES-256-GCM.
    SymmetricDefault,
    /// A private key on P-256.
    #[serde(rename = "ECC_NIST_P256")]
    EccNistP256,
    /// A private key on P-384.
    #[serde(rename = "ECC_NIST_P384")]
    EccNistP384,
    /// A private key on P-521.
    #[serde(rename = "ECC_NIST_P521")]
    EccNistP521,
}

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// It may.
    Enabled,
    /// Not until it is enabled again.
    Disabled,
    /// Not any more: it is destroyed when its time comes, unless that is called off.
    PendingDeletion {
        /// When; whole seconds.
        at: SystemTime,
    },
}

/// All that is known of a key but its policy and its material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMetadata {
    /// Its name.
    pub id: KeyId,
    /// When it was made; whole seconds.
    pub created: SystemTime,
    /// What its owner says of it.
    pub description: String,
    /// What it is for.
    pub usage: KeyUsage,
    /// What kind of material it has.
    pub spec: KeySpec,
    /// Whether it may be used.
    pub state: KeyState,
}

impl KeySpec {
    /// The name on the wire.
    #[must_use]
    pub const fn aws_name(self) -> &'static str {
        match self {
            Self::SymmetricDefault => "SYMMETRIC_DEFAULT",
            Self::EccNistP256 => "ECC_NIST_P256",
            Self::EccNistP384 => "ECC_NIST_P384",
            Self::EccNistP521 => "ECC_NIST_P521",
        }
    }

    /// The kind of this name; `None` for those of AWS that are not here, and for any other text.
    #[must_use]
    pub fn from_aws_name(name: &str) -> Option<Self> {
        let all = [Self::SymmetricDefault, Self::EccNistP256, Self::EccNistP384, Self::EccNistP521];
        all.into_iter().find(|spec| spec.aws_name() == name)
    }

    /// The curve of the key, if it is on one.
    pub(crate) const fn curve(self) -> Option<Curve> {
        match self {
            Self::SymmetricDefault => None,
            Self::EccNistP256 => Some(Curve::P256),
            Self::EccNistP384 => Some(Curve::P384),
            Self::EccNistP521 => Some(Curve::P521),
        }
    }
}

impl KeyUsage {
    /// The name on the wire.
    #[must_use]
    pub const fn aws_name(self) -> &'static str {
        match self {
            Self::EncryptDecrypt => "ENCRYPT_DECRYPT",
            Self::KeyAgreement => "KEY_AGREEMENT",
        }
    }

    /// The use of this name; `None` for those of AWS that are not here, and for any other text.
    #[must_use]
    pub fn from_aws_name(name: &str) -> Option<Self> {
        [Self::EncryptDecrypt, Self::KeyAgreement].into_iter().find(|usage| usage.aws_name() == name)
    }
}

impl KeyState {
    /// The name on the wire.
    #[must_use]
    pub const fn aws_name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion { .. } => "PendingDeletion",
        }
    }
}

/// Makes the material of a new key: the 32 bytes of an AES key, or the private scalar of a curve, big-endian and in the curve's full
/// width (32, 48 or 66 bytes).
///
/// # Errors
/// [`RandomnessError`] if the generator fails.
pub fn generate_material<R: TryCryptoRng + ?Sized>(
    spec: KeySpec,
    rng: &mut R,
) -> Result<Zeroizing<Vec<u8>>, RandomnessError> {
    match spec.curve() {
        Some(curve) => curve.generate(rng),
        None => random_bytes(SYMMETRIC_LEN, rng),
    }
}

/// So many random bytes.
///
/// # Errors
/// [`RandomnessError`] if the generator fails.
pub fn random_bytes<R: TryCryptoRng + ?Sized>(
    length: usize,
    rng: &mut R,
) -> Result<Zeroizing<Vec<u8>>, RandomnessError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    rng.try_fill_bytes(&mut bytes).map_err(|_| RandomnessError)?;
    Ok(bytes)
}
