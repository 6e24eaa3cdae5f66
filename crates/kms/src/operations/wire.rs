//! Requests and answers as JSON 1.1 has them: base64 for bytes, seconds for times, AWS's names for members.
//!
//! A member that we do not know is refused, although AWS ignores it: ignored, a `Recipient` where there is none, or a misspelled
//! `EncryptionContext`, would be answered as if the caller had not asked for it.

use core::fmt;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::{ErrorKind, KmsError};

/// Most bytes that Encrypt takes (`PlaintextType`).
pub(super) const MAX_PLAINTEXT: usize = 4096;
/// Most bytes of a ciphertext (`CiphertextType`).
pub(super) const MAX_CIPHERTEXT: usize = 6144;
/// Most bytes of an attestation document on the wire (`AttestationDocumentType`); the verifier's own limit is lower.
pub(super) const MAX_DOCUMENT: usize = 262_144;
/// Most bytes of a public key (`PublicKeyType`).
pub(super) const MAX_PUBLIC_KEY: usize = 8192;
/// Most bytes of all names and values of an encryption context together. AWS: "Quotas".
pub(super) const MAX_CONTEXT: usize = 8192;
/// Longest text that an error echoes, in characters.
const MAX_ECHO: usize = 256;
/// Room for any answer that holds a secret, so that none is left behind when the buffer grows.
const ANSWER_CAPACITY: usize = 16 * 1024;

/// Reads a request.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, KmsError> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { ErrorKind::Validation } else { ErrorKind::Serialization };
        KmsError::new(kind, error.to_string().chars().take(MAX_ECHO).collect::<String>())
    })
}

/// Writes an answer.
pub(super) fn write<T: Serialize>(answer: &T) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let mut json = Zeroizing::new(Vec::with_capacity(ANSWER_CAPACITY));
    serde_json::to_writer(&mut *json, answer)
        .map_err(|_| KmsError::new(ErrorKind::KmsInternal, "the answer could not be written"))?;
    Ok(json)
}

/// The request of an operation that takes nothing but the name of a key.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct KeyOnly {
    pub(super) key_id: String,
}

/// 1 to `MAX` bytes in base64, wiped when dropped.
pub(super) struct Blob<const MAX: usize>(Zeroizing<Vec<u8>>);

impl<const MAX: usize> Blob<MAX> {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Blob<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor<const MAX: usize>;
        impl<const MAX: usize> Visitor<'_> for BlobVisitor<MAX> {
            type Value = Blob<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {MAX} bytes in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let refused = || E::custom(format!("expected 1 to {MAX} bytes in base64"));
                // Three bytes are four characters: nothing longer is looked at.
                if text.len() > MAX.div_ceil(3).saturating_mul(4) {
                    return Err(refused());
                }
                let bytes = Base64::decode_vec(text).map(Zeroizing::new).map_err(|_| refused())?;
                if (1..=MAX).contains(&bytes.len()) { Ok(Blob(bytes)) } else { Err(refused()) }
            }
        }
        deserializer.deserialize_str(BlobVisitor)
    }
}

/// Bytes of an answer, written in base64. The text is wiped.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(Base64::encode_string(self.0)))
    }
}

/// An encryption context: names and values, each name once. None is the same as an empty one.
#[derive(Debug, Default)]
pub(super) struct Context(BTreeMap<String, String>);

impl Context {
    /// A context with nothing in it.
    pub(super) const EMPTY: Self = Self(BTreeMap::new());

    pub(super) fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContextVisitor;
        impl<'de> Visitor<'de> for ContextVisitor {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts to texts")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Context::EMPTY)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = BTreeMap::new();
                let mut length = 0_usize;
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    length = length.saturating_add(name.len()).saturating_add(value.len());
                    if length > MAX_CONTEXT {
                        return Err(de::Error::custom(format!(
                            "an encryption context has at most {MAX_CONTEXT} bytes"
                        )));
                    }
                    if pairs.insert(name, value).is_some() {
                        return Err(de::Error::custom("an encryption context has each name once"));
                    }
                }
                Ok(Context(pairs))
            }
        }
        deserializer.deserialize_any(ContextVisitor)
    }
}

/// `GrantTokens`. There are no grants here, so none is valid.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct GrantTokens(Option<Vec<String>>);

impl GrantTokens {
    pub(super) fn check(&self) -> Result<(), KmsError> {
        if self.0.as_ref().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        Err(KmsError::new(
            ErrorKind::InvalidGrantToken,
            "this service has no grants: no grant token is valid",
        ))
    }
}

/// `DryRun`: everything is checked and nothing is done.
#[derive(Default, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct DryRun(Option<bool>);

impl DryRun {
    /// To be called when nothing but the doing is left.
    pub(super) fn stop(self) -> Result<(), KmsError> {
        if self.0 != Some(true) {
            return Ok(());
        }
        Err(KmsError::new(
            ErrorKind::DryRunOperation,
            "the request would have succeeded, but the DryRun option is set",
        ))
    }
}

/// `EncryptionAlgorithm`: those that AWS has, of which one works here.
#[derive(Clone, Copy, Deserialize, Serialize)]
pub(super) enum EncryptionAlgorithm {
    #[serde(rename = "SYMMETRIC_DEFAULT")]
    SymmetricDefault,
    #[serde(rename = "RSAES_OAEP_SHA_1")]
    RsaesOaepSha1,
    #[serde(rename = "RSAES_OAEP_SHA_256")]
    RsaesOaepSha256,
    #[serde(rename = "SM2PKE")]
    Sm2Pke,
}

impl EncryptionAlgorithm {
    /// No key here works with any but SYMMETRIC_DEFAULT.
    pub(super) fn check(asked: Option<Self>) -> Result<(), KmsError> {
        match asked {
            None | Some(Self::SymmetricDefault) => Ok(()),
            Some(_) => Err(KmsError::new(
                ErrorKind::InvalidKeyUsage,
                "the key works with the encryption algorithm SYMMETRIC_DEFAULT alone",
            )),
        }
    }
}

/// A time as seconds since the Unix epoch.
pub(super) fn seconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_secs())
}

/// A refusal of a request that says something it cannot.
pub(super) fn invalid(message: impl Into<String>) -> KmsError {
    KmsError::new(ErrorKind::Validation, message)
}

/// A refusal of something that AWS has and we do not.
pub(super) fn unsupported(message: impl Into<String>) -> KmsError {
    KmsError::new(ErrorKind::UnsupportedOperation, message)
}
