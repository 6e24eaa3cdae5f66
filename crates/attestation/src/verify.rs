//! The whole verification of an attestation document.
//!
//! Five steps, in this order, each with errors of its own: the document's structure, the chain of
//! certificates to the root you pin, the dates of those certificates, the document's signature, and last your
//! policy. Nothing of a document is believed before the step that proves it. Specification: AWS's
//! `attestation_process.md`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::cose::{CoseError, SignedPayload};
use crate::document::{AttestationDocument, DocumentError};
use crate::path::{DatesError, PathError, check_dates, check_path};
use crate::pcr::{Pcr, PcrIndex};

/// What a document must say. An empty policy accepts every production enclave.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// PCRs that must have these values.
    pub pcrs: BTreeMap<PcrIndex, Pcr>,
    /// The nonce that must be echoed.
    pub nonce: Option<Vec<u8>>,
    /// The user data that must be there.
    pub user_data: Option<Vec<u8>>,
    /// The public key that must be there.
    pub public_key: Option<Vec<u8>>,
    /// Accept a document of a debug enclave. Its PCR 0 is all zeros: it proves nothing about the image, and
    /// its host can read its console. Without this it is refused, even if `pcrs` asks for a PCR 0 of zeros.
    pub allow_debug: bool,
}

/// A document that passed all five steps.
#[derive(Debug, Clone)]
pub struct VerifiedDocument {
    /// What the document says.
    pub document: AttestationDocument,
    /// The certificates that prove it, root first, that of the signing key last.
    pub certificates: Vec<Certificate>,
    /// True if the enclave runs in debug mode, which the policy allowed.
    pub debug: bool,
}

/// One of the five steps of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the document.
    Structure,
    /// Following the certificates to the root.
    Chain,
    /// Checking the certificates' dates.
    Dates,
    /// Checking the document's signature.
    Signature,
    /// Checking what the document says.
    Policy,
}

/// A document that is refused, by the step that refused it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The document cannot be read.
    #[error("structure: {0}")]
    Structure(#[from] StructureError),
    /// The certificates do not lead to the root.
    #[error("chain: {0}")]
    Chain(#[from] ChainError),
    /// A certificate is not valid at the time asked for.
    #[error("dates: {0}")]
    Dates(#[from] DatesError),
    /// The document was not signed with its certificate's key.
    #[error("signature: the document was changed, or not signed with the key of its certificate")]
    Signature,
    /// The document is genuine but says something else than it should.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
}

impl VerifyError {
    /// The step that refused the document.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Structure(_) => Step::Structure,
            Self::Chain(_) => Step::Chain,
            Self::Dates(_) => Step::Dates,
            Self::Signature => Step::Signature,
            Self::Policy(_) => Step::Policy,
        }
    }
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StructureError {
    /// The envelope is wrong.
    #[error(transparent)]
    Envelope(#[from] CoseError),
    /// The content is wrong.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Certificates that do not lead to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChainError {
    /// A certificate cannot be used. Positions count from the root, 0.
    #[error("certificate {position}: {error}")]
    Certificate {
        /// Position, counted from the root.
        position: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// The chain begins at another root than the one you trust.
    #[error("the document's chain begins at another root than the one given")]
    OtherRoot,
    /// Two certificates do not fit together.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A genuine document that says something else than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// PCR 0 is all zeros or missing.
    #[error(
        "the enclave runs in debug mode (PCR 0 is all zeros): its document proves nothing about its image"
    )]
    Debug,
    /// A PCR has another value.
    #[error("PCR {index} is {found}, expected {expected}")]
    Pcr {
        /// Which register.
        index: PcrIndex,
        /// The value in the document.
        found: Pcr,
        /// The value in the policy.
        expected: Pcr,
    },
    /// A PCR is not in the document.
    #[error("PCR {0} is not in the document: the enclave has not locked it")]
    MissingPcr(PcrIndex),
    /// The nonce is another one or missing.
    #[error("the nonce is not the one expected: the document was made for another request")]
    Nonce,
    /// The user data is different or missing.
    #[error("the user data is not what was expected")]
    UserData,
    /// The public key is different or missing.
    #[error("the public key is not the one expected")]
    PublicKey,
}

/// Verifies a signed document against the root certificate that you trust, at a given time.
///
/// # Errors
/// [`VerifyError`] names the step that refused the document and why.
pub fn verify(
    signed: &[u8],
    root: &Certificate,
    time: SystemTime,
    policy: &Policy,
) -> Result<VerifiedDocument, VerifyError> {
    let envelope = SignedPayload::from_bytes(signed).map_err(StructureError::from)?;
    let document = AttestationDocument::from_payload(envelope.payload()).map_err(StructureError::from)?;
    let authorities = read_authorities(&document)?;
    let leaf = read_certificate(&document.certificate, authorities.len())?;
    if authorities.first() != Some(root) {
        return Err(ChainError::OtherRoot.into());
    }
    check_path(&authorities, &leaf).map_err(ChainError::from)?;
    check_dates(authorities.iter().chain([&leaf]), time)?;
    if !envelope.is_signed_with(leaf.public_key()) {
        return Err(VerifyError::Signature);
    }
    let debug = policy.check(&document)?;
    let certificates = authorities.into_iter().chain([leaf]).collect();
    Ok(VerifiedDocument { document, certificates, debug })
}

impl Policy {
    /// Checks what a genuine document says, and returns whether it is a debug enclave's.
    fn check(&self, document: &AttestationDocument) -> Result<bool, PolicyError> {
        let pcr0 = PcrIndex::new(0).and_then(|index| document.pcrs.get(&index));
        let debug = pcr0.is_none_or(Pcr::is_zero);
        if debug && !self.allow_debug {
            return Err(PolicyError::Debug);
        }
        for (index, expected) in &self.pcrs {
            match document.pcrs.get(index) {
                Some(found) if found == expected => {}
                Some(found) => {
                    return Err(PolicyError::Pcr { index: *index, found: *found, expected: *expected });
                }
                None => return Err(PolicyError::MissingPcr(*index)),
            }
        }
        let agrees = |expected: &Option<Vec<u8>>, found| expected.is_none() || expected == found;
        if !agrees(&self.nonce, &document.nonce) {
            return Err(PolicyError::Nonce);
        }
        if !agrees(&self.user_data, &document.user_data) {
            return Err(PolicyError::UserData);
        }
        if !agrees(&self.public_key, &document.public_key) {
            return Err(PolicyError::PublicKey);
        }
        Ok(debug)
    }
}

fn read_authorities(document: &AttestationDocument) -> Result<Vec<Certificate>, ChainError> {
    document.cabundle.iter().enumerate().map(|(position, der)| read_certificate(der, position)).collect()
}

fn read_certificate(der: &[u8], position: usize) -> Result<Certificate, ChainError> {
    Certificate::from_der(der).map_err(|error| ChainError::Certificate { position, error })
}
