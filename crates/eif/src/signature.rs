//! The signature section: COSE signatures over PCRs, each with the certificate to check it.
//!
//! CBOR: an array of maps {"signing_certificate": PEM file, "signature": COSE_Sign1}. AWS's tools write byte strings
//! there as arrays of integers; byte strings proper are read as well. Only the first entry counts, and it signs PCR 0.
//! Specification: the README of AWS's `aws-nitro-enclaves-image-format`; RFC 9052 for COSE_Sign1.

use std::fmt;

use attestation::pcr::{PCR_LEN, Pcr};
use ciborium::value::Value;
use coset::iana::EnumI64;
use coset::{CborSerializable, CoseSign1, RegisteredLabelWithPrivate, TaggedCborSerializable};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use thiserror::Error;

use crate::certificate::{CertificateError, SigningCertificate};
use crate::key::PublicKey;
use crate::rules::MAX_SIGNATURE_SIZE;

/// The only register whose signature counts.
const SIGNED_REGISTER: u64 = 0;

/// Most bytes reserved for a byte string on the word of its length alone.
const BYTES_HINT: usize = 4096;

/// Characters of the longest description of bytes that are none of ours.
const MAX_ERROR_TEXT: usize = 200;

/// Why an image's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The section is larger than the format allows.
    #[error("the signature section has {0} bytes; at most {MAX_SIGNATURE_SIZE} are allowed")]
    TooLarge(usize),
    /// The section is not the CBOR it should be.
    #[error("the signature section is not readable: {0}; sign the image again")]
    Encoding(String),
    /// The section holds no signature.
    #[error("the signature section is empty; sign the image again")]
    Empty,
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate's key is of a kind that does not sign images.
    #[error(
        "the signing certificate's key is {0}, not on P-256, P-384 or P-521; sign the image with such a key"
    )]
    Key(String),
    /// The signature names another algorithm than the certificate's key has.
    #[error("the signature's algorithm ({found}) is not that of the certificate's key ({expected})")]
    Algorithm {
        /// What the key demands.
        expected: &'static str,
        /// What the signature says.
        found: String,
    },
    /// The signature was not made by the certificate's key over this payload.
    #[error(
        "the image's signature is not valid: it was not made with the key of its certificate, or was changed since"
    )]
    Invalid,
    /// The payload is not about PCR 0.
    #[error("the signature is over PCR {0}, not PCR 0; sign the image again")]
    Register(u64),
    /// The signature is good, but over another image.
    #[error("the signature is over an image with PCR0 {signed}, but this image has PCR0 {measured}")]
    OtherImage {
        /// What the signature says.
        signed: Pcr,
        /// What was measured.
        measured: Pcr,
    },
}

/// A signature that its certificate's key made. Whose certificate it is, whether it is still valid and whether it is
/// this image that was signed remain to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate whose key signed.
    pub certificate: SigningCertificate,
    /// The PCR 0 that was signed.
    pub pcr0: Pcr,
}

impl Signed {
    /// Checks that it is the image with this PCR 0 that was signed.
    ///
    /// # Errors
    /// If it is another.
    pub fn check_image(&self, measured: &Pcr) -> Result<(), SignatureError> {
        if self.pcr0 == *measured {
            return Ok(());
        }
        Err(SignatureError::OtherImage { signed: self.pcr0, measured: *measured })
    }
}

/// One entry of the section, not verified.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    #[serde(deserialize_with = "bytes")]
    signing_certificate: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    signature: Vec<u8>,
}

/// The entry that counts of a signature section.
///
/// # Errors
/// If the section is not readable or holds none.
pub fn first_entry(section: &[u8]) -> Result<Entry, SignatureError> {
    if u64::try_from(section.len()).unwrap_or(u64::MAX) > MAX_SIGNATURE_SIZE {
        return Err(SignatureError::TooLarge(section.len()));
    }
    let mut rest = section;
    let entries: Vec<Entry> = ciborium::from_reader(&mut rest).map_err(encoding)?;
    if !rest.is_empty() {
        return Err(SignatureError::Encoding(format!("{} bytes follow its end", rest.len())));
    }
    entries.into_iter().next().ok_or(SignatureError::Empty)
}

/// Reads a signature section and verifies the signature that counts.
///
/// # Errors
/// If it is not readable, its certificate is none, or the signature was not made by the certificate's key.
pub fn verify(section: &[u8]) -> Result<Signed, SignatureError> {
    let entry = first_entry(section)?;
    let certificate = entry.certificate()?;
    let cose = CoseSign1::from_slice(&entry.signature)
        .or_else(|_| CoseSign1::from_tagged_slice(&entry.signature))
        .map_err(encoding)?;
    verify_cose(&cose, &certificate)?;
    let payload = cose.payload.as_deref().ok_or_else(|| encoding("the signature has no payload"))?;
    Ok(Signed { pcr0: signed_pcr0(payload)?, certificate })
}

impl Entry {
    /// The certificate of this entry.
    ///
    /// # Errors
    /// If it is none.
    pub fn certificate(&self) -> Result<SigningCertificate, CertificateError> {
        SigningCertificate::from_pem(&self.signing_certificate)
    }
}

fn verify_cose(cose: &CoseSign1, certificate: &SigningCertificate) -> Result<(), SignatureError> {
    let key = PublicKey::of(certificate).map_err(SignatureError::Key)?;
    let algorithm = cose.protected.header.alg.as_ref();
    let expected = RegisteredLabelWithPrivate::Assigned(key.algorithm().cose());
    if algorithm != Some(&expected) {
        let found = match algorithm {
            Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => algorithm.to_i64().to_string(),
            Some(RegisteredLabelWithPrivate::PrivateUse(number)) => number.to_string(),
            Some(RegisteredLabelWithPrivate::Text(_)) => "a text".to_owned(),
            None => "none".to_owned(),
        };
        return Err(SignatureError::Algorithm { expected: key.algorithm().name(), found });
    }
    if !cose.protected.header.crit.is_empty() {
        return Err(encoding("the signature has critical headers that are not understood"));
    }
    if cose.payload.is_none() {
        return Err(encoding("the signature has no payload"));
    }
    if key.verifies(&cose.tbs_data(b""), &cose.signature) { Ok(()) } else { Err(SignatureError::Invalid) }
}

#[derive(Deserialize)]
struct PcrInfo {
    register_index: u64,
    #[serde(deserialize_with = "bytes")]
    register_value: Vec<u8>,
}

fn signed_pcr0(payload: &[u8]) -> Result<Pcr, SignatureError> {
    let mut rest = payload;
    let info: PcrInfo = ciborium::from_reader(&mut rest).map_err(encoding)?;
    if !rest.is_empty() {
        return Err(encoding("bytes follow the end of the signed payload"));
    }
    if info.register_index != SIGNED_REGISTER {
        return Err(SignatureError::Register(info.register_index));
    }
    let value: [u8; PCR_LEN] = info.register_value.try_into().map_err(|value: Vec<u8>| {
        encoding(format!("the signed PCR has {} bytes instead of {PCR_LEN}", value.len()))
    })?;
    Ok(Pcr::from_bytes(value))
}

/// The bytes that are signed for an image with this PCR 0, as AWS's tools encode them.
#[must_use]
pub fn payload(pcr0: &Pcr) -> Vec<u8> {
    let value = pcr0.as_bytes().iter().map(|byte| Value::from(*byte)).collect();
    let map = Value::Map(vec![
        (Value::from("register_index"), Value::from(SIGNED_REGISTER)),
        (Value::from("register_value"), Value::Array(value)),
    ]);
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and the value holds nothing that CBOR cannot.
    let _ = ciborium::into_writer(&map, &mut bytes);
    bytes
}

/// The beginning of what the decoder says: it quotes what it has read.
fn encoding(error: impl fmt::Display) -> SignatureError {
    SignatureError::Encoding(error.to_string().chars().take(MAX_ERROR_TEXT).collect())
}

/// A byte string, or an array of integers that stands for one.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a byte string or an array of bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(BYTES_HINT));
            while let Some(byte) = sequence.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }

    deserializer.deserialize_any(Bytes)
}
