//! The whole verification of an attestation document.
//!
//! Six steps, in this order, each with errors of its own: the document's structure, the chain of
//! certificates to a root you pin, the dates of those certificates, the document's signature, its age, and last
//! your policy. Nothing of a document is believed before the step that proves it: [`VerifiedDocument`] is made here alone. Specification: AWS's
//! `attestation_process.md`.

use std::time::SystemTime;

use serde::Serialize;
use thiserror::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::cose::{CoseError, SignedPayload};
use crate::document::{AttestationDocument, DocumentError};
use crate::path::{DatesError, PathError, check_dates, check_path};
pub use crate::policy::{AgeError, AgeLimit, Policy, PolicyError};
use crate::roots::{FINGERPRINT_LEN, Roots};

/// A document that passed all steps. Only [`verify`] and [`verify_against`] make one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifiedDocument {
    /// What the document says.
    pub document: AttestationDocument,
    /// The certificates that prove it, root first, that of the signing key last.
    pub certificates: Vec<Certificate>,
    /// Which of the trusted roots it was: the SHA-256 of `certificates[0]`.
    pub root: [u8; FINGERPRINT_LEN],
    /// True if the enclave runs in debug mode, which the policy allowed.
    pub debug: bool,
    /// The name of the first of the policy's sets of PCRs that matched; `None` if it has no sets.
    pub matched: Option<String>,
}

/// One of the six steps of verification, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Reading the document.
    Structure,
    /// Following the certificates to the root.
    Chain,
    /// Checking the certificates' dates.
    Dates,
    /// Checking the document's signature.
    Signature,
    /// Checking how old the document is.
    Age,
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
    /// The document is genuine but too old, or from the future.
    #[error("age: {0}")]
    Age(#[from] AgeError),
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
            Self::Age(_) => Step::Age,
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
    /// The chain begins at another root than you trust.
    #[error("the document's chain begins at another root than you trust")]
    OtherRoot,
    /// Two certificates do not fit together.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Verifies a signed document against the one root certificate that you trust, at a given time.
///
/// # Errors
/// [`VerifyError`] names the step that refused the document and why.
pub fn verify(
    signed: &[u8],
    root: &Certificate,
    time: SystemTime,
    policy: &Policy,
) -> Result<VerifiedDocument, VerifyError> {
    verify_against(signed, &Roots::from(root), time, policy)
}

/// Verifies a signed document against any of several roots that you trust, at a given time.
///
/// # Errors
/// [`VerifyError`] names the step that refused the document and why.
pub fn verify_against(
    signed: &[u8],
    roots: &Roots,
    time: SystemTime,
    policy: &Policy,
) -> Result<VerifiedDocument, VerifyError> {
    let envelope = SignedPayload::from_bytes(signed).map_err(StructureError::from)?;
    let document = AttestationDocument::from_payload(envelope.payload()).map_err(StructureError::from)?;
    let authorities = read_authorities(&document)?;
    let leaf = read_certificate(&document.certificate, authorities.len())?;
    let root = trusted_root(&authorities, roots)?;
    check_path(&authorities, &leaf).map_err(ChainError::from)?;
    check_dates(authorities.iter().chain([&leaf]), time)?;
    if !envelope.is_signed_with(leaf.public_key()) {
        return Err(VerifyError::Signature);
    }
    if let Some(limit) = policy.age {
        limit.check(document.timestamp, time)?;
    }
    let accepted = policy.check(&document)?;
    let certificates = authorities.into_iter().chain([leaf]).collect();
    Ok(VerifiedDocument { document, certificates, root, debug: accepted.debug, matched: accepted.set })
}

fn trusted_root(authorities: &[Certificate], roots: &Roots) -> Result<[u8; FINGERPRINT_LEN], ChainError> {
    let fingerprint = authorities.first().map(Certificate::fingerprint);
    fingerprint.filter(|fingerprint| roots.contains(fingerprint)).ok_or(ChainError::OtherRoot)
}

fn read_authorities(document: &AttestationDocument) -> Result<Vec<Certificate>, ChainError> {
    document.cabundle.iter().enumerate().map(|(position, der)| read_certificate(der, position)).collect()
}

fn read_certificate(der: &[u8], position: usize) -> Result<Certificate, ChainError> {
    Certificate::from_der(der).map_err(|error| ChainError::Certificate { position, error })
}
