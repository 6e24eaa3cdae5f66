//! One X.509 certificate of the kind that documents carry, read strictly.
//!
//! The profile is that of AWS's chains: version 3, P-384, ecdsa-with-SHA384, at most 1024 bytes of DER.
//! Anything else is refused while reading, so that code behind this door meets no surprises. Checks between
//! certificates are in [`crate::path`]. Specification: RFC 5280; AWS's `attestation_process.md`.

use core::fmt;
use std::time::SystemTime;

use const_oid::AssociatedOid;
use const_oid::db::rfc5912::ECDSA_WITH_SHA_384;
use der::{Decode, Encode};
use ecdsa::signature::Verifier;
use p384::ecdsa::DerSignature;
use p384::pkcs8::LineEnding;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::key::PublicKey;

/// Longest certificate, in bytes of DER, that verifiers of attestation documents accept.
pub const MAX_CERTIFICATE_LEN: usize = 1024;
/// Longest PEM text that is looked at: room for a certificate and the description tools put before it.
const MAX_PEM_LEN: usize = 16 * 1024;
const PEM_LABEL: &str = "CERTIFICATE";

/// Why bytes are not a certificate that can be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Longer than any verifier accepts.
    #[error("longer than {MAX_CERTIFICATE_LEN} bytes of DER")]
    TooLong,
    /// Not the one DER encoding of a certificate.
    #[error("not the strict DER encoding of an X.509 certificate")]
    Malformed,
    /// Not PEM text of a certificate.
    #[error("not a PEM text that begins with -----BEGIN CERTIFICATE-----")]
    Pem,
    /// Versions 1 and 2 have no extensions, on which everything depends.
    #[error("not an X.509 version 3 certificate")]
    Version,
    /// Signed with another algorithm.
    #[error("not signed with ecdsa-with-SHA384")]
    Algorithm,
    /// The subject's key is of another kind.
    #[error("the subject's public key is not a point on P-384")]
    PublicKey,
    /// An extension is there twice or is malformed.
    #[error("an extension is there twice or malformed")]
    Extension,
    /// An extension that is not understood is marked critical.
    #[error("a critical extension is not understood")]
    UnknownCriticalExtension,
}

/// A certificate that meets the profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    public_key: PublicKey,
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    key_identifier: Option<Vec<u8>>,
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// [`CertificateError`] says which rule of the profile is broken.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_LEN {
            return Err(CertificateError::TooLong);
        }
        let parsed: x509_cert::Certificate = strict(der).ok_or(CertificateError::Malformed)?;
        let tbs = parsed.tbs_certificate();
        if tbs.version() != Version::V3 {
            return Err(CertificateError::Version);
        }
        if !is_ecdsa_with_sha384(tbs.signature()) || !is_ecdsa_with_sha384(parsed.signature_algorithm()) {
            return Err(CertificateError::Algorithm);
        }
        let key_info = tbs.subject_public_key_info().to_der().map_err(|_| CertificateError::Malformed)?;
        let public_key = p384::pkcs8::DecodePublicKey::from_public_key_der(&key_info)
            .map_err(|_| CertificateError::PublicKey)?;
        refuse_unknown_critical_extensions(&parsed)?;
        Ok(Self {
            der: der.to_vec(),
            public_key,
            constraints: extension(&parsed)?,
            usage: extension(&parsed)?,
            key_identifier: extension::<SubjectKeyIdentifier>(&parsed)?.map(|id| id.0.into_bytes().into()),
            parsed,
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CertificateError::Pem`] if there is none, else as [`Self::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        if text.len() > MAX_PEM_LEN {
            return Err(CertificateError::Pem);
        }
        match der::pem::decode_vec(text.as_bytes()) {
            Ok((PEM_LABEL, der)) => Self::from_der(&der),
            _ => Err(CertificateError::Pem),
        }
    }

    /// The certificate as PEM text.
    ///
    /// # Errors
    /// [`CertificateError::Pem`]; not known to happen.
    pub fn to_pem(&self) -> Result<String, CertificateError> {
        der::pem::encode_string(PEM_LABEL, LineEnding::LF, &self.der).map_err(|_| CertificateError::Pem)
    }

    /// The certificate's bytes.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER: what people compare to tell roots apart.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The subject's name in the notation of RFC 4514.
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// The issuer's name in the notation of RFC 4514.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// The subject's key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// First moment of validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.parsed.tbs_certificate().validity().not_before.to_system_time()
    }

    /// Last moment of validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.parsed.tbs_certificate().validity().not_after.to_system_time()
    }

    /// True if the certificate says that its subject may issue certificates.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.constraints.as_ref().is_some_and(|constraints| constraints.ca)
    }

    /// How many authorities may follow below this one; `None` is any number.
    #[must_use]
    pub fn path_length(&self) -> Option<u8> {
        self.constraints.as_ref().and_then(|constraints| constraints.path_len_constraint)
    }

    /// True if the subject's key may sign certificates.
    #[must_use]
    pub fn may_sign_certificates(&self) -> bool {
        self.usage.is_some_and(|usage| usage.key_cert_sign())
    }

    /// True if the subject's key may sign documents.
    #[must_use]
    pub fn may_sign_documents(&self) -> bool {
        self.usage.is_some_and(|usage| usage.digital_signature())
    }

    /// True if `issuer`'s key made this certificate's signature.
    ///
    /// Says nothing of whether it was allowed to: that is [`crate::path`].
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let Ok(signed) = self.parsed.tbs_certificate().to_der() else { return false };
        let Some(signature) = self.parsed.signature().as_bytes() else { return false };
        let Ok(signature) = DerSignature::try_from(signature) else { return false };
        issuer.public_key.verify(&signed, &signature).is_ok()
    }

    /// True if this certificate names the other's subject as its issuer.
    #[must_use]
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.parsed.tbs_certificate().issuer() == issuer.parsed.tbs_certificate().subject()
    }

    /// The name of the subject, for certificates that it issues.
    pub(crate) fn subject_name(&self) -> &x509_cert::name::Name {
        self.parsed.tbs_certificate().subject()
    }

    /// The identifier that the certificate gives its subject's key.
    pub(crate) fn key_identifier(&self) -> Option<&[u8]> {
        self.key_identifier.as_deref()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("subject", &self.subject()).finish_non_exhaustive()
    }
}

/// Decodes `der`, refusing every encoding but the one that we would write ourselves.
///
/// The signature of a certificate can then be checked over the re-encoded value: it is the same bytes.
fn strict<'a, T: Decode<'a> + Encode>(der: &'a [u8]) -> Option<T> {
    let value = T::from_der(der).ok()?;
    (value.to_der().ok()? == der).then_some(value)
}

fn is_ecdsa_with_sha384(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.oid == ECDSA_WITH_SHA_384 && algorithm.parameters.is_none()
}

/// The extension of type `T`, if it is there.
fn extension<T>(certificate: &x509_cert::Certificate) -> Result<Option<T>, CertificateError>
where
    T: for<'a> Decode<'a> + Encode + AssociatedOid,
{
    let extensions = certificate.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
    let mut found = extensions.iter().filter(|extension| extension.extn_id == T::OID);
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(extension), None) => {
            strict(extension.extn_value.as_bytes()).map(Some).ok_or(CertificateError::Extension)
        }
        (Some(_), Some(_)) => Err(CertificateError::Extension),
    }
}

fn refuse_unknown_critical_extensions(certificate: &x509_cert::Certificate) -> Result<(), CertificateError> {
    let understood = [BasicConstraints::OID, KeyUsage::OID];
    let extensions = certificate.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
    if extensions.iter().any(|extension| extension.critical && !understood.contains(&extension.extn_id)) {
        return Err(CertificateError::UnknownCriticalExtension);
    }
    Ok(())
}
