//! The public key for which an envelope is sealed.

use core::fmt;

use rsa::{BoxedUint, RsaPublicKey, pkcs1};
use sha2::{Digest, Sha256};
use spki::der::Decode;
use spki::der::asn1::UintRef;

use super::RecipientKeyError;

/// The smallest modulus: clients of the NSM make keys of 2048 bits and more.
pub const MIN_MODULUS_BITS: usize = 2048;
/// The largest modulus: the largest that AWS's SDK for enclaves makes.
pub const MAX_MODULUS_BITS: usize = 4096;
/// Bytes of a SubjectPublicKeyInfo that is looked at: one of 4096 bits has 550.
pub const MAX_SPKI: usize = 1024;
/// The smallest exponent (FIPS 186-5, section A.1.1), which is also the one that all clients use.
const MIN_EXPONENT: u64 = 65537;
/// The largest exponent that crate rsa calculates with: what is larger only costs time.
const MAX_EXPONENT: u64 = RsaPublicKey::MAX_PUB_EXPONENT;

/// An RSA public key that envelopes may be sealed for.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey {
    key: RsaPublicKey,
    identifier: [u8; 32],
}

impl RecipientKey {
    /// Reads a SubjectPublicKeyInfo in DER: what enclaves put into `public_key` of their attestation documents.
    ///
    /// # Errors
    /// [`RecipientKeyError`] says what is wrong with the key.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, RecipientKeyError> {
        if der.len() > MAX_SPKI {
            return Err(RecipientKeyError::Modulus);
        }
        let info = spki::SubjectPublicKeyInfoRef::from_der(der).map_err(|_| RecipientKeyError::Encoding)?;
        if info.algorithm.oid != pkcs1::ALGORITHM_OID {
            return Err(RecipientKeyError::Algorithm);
        }
        let null = info.algorithm.parameters.is_some_and(|parameters| parameters.is_null());
        let numbers =
            info.subject_public_key.as_bytes().filter(|_| null).ok_or(RecipientKeyError::Encoding)?;
        let numbers = pkcs1::RsaPublicKeyRef::from_der(numbers).map_err(|_| RecipientKeyError::Encoding)?;
        Ok(Self { key: read_numbers(&numbers)?, identifier: Sha256::digest(der).into() })
    }

    /// What names the key in an envelope: the SHA-256 of its SubjectPublicKeyInfo, as AWS KMS has it.
    pub(super) const fn identifier(&self) -> &[u8; 32] {
        &self.identifier
    }

    pub(super) const fn rsa(&self) -> &RsaPublicKey {
        &self.key
    }
}

fn read_numbers(numbers: &pkcs1::RsaPublicKeyRef<'_>) -> Result<RsaPublicKey, RecipientKeyError> {
    let modulus = read_number(&numbers.modulus).ok_or(RecipientKeyError::Numbers)?;
    let bits = usize::try_from(modulus.bits_vartime()).unwrap_or(usize::MAX);
    if !(MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits) {
        return Err(RecipientKeyError::Modulus);
    }
    let exponent = numbers.public_exponent.as_bytes().iter().try_fold(0_u64, |exponent, byte| {
        exponent.checked_mul(256)?.checked_add(u64::from(*byte)) // None: more than 64 bits
    });
    let exponent =
        exponent.filter(|exponent| exponent & 1 == 1 && (MIN_EXPONENT..=MAX_EXPONENT).contains(exponent));
    let exponent = BoxedUint::from(exponent.ok_or(RecipientKeyError::Exponent)?);
    RsaPublicKey::new_with_size_limits(modulus, exponent, MIN_MODULUS_BITS..=MAX_MODULUS_BITS)
        .map_err(|_| RecipientKeyError::Numbers)
}

fn read_number(number: &UintRef<'_>) -> Option<BoxedUint> {
    let bytes = number.as_bytes();
    let bits = u32::try_from(bytes.len()).ok()?.checked_mul(8)?;
    BoxedUint::from_be_slice(bytes, bits).ok()
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = hex::encode(self.identifier);
        formatter.debug_struct("RecipientKey").field("identifier", &identifier).finish_non_exhaustive()
    }
}
