//! The ciphertext of a symmetric key: our own format, version 1.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `EKC1` |
//! | 16 | the key's id |
//! | 32 | salt, random |
//! | n | AES-256-GCM ciphertext, as long as the plaintext |
//! | 16 | its tag |
//!
//! Key and nonce of each message are derived from the key's material and the salt (HKDF-SHA-256, RFC 5869), so that one key can encrypt
//! any number of messages: random nonces under one AES-GCM key end at 2^32 (NIST SP 800-38D, section 8.3). Associated data are the
//! first 52 bytes and the encryption context: its pairs ordered by the bytes of their names, each text preceded by its length in 32 bits.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use rand_core::TryCryptoRng;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::wire::Context;
use crate::key::{KeyId, SYMMETRIC_LEN};

/// The format and its version.
const MAGIC: [u8; 4] = *b"EKC1";
const SALT_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + KeyId::LEN + SALT_LEN;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// Bytes that a ciphertext has more than its plaintext.
pub(super) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// What tells these derived keys from any other of the same material.
const PURPOSE: &[u8] = b"enclave kms: ciphertext, version 1";

/// Nothing could be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum SealError {
    #[error("no randomness: the random number generator failed")]
    Randomness,
    #[error("the key's material is not that of a symmetric key")]
    Material,
    #[error("too long to encrypt")]
    TooLong,
}

/// A ciphertext taken apart, and nothing of it believed.
pub(super) struct Ciphertext<'a> {
    key: KeyId,
    header: &'a [u8; HEADER_LEN],
    sealed: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Ciphertext<'a> {
    /// `None` if it is not one of ours.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        let id = header.strip_prefix(&MAGIC)?.first_chunk()?;
        Some(Self { key: KeyId::from_bytes(*id), header, sealed, tag })
    }

    /// The key that it says it was made with.
    pub(super) fn key(&self) -> &KeyId {
        &self.key
    }

    /// The plaintext. `None` if anything is not as it was when it was made: the key, the context, a byte of the ciphertext.
    pub(super) fn open(&self, material: &[u8], context: &Context) -> Option<Zeroizing<Vec<u8>>> {
        let message = Message::derive(material, self.header)?;
        let mut plaintext = Zeroizing::new(self.sealed.to_vec());
        let associated = associated_data(self.header, context)?;
        let tag = Tag::from(*self.tag);
        message
            .cipher
            .decrypt_inout_detached(&message.nonce, &associated, plaintext.as_mut_slice().into(), &tag)
            .ok()?;
        Some(plaintext)
    }
}

/// Encrypts `plaintext` under the material of `key`.
pub(super) fn seal<R: TryCryptoRng + ?Sized>(
    key: &KeyId,
    material: &[u8],
    context: &Context,
    plaintext: &[u8],
    rng: &mut R,
) -> Result<Vec<u8>, SealError> {
    let mut header = [0; HEADER_LEN];
    let mut salt = [0; SALT_LEN];
    rng.try_fill_bytes(&mut salt).map_err(|_| SealError::Randomness)?;
    let parts = MAGIC.iter().chain(key.as_bytes()).chain(&salt);
    header.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);

    let message = Message::derive(material, &header).ok_or(SealError::Material)?;
    let associated = associated_data(&header, context).ok_or(SealError::TooLong)?;
    let mut bytes = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD));
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(plaintext);
    let (_, body) = bytes.split_at_mut(HEADER_LEN);
    let tag = message
        .cipher
        .encrypt_inout_detached(&message.nonce, &associated, body.into())
        .map_err(|_| SealError::TooLong)?;
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// The key and the nonce of one message.
struct Message {
    cipher: Aes256Gcm,
    nonce: Nonce<aes_gcm::aead::consts::U12>,
}

impl Message {
    fn derive(material: &[u8], header: &[u8; HEADER_LEN]) -> Option<Self> {
        let material: &[u8; SYMMETRIC_LEN] = material.try_into().ok()?;
        let salt = header.last_chunk::<SALT_LEN>()?;
        let mut derived = Zeroizing::new([0; SYMMETRIC_LEN + NONCE_LEN]);
        Hkdf::<Sha256>::new(Some(salt), material).expand(PURPOSE, derived.as_mut_slice()).ok()?;
        let (key, nonce) = derived.split_first_chunk::<SYMMETRIC_LEN>()?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        Some(Self { cipher: Aes256Gcm::new(key.into()), nonce: nonce.into() })
    }
}

fn associated_data(header: &[u8; HEADER_LEN], context: &Context) -> Option<Vec<u8>> {
    let mut bytes = header.to_vec();
    for (name, value) in context.pairs() {
        for text in [name, value] {
            bytes.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    Some(bytes)
}
