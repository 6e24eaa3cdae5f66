//! COSE_Sign1 as the security module uses it: untagged, ES384, nothing in the unprotected header.
//!
//! Specification: RFC 9052 section 4.2; AWS's documents begin `84 44 a1013822 a0`. Writing gives exactly that
//! form, reading also takes tag 18 and other legal encodings of the same content.

use coset::iana::Algorithm;
use coset::{CborSerializable, CoseSign1, RegisteredLabelWithPrivate, TaggedCborSerializable};
use ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::Signature;
use thiserror::Error;

use crate::cbor::Writer;
use crate::key::{PrivateKey, PublicKey};

/// Longest signed document, in bytes, that is looked at. The NSM's responses end at 0x3000.
pub const MAX_SIGNED_LEN: usize = 0x4000;
/// Bytes of an ES384 signature: r and s, 48 bytes each.
const SIGNATURE_LEN: usize = 96;
/// The protected header `{1: -35}`: the algorithm is ES384.
const PROTECTED_HEADER: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// Array head, protected header, empty map and the signature with their heads; the payload's head is 3 or 5.
const ENVELOPE_LEN: usize = 1 + 5 + 1 + 5 + 2 + SIGNATURE_LEN;
/// Context string of RFC 9052 section 4.4.
const CONTEXT: &str = "Signature1";
/// First byte of CBOR tag 18, COSE_Sign1.
const TAG_18: u8 = 0xd2;

/// Why bytes are not a signed document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CoseError {
    /// Longer than any document is.
    #[error("longer than {MAX_SIGNED_LEN} bytes")]
    TooLong,
    /// Not a COSE_Sign1 structure.
    #[error("not a COSE_Sign1 structure (an array of four, tag 18 optional)")]
    Malformed,
    /// The protected header says something else than ES384.
    #[error("the protected header is not exactly {{1: -35}} (ES384)")]
    Algorithm,
    /// The unprotected header holds something.
    #[error("the unprotected header is not empty")]
    UnprotectedHeader,
    /// There is no payload.
    #[error("the payload is missing")]
    NoPayload,
    /// The signature has the wrong length or is no pair of P-384 scalars.
    #[error("the signature is not a pair of P-384 scalars of 48 bytes each")]
    SignatureFormat,
}

/// Signs `payload`. `None` only if the key cannot sign, which is not known to happen.
#[must_use]
pub fn sign(payload: &[u8], key: &PrivateKey) -> Option<Vec<u8>> {
    let signature: Signature = key.signer().try_sign(&signed_bytes(&PROTECTED_HEADER, payload)).ok()?;
    let mut envelope = Writer::with_capacity(payload.len().saturating_add(ENVELOPE_LEN));
    envelope.array(4).bytes(&PROTECTED_HEADER).map(0).bytes(payload).bytes(&signature.to_bytes());
    Some(envelope.finish())
}

/// A COSE_Sign1 structure whose form has been checked, and whose signature has not.
#[derive(Debug, Clone)]
pub struct SignedPayload {
    protected_header: Vec<u8>,
    payload: Vec<u8>,
    signature: Signature,
}

impl SignedPayload {
    /// Reads the structure, tagged or not.
    ///
    /// # Errors
    /// [`CoseError`] says what is wrong with its form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_SIGNED_LEN {
            return Err(CoseError::TooLong);
        }
        let parsed = if bytes.first() == Some(&TAG_18) {
            CoseSign1::from_tagged_slice(bytes)
        } else {
            CoseSign1::from_slice(bytes)
        };
        let CoseSign1 { protected, unprotected, payload, signature } =
            parsed.map_err(|_| CoseError::Malformed)?;
        let expected = coset::HeaderBuilder::new().algorithm(Algorithm::ES384).build();
        if protected.header != expected
            || protected.header.alg != Some(RegisteredLabelWithPrivate::Assigned(Algorithm::ES384))
        {
            return Err(CoseError::Algorithm);
        }
        if !unprotected.is_empty() {
            return Err(CoseError::UnprotectedHeader);
        }
        Ok(Self {
            protected_header: protected.original_data.ok_or(CoseError::Malformed)?,
            payload: payload.ok_or(CoseError::NoPayload)?,
            signature: Signature::from_slice(&signature).map_err(|_| CoseError::SignatureFormat)?,
        })
    }

    /// What was signed, if it was: see [`Self::is_signed_with`].
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// True if the signature over the payload was made with the private half of `key`.
    #[must_use]
    pub fn is_signed_with(&self, key: &PublicKey) -> bool {
        key.verify(&signed_bytes(&self.protected_header, &self.payload), &self.signature).is_ok()
    }
}

/// The Sig_structure of RFC 9052 section 4.4, with no external data.
fn signed_bytes(protected_header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(payload.len().saturating_add(32));
    writer.array(4).text(CONTEXT).bytes(protected_header).bytes(&[]).bytes(payload);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;

    fn key() -> PrivateKey {
        PrivateKey::generate(&mut SysRng).unwrap()
    }

    #[test]
    fn the_envelope_has_the_bytes_of_real_documents() {
        let signed = sign(&[0x55; 300], &key()).unwrap();
        assert_eq!(hex::encode(&signed[..10]), "8444a1013822a059012c");
        assert_eq!(hex::encode(&signed[310..312]), "5860");
        assert_eq!(signed.len(), 312 + 96);
    }

    #[test]
    fn the_signed_bytes_are_the_sig_structure() {
        assert_eq!(
            hex::encode(signed_bytes(&PROTECTED_HEADER, &[1, 2, 3])),
            "846a5369676e61747572653144a10138224043010203"
        );
    }

    #[test]
    fn tagged_and_untagged_are_read_alike() {
        let key = key();
        let untagged = sign(b"payload", &key).unwrap();
        let tagged = [&[TAG_18][..], &untagged].concat();
        for bytes in [untagged, tagged] {
            let read = SignedPayload::from_bytes(&bytes).unwrap();
            assert_eq!(read.payload(), b"payload");
            assert!(read.is_signed_with(key.public_key()));
            assert!(!read.is_signed_with(self::key().public_key()));
        }
    }

    #[test]
    fn each_wrong_part_is_told_apart() {
        let payload = b"p";
        let signature = [1; 96];
        let with = |protected: &[u8], unprotected: &[u8], payload: Option<&[u8]>, signature: &[u8]| {
            let mut head = Writer::new();
            head.array(4).bytes(protected);
            let mut tail = Writer::new();
            tail.optional_bytes(payload).bytes(signature);
            let bytes = [head.finish(), unprotected.to_vec(), tail.finish()].concat();
            SignedPayload::from_bytes(&bytes).map(|_| ()).unwrap_err()
        };
        let good = &PROTECTED_HEADER[..];
        // ES256, no header at all, ES384 with a content type beside it.
        for header in [&[0xa1, 0x01, 0x26][..], &[], &[0xa2, 0x01, 0x38, 0x22, 0x03, 0x00]] {
            assert_eq!(with(header, &[0xa0], Some(payload), &signature), CoseError::Algorithm);
        }
        let key_id = [0xa1, 0x04, 0x41, 0x00];
        assert_eq!(with(good, &key_id, Some(payload), &signature), CoseError::UnprotectedHeader);
        assert_eq!(with(good, &[0xa0], None, &signature), CoseError::NoPayload);
        for signature in [&[1; 95][..], &[1; 97], &[0; 96], &[0xff; 96]] {
            assert_eq!(with(good, &[0xa0], Some(payload), signature), CoseError::SignatureFormat);
        }
    }

    #[test]
    fn other_shapes_are_malformed() {
        let signed = sign(b"payload", &key()).unwrap();
        let with_tail = [&signed[..], &[0]].concat();
        let other_tag = [&[0xd1][..], &signed].concat();
        for bytes in [&[][..], &[0x80], &[0x83], &signed[..signed.len() - 1], &with_tail, &other_tag] {
            assert_eq!(SignedPayload::from_bytes(bytes).unwrap_err(), CoseError::Malformed);
        }
        assert_eq!(SignedPayload::from_bytes(&vec![0; MAX_SIGNED_LEN + 1]).unwrap_err(), CoseError::TooLong);
        assert_eq!(SignedPayload::from_bytes(&[0; MAX_SIGNED_LEN]).unwrap_err(), CoseError::Malformed);
    }
}
