//! The recipient: a key of this process, and documents that hold its public half.
//!
//! There is one key for each process, as in AWS's own SDK for enclaves: making it takes a guest some tenths of a second, and a key for
//! each request would protect nothing more. Whoever could read this process's memory later could read the secrets themselves, and
//! answers on the way are inside TLS besides. The key is made of the kernel's randomness, is never written anywhere, and its memory is
//! overwritten when it is dropped. Documents, on the other hand, are made for each request: services take only fresh ones.

use base64ct::{Base64, Encoding};
use getrandom::SysRng;
use guest::nsm::NsmError;
use kms_protocol::cms::{self, CmsError};
use rand_core::UnwrapErr;
use rsa::RsaPrivateKey;
use serde_json::{Value, json};
use spki::EncodePublicKey;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::attester::Attester;

/// Size of the key in bits: what AWS's SDKs use (`AWS_RSA_2048`).
pub const KEY_BITS: usize = 2048;

/// The only way of encrypting for a recipient that KMS has (API reference, `RecipientInfo`).
pub const KEY_ENCRYPTION_ALGORITHM: &str = "RSAES_OAEP_SHA_256";

/// Why there is no recipient.
#[derive(Debug, Error)]
pub enum RecipientError {
    /// There is no key.
    #[error("cannot make an RSA key: {0}")]
    Key(String),
    /// There is no document.
    #[error("no attestation document: {0}")]
    Document(#[from] NsmError),
}

/// For whom the service encrypts.
pub struct Recipient {
    key: RsaPrivateKey,
    public_key: Vec<u8>,
    attester: Box<dyn Attester>,
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipient").finish_non_exhaustive()
    }
}

impl Recipient {
    /// Makes the key, and a first document to see that there will be others. Takes up to a second.
    ///
    /// # Errors
    /// If there is no randomness or no document.
    pub fn new(attester: impl Attester) -> Result<Self, RecipientError> {
        let failed = |error: &dyn std::fmt::Display| RecipientError::Key(error.to_string());
        let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), KEY_BITS).map_err(|error| failed(&error))?;
        let public_key = key.to_public_key().to_public_key_der().map_err(|error| failed(&error))?.into_vec();
        let recipient = Self { key, public_key, attester: Box::new(attester) };
        recipient.document()?;
        Ok(recipient)
    }

    /// A new document that holds the public key.
    ///
    /// # Errors
    /// If the security module makes none.
    pub fn document(&self) -> Result<Vec<u8>, RecipientError> {
        Ok(self.attester.attest(self.public_key.clone())?)
    }

    /// The request parameter `Recipient`, with a new document.
    ///
    /// # Errors
    /// As [`Recipient::document`].
    pub fn parameter(&self) -> Result<Value, RecipientError> {
        Ok(json!({
            "KeyEncryptionAlgorithm": KEY_ENCRYPTION_ALGORITHM,
            "AttestationDocument": Base64::encode_string(&self.document()?),
        }))
    }

    /// Opens an envelope that was made for this recipient.
    ///
    /// # Errors
    /// If it was not, or is none.
    pub fn open(&self, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        cms::open(&self.key, envelope)
    }
}
