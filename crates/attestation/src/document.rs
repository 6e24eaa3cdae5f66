//! The attestation document: what the security module says about an enclave, before it is signed.
//!
//! A CBOR map of nine entries in a fixed order. Specification: AWS Nitro Enclaves user guide, "Verifying the
//! root of trust" (the CDDL there), and the bytes of real documents, which differ from it: absent optional
//! fields are null. Writing gives the form of AWS's documents to 2025; reading also takes indefinite lengths (AWS's form
//! of 2026), another order of keys, and optional fields that are missing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, SystemTime};

use ciborium::Value;
use thiserror::Error;

use crate::cbor::{Writer, read_exactly_one};
use crate::certificate::MAX_CERTIFICATE_LEN;
use crate::pcr::{PCR_LEN, Pcr, PcrIndex};

/// The only digest algorithm of PCRs here.
pub const DIGEST: &str = "SHA384";
/// Most certificates in `cabundle`. AWS's has four, ours three.
pub const MAX_BUNDLE_LEN: usize = 10;
/// Longest `module_id`, in bytes: AWS's C library has room for 99.
pub const MAX_MODULE_ID_LEN: usize = 99;

/// The content of an attestation document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationDocument {
    /// The enclave: `<instance id>-enc<16 hexadecimal digits>`.
    pub module_id: String,
    /// Milliseconds since the Unix epoch when the document was made.
    pub timestamp: u64,
    /// Every locked PCR.
    pub pcrs: BTreeMap<PcrIndex, Pcr>,
    /// DER certificate of the key that signed the document.
    pub certificate: Vec<u8>,
    /// DER certificates of the authorities, root first, the issuer of `certificate` last.
    pub cabundle: Vec<Vec<u8>>,
    /// What the enclave's application put in: a key that others may encrypt to.
    pub public_key: Option<Vec<u8>>,
    /// What the enclave's application put in: anything.
    pub user_data: Option<Vec<u8>>,
    /// What the enclave's application put in: the verifier's nonce.
    pub nonce: Option<Vec<u8>>,
}

/// Why a payload is not an attestation document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not a CBOR map with text keys.
    #[error("the payload is not one CBOR map with text keys")]
    NotAMap,
    /// A field is there twice.
    #[error("field {0} is there twice")]
    Duplicate(&'static str),
    /// A field that is not known here is there twice: nobody could tell which one counts.
    #[error("a field that is not known is there twice")]
    DuplicateUnknown,
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field has another type, or a value that it cannot have.
    #[error("field {field} is wrong: {rule}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

const MODULE_ID: &str = "module_id";
const DIGEST_FIELD: &str = "digest";
const TIMESTAMP: &str = "timestamp";
const PCRS: &str = "pcrs";
const CERTIFICATE: &str = "certificate";
const CABUNDLE: &str = "cabundle";
const PUBLIC_KEY: &str = "public_key";
const USER_DATA: &str = "user_data";
const NONCE: &str = "nonce";
/// Every field.
const FIELDS: [&str; 9] =
    [MODULE_ID, DIGEST_FIELD, TIMESTAMP, PCRS, CERTIFICATE, CABUNDLE, PUBLIC_KEY, USER_DATA, NONCE];

impl AttestationDocument {
    /// When it was made, as [`Self::timestamp`] says; `None` if that is past what the system can tell.
    #[must_use]
    pub fn made_at(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.timestamp))
    }

    /// The document as the payload of a COSE_Sign1 structure.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(9);
        writer.text(MODULE_ID).text(&self.module_id);
        writer.text(DIGEST_FIELD).text(DIGEST);
        writer.text(TIMESTAMP).unsigned_in_eight_bytes(self.timestamp);
        writer.text(PCRS).map(self.pcrs.len());
        for (index, pcr) in &self.pcrs {
            writer.unsigned(u64::from(index.get())).bytes(pcr.as_bytes());
        }
        writer.text(CERTIFICATE).bytes(&self.certificate);
        writer.text(CABUNDLE).array(self.cabundle.len());
        for certificate in &self.cabundle {
            writer.bytes(certificate);
        }
        writer.text(PUBLIC_KEY).optional_bytes(self.public_key.as_deref());
        writer.text(USER_DATA).optional_bytes(self.user_data.as_deref());
        writer.text(NONCE).optional_bytes(self.nonce.as_deref());
        writer.finish()
    }

    /// Reads a payload. Bound its length first: memory grows with it.
    ///
    /// # Errors
    /// [`DocumentError`] names the field and the rule that it breaks.
    pub fn from_payload(payload: &[u8]) -> Result<Self, DocumentError> {
        let mut fields = Fields::read(payload)?;
        if fields.required(DIGEST_FIELD)? != Value::from(DIGEST) {
            return Err(wrong(DIGEST_FIELD, "it must be the text SHA384"));
        }
        Ok(Self {
            module_id: module_id(fields.required(MODULE_ID)?)?,
            timestamp: timestamp(&fields.required(TIMESTAMP)?)?,
            pcrs: pcrs(fields.required(PCRS)?)?,
            certificate: certificate(CERTIFICATE, fields.required(CERTIFICATE)?)?,
            cabundle: cabundle(fields.required(CABUNDLE)?)?,
            public_key: fields.optional_bytes(PUBLIC_KEY)?,
            user_data: fields.optional_bytes(USER_DATA)?,
            nonce: fields.optional_bytes(NONCE)?,
        })
    }
}

/// The fields of a payload that have not been taken yet. Those that nobody asks for are ignored: they are signed, and may be news.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn read(payload: &[u8]) -> Result<Self, DocumentError> {
        let Some(Value::Map(pairs)) = read_exactly_one(payload) else { return Err(DocumentError::NotAMap) };
        let mut fields = BTreeMap::new();
        for (key, value) in pairs {
            let Value::Text(key) = key else { return Err(DocumentError::NotAMap) };
            match fields.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(value),
                Entry::Occupied(entry) => return Err(duplicate(entry.key())),
            }
        }
        Ok(Self(fields))
    }

    fn required(&mut self, name: &'static str) -> Result<Value, DocumentError> {
        self.0.remove(name).ok_or(DocumentError::Missing(name))
    }

    fn optional_bytes(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, DocumentError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(wrong(name, "it must be a byte string or null")),
        }
    }
}

/// The error about a field that is there twice. A name that is not known is anybody's invention, and not repeated.
fn duplicate(name: &str) -> DocumentError {
    let known = FIELDS.into_iter().find(|field| *field == name);
    known.map_or(DocumentError::DuplicateUnknown, DocumentError::Duplicate)
}

fn wrong(field: &'static str, rule: &'static str) -> DocumentError {
    DocumentError::Field { field, rule }
}

fn module_id(value: Value) -> Result<String, DocumentError> {
    match value {
        Value::Text(text) if (1..=MAX_MODULE_ID_LEN).contains(&text.len()) => Ok(text),
        _ => Err(wrong(MODULE_ID, "it must be a text of 1 to 99 bytes")),
    }
}

fn timestamp(value: &Value) -> Result<u64, DocumentError> {
    let number = value.as_integer().and_then(|integer| u64::try_from(integer).ok());
    number.filter(|number| *number > 0).ok_or(wrong(TIMESTAMP, "it must be a positive integer"))
}

fn pcrs(value: Value) -> Result<BTreeMap<PcrIndex, Pcr>, DocumentError> {
    let rule = || wrong(PCRS, "it must map 1 to 32 different indices below 32 to 48 bytes each");
    let Value::Map(pairs) = value else { return Err(rule()) };
    let expected = pairs.len();
    let pcrs = pairs.into_iter().map(|(key, value)| pcr(&key, &value));
    let pcrs = pcrs.collect::<Option<BTreeMap<_, _>>>().ok_or_else(rule)?;
    if pcrs.is_empty() || pcrs.len() != expected {
        return Err(rule());
    }
    Ok(pcrs)
}

fn pcr(key: &Value, value: &Value) -> Option<(PcrIndex, Pcr)> {
    let index = PcrIndex::new(u64::try_from(key.as_integer()?).ok()?)?;
    let bytes = <[u8; PCR_LEN]>::try_from(value.as_bytes()?.as_slice()).ok()?;
    Some((index, Pcr::from_bytes(bytes)))
}

fn certificate(field: &'static str, value: Value) -> Result<Vec<u8>, DocumentError> {
    match value {
        Value::Bytes(bytes) if (1..=MAX_CERTIFICATE_LEN).contains(&bytes.len()) => Ok(bytes),
        _ => Err(wrong(field, "a certificate must be a byte string of 1 to 1024 bytes")),
    }
}

fn cabundle(value: Value) -> Result<Vec<Vec<u8>>, DocumentError> {
    match value {
        Value::Array(values) if (1..=MAX_BUNDLE_LEN).contains(&values.len()) => {
            values.into_iter().map(|value| certificate(CABUNDLE, value)).collect()
        }
        _ => Err(wrong(CABUNDLE, "it must be an array of 1 to 10 certificates")),
    }
}
