//! A certificate as this command shows it.

use attestation::certificate::Certificate;
use serde::Serialize;

use crate::time;

/// What people compare of a certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CertificateReport {
    /// The subject's name.
    pub(crate) subject: String,
    /// Start of its validity.
    pub(crate) not_before: String,
    /// End of its validity.
    pub(crate) not_after: String,
    /// SHA-256 of the DER.
    #[serde(rename = "SHA256")]
    pub(crate) sha256: String,
}

impl CertificateReport {
    /// Shows `certificate`.
    pub(crate) fn new(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject(),
            not_before: time::text(certificate.not_before()),
            not_after: time::text(certificate.not_after()),
            sha256: hex::encode(certificate.fingerprint()),
        }
    }
}
