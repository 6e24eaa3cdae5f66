//! The attestation document of a request, verified, and the answer sealed for its key.
//!
//! A document is verified in full by crate attestation: structure, chain to one of the configured roots, dates, signature, age. Then its
//! public key must be one that answers can be sealed for. What its PCRs are worth is for the policy alone to say: those of a debug
//! enclave are zeros, and pass. Source: AWS KMS API reference, data type `RecipientInfo`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use attestation::pcr::Pcr;
use attestation::roots::Roots;
use attestation::verify::{self, AgeLimit, VerifyError, verify_against};
use getrandom::SysRng;
use kms_protocol::cms::{self, CmsError, Encoding, RecipientKey, RecipientKeyError};
use thiserror::Error;

use crate::policy::Attestation;

/// How old a document may be unless the configuration says otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// Verifies documents.
#[derive(Debug)]
pub struct Verifier {
    roots: Roots,
    policy: verify::Policy,
    encoding: Encoding,
}

/// A document that is refused. For the log: the caller is not told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecipientError {
    /// It is not genuine, or not fresh.
    #[error("{0}")]
    Document(#[from] VerifyError),
    /// There is no key to seal the answer for.
    #[error("the document has no public key")]
    NoPublicKey,
    /// There is a key, but not one to seal for.
    #[error("the document's public key cannot be used: {0}")]
    PublicKey(#[from] RecipientKeyError),
}

impl Verifier {
    /// A verifier that trusts these roots (none: it refuses every document) and encodes answers in this way.
    #[must_use]
    pub fn new(roots: Roots, age: AgeLimit, encoding: Encoding) -> Self {
        let policy = verify::Policy { age: Some(age), allow_debug: true, ..verify::Policy::default() };
        Self { roots, policy, encoding }
    }

    /// Verifies a document.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, signed: &[u8], now: SystemTime) -> Result<Recipient, RecipientError> {
        let verified = verify_against(signed, &self.roots, now, &self.policy)?;
        let key = verified.document.public_key.ok_or(RecipientError::NoPublicKey)?;
        let pcrs = verified.document.pcrs.into_iter().map(|(index, pcr)| (index.get(), pcr));
        Ok(Recipient {
            key: RecipientKey::from_spki_der(&key)?,
            pcrs: pcrs.collect(),
            module_id: verified.document.module_id,
            encoding: self.encoding,
        })
    }
}

/// An enclave whose document was verified.
#[derive(Debug)]
pub struct Recipient {
    key: RecipientKey,
    pcrs: BTreeMap<u8, Pcr>,
    module_id: String,
    encoding: Encoding,
}

impl Recipient {
    /// What policies see of it.
    #[must_use]
    pub fn attestation(&self) -> Attestation<'_> {
        Attestation { pcrs: &self.pcrs }
    }

    /// Which enclave it is.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// Encrypts an answer so that the enclave alone can read it: `CiphertextForRecipient`.
    ///
    /// # Errors
    /// The random number generator fails.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, CmsError> {
        cms::seal(&self.key, plaintext, self.encoding, &mut SysRng)
    }
}
