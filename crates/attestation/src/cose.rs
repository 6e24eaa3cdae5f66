//! COSE_Sign1 as the security module uses it: untagged, ES384, nothing in the unprotected header.
//!
//! Specification: RFC 9052 section 4.2; AWS's documents begin `84 44 a1013822 a0`. Writing gives exactly that
//! form. Reading also takes tag 18 and lengths in other legal encodings; the protected header is always these four bytes.

use ciborium::Value;
use ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::Signature;
use thiserror::Error;

use crate::cbor::{Writer, read_exactly_one};
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
/// The CBOR tag of COSE_Sign1.
const TAG: u64 = 18;

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
    let signature: Signature = key.signer().try_sign(&signed_bytes(payload)).ok()?;
    let mut envelope = Writer::with_capacity(payload.len().saturating_add(ENVELOPE_LEN));
    envelope.array(4).bytes(&PROTECTED_HEADER).map(0).bytes(payload).bytes(&signature.to_bytes());
    Some(envelope.finish())
}

/// A COSE_Sign1 structure whose form has been checked, and whose signature has not.
#[derive(Debug, Clone)]
pub struct SignedPayload {
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
        let parts = match read_exactly_one(bytes) {
            Some(Value::Tag(TAG, untagged)) => untagged.into_array().ok(),
            Some(untagged) => untagged.into_array().ok(),
            None => None,
        };
        let parts = parts.and_then(|parts| <[Value; 4]>::try_from(parts).ok());
        let Some([Value::Bytes(protected), Value::Map(unprotected), payload, Value::Bytes(signature)]) =
            parts
        else {
            return Err(CoseError::Malformed);
        };
        if protected != PROTECTED_HEADER {
            return Err(CoseError::Algorithm);
        }
        if !unprotected.is_empty() {
            return Err(CoseError::UnprotectedHeader);
        }
        let payload = match payload {
            Value::Bytes(payload) => payload,
            Value::Null => return Err(CoseError::NoPayload),
            _ => return Err(CoseError::Malformed),
        };
        let signature = Signature::from_slice(&signature).map_err(|_| CoseError::SignatureFormat)?;
        Ok(Self { payload, signature })
    }

    /// What was signed, if it was: see [`Self::is_signed_with`].
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// True if the signature over the payload was made with the private half of `key`.
    #[must_use]
    pub fn is_signed_with(&self, key: &PublicKey) -> bool {
        key.verify(&signed_bytes(&self.payload), &self.signature).is_ok()
    }
}

/// The Sig_structure of RFC 9052 section 4.4, with no external data.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(payload.len().saturating_add(32));
    writer.array(4).text(CONTEXT).bytes(&PROTECTED_HEADER).bytes(&[]).bytes(payload);
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
        assert_eq!(hex::encode(signed_bytes(&[1, 2, 3])), "846a5369676e61747572653144a10138224043010203");
    }

    #[test]
    fn tagged_and_untagged_are_read_alike() {
        let key = key();
        let untagged = sign(b"payload", &key).unwrap();
        let tagged = [&[0xd2][..], &untagged].concat();
        // The tag's number in a byte of its own.
        let tagged_longer = [&[0xd8, 18][..], &untagged].concat();
        for bytes in [untagged, tagged, tagged_longer] {
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
        for header in [
            &[0xa1, 0x01, 0x26][..],                           // ES256
            &[],                                               // none at all
            &[0xa0],                                           // an empty map
            &[0xa2, 0x01, 0x38, 0x22, 0x03, 0x00],             // ES384 with a content type beside it
            &[0xa2, 0x01, 0x26, 0x01, 0x38, 0x22],             // the algorithm twice
            &[0xa1, 0x18, 0x01, 0x38, 0x22],                   // ES384 in more bytes than it needs
            &[0xbf, 0x01, 0x38, 0x22, 0xff],                   // without a length
            &[0xa1, 0x01, 0x38, 0x22, 0x00],                   // something after it
            &[0xa1, 0x01, 0x65, b'E', b'S', b'3', b'8', b'4'], // the algorithm's name
        ] {
            assert_eq!(
                with(header, &[0xa0], Some(payload), &signature),
                CoseError::Algorithm,
                "{header:02x?}"
            );
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
        let two_tags = [&[0xd2, 0xd2][..], &signed].concat();
        // Arrays of three and of five, a header that is no string, one that is no map, a payload that is no string.
        let three = [&[0x83][..], &signed[1..signed.len() - 98]].concat();
        let five = [&[0x85][..], &signed[1..], &[0x00]].concat();
        let changed = |position: usize, byte: u8| {
            let mut changed = signed.clone();
            changed[position] = byte;
            changed
        };
        let (header, unprotected, payload) = (changed(1, 0x64), changed(6, 0x80), changed(7, 0x67));
        for bytes in [
            &[][..],
            &[0x80],
            &[0x83],
            &signed[..signed.len() - 1],
            &with_tail,
            &other_tag,
            &two_tags,
            &three,
            &five,
            &header,
            &unprotected,
            &payload,
        ] {
            assert_eq!(SignedPayload::from_bytes(bytes).unwrap_err(), CoseError::Malformed, "{bytes:02x?}");
        }
        assert_eq!(SignedPayload::from_bytes(&vec![0; MAX_SIGNED_LEN + 1]).unwrap_err(), CoseError::TooLong);
        assert_eq!(SignedPayload::from_bytes(&[0; MAX_SIGNED_LEN]).unwrap_err(), CoseError::Malformed);
    }

    /// A server may read documents on threads of 128 KiB: what musl gives them.
    #[test]
    fn nesting_without_end_takes_no_stack() {
        let nested = |byte: u8| vec![byte; MAX_SIGNED_LEN];
        // Arrays and a tag as the envelope; arrays in its headers.
        let in_header = |head: &[u8]| [head, &vec![0x81; MAX_SIGNED_LEN - head.len()]].concat();
        let (protected, unprotected) =
            ([0x84, 0x59, 0x3f, 0xfc], [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa1, 0x01]);
        let hostile = [
            nested(0x81),
            nested(0x9f),
            nested(0xa1),
            nested(0xc6),
            in_header(&protected),
            in_header(&unprotected),
        ];
        let read = move || hostile.map(|bytes| SignedPayload::from_bytes(&bytes).unwrap_err());
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(read).unwrap();
        assert_eq!(thread.join().unwrap(), [CoseError::Malformed; 6]);
    }
}
