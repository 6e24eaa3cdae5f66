//! The certificate an image is signed with: what PCR 8 measures and what the signature is checked against.
//!
//! It stands in the image as a PEM file. No chain is asked for: it is the operator who says which certificate counts.

use std::time::SystemTime;

use attestation::pcr::Pcr;
use der::asn1::ObjectIdentifier;
use der::{Decode, pem};
use sha2::{Digest, Sha384};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::time::Time;

const PEM_LABEL: &str = "CERTIFICATE";

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No PEM certificate in it.
    #[error("the signing certificate is not a PEM file with a certificate in it")]
    Pem,
    /// What the PEM holds is no X.509 certificate.
    #[error("the signing certificate is not valid X.509: {0}")]
    Der(der::Error),
    /// The time asked about lies before its validity.
    #[error("the signing certificate is not valid before {not_before}; check this machine's clock")]
    NotYetValid {
        /// Start of its validity.
        not_before: String,
    },
    /// The time asked about lies after its validity.
    #[error("the signing certificate expired at {not_after}; sign the image with a new one")]
    Expired {
        /// End of its validity.
        not_after: String,
    },
}

/// A signing certificate that has been parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningCertificate {
    der: Vec<u8>,
    parsed: Certificate,
}

impl SigningCertificate {
    /// Reads the first certificate of a PEM file; text around it is ignored.
    ///
    /// # Errors
    /// If there is none or it is not valid X.509.
    pub fn from_pem(file: &[u8]) -> Result<Self, CertificateError> {
        let block = pem_block(file, PEM_LABEL).ok_or(CertificateError::Pem)?;
        let mut der = Vec::new();
        pem::Decoder::new_detect_wrap(block)
            .and_then(|mut decoder| decoder.decode_to_end(&mut der).map(drop))
            .map_err(|_| CertificateError::Pem)?;
        Self::from_der(der)
    }

    /// Reads a certificate as DER.
    ///
    /// # Errors
    /// If it is not valid X.509.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let parsed = Certificate::from_der(&der).map_err(CertificateError::Der)?;
        Ok(Self { der, parsed })
    }

    /// The certificate as DER, as it stands in the file.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM, as OpenSSL writes it: what an image carries. Whatever else stood in the file it was read
    /// from (a private key, say) is not in it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // Encoding to memory cannot fail: the label is fixed and the length known.
        pem::encode_string(PEM_LABEL, pem::LineEnding::LF, &self.der).unwrap_or_default()
    }

    /// PCR 8 of an image signed with it.
    #[must_use]
    pub fn pcr8(&self) -> Pcr {
        Pcr::measuring(&Sha384::digest(&self.der).into())
    }

    /// Checks that it is valid at this time.
    ///
    /// # Errors
    /// If it is not valid yet, or no longer.
    pub fn check_dates(&self, at: SystemTime) -> Result<(), CertificateError> {
        let validity = self.parsed.tbs_certificate().validity();
        if at < validity.not_before.to_system_time() {
            return Err(CertificateError::NotYetValid { not_before: date_text(&validity.not_before) });
        }
        if at > validity.not_after.to_system_time() {
            return Err(CertificateError::Expired { not_after: date_text(&validity.not_after) });
        }
        Ok(())
    }

    /// The parsed certificate.
    #[must_use]
    pub fn parsed(&self) -> &Certificate {
        &self.parsed
    }

    /// Issuer's attributes by their long names, in the certificate's order.
    pub fn issuer(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.parsed.tbs_certificate().issuer().iter().map(|attribute| {
            (attribute_name(attribute.oid), String::from_utf8_lossy(attribute.value.value()).into_owned())
        })
    }

    /// Long name of the algorithm it is signed with.
    #[must_use]
    pub fn algorithm(&self) -> String {
        algorithm_name(self.parsed.signature_algorithm().oid)
    }

    /// Start and end of its validity as OpenSSL prints them: `Jan  1 00:00:00 2026 GMT`.
    #[must_use]
    pub fn validity(&self) -> (String, String) {
        let validity = self.parsed.tbs_certificate().validity();
        (date_text(&validity.not_before), date_text(&validity.not_after))
    }

    /// The bytes of the signature on it.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.parsed.signature().raw_bytes()
    }
}

/// The first block with this label of a PEM file (RFC 7468), markers included.
pub(crate) fn pem_block<'f>(file: &'f [u8], label: &str) -> Option<&'f [u8]> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let from_begin = file.get(find(file, begin.as_bytes())?..)?;
    let end = find(from_begin, end.as_bytes())?.checked_add(end.len())?;
    from_begin.get(..end)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn date_text(time: &Time) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = time.to_date_time();
    let month = usize::from(date.month()).checked_sub(1).and_then(|month| MONTHS.get(month)).unwrap_or(&"");
    let (day, year) = (date.day(), date.year());
    format!("{month} {day:2} {:02}:{:02}:{:02} {year} GMT", date.hour(), date.minutes(), date.seconds())
}

/// Long names as OpenSSL's tables have them; others are written as dotted numbers.
fn attribute_name(oid: ObjectIdentifier) -> String {
    let dotted = oid.to_string();
    match dotted.as_str() {
        "2.5.4.3" => "commonName",
        "2.5.4.4" => "surname",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "countryName",
        "2.5.4.7" => "localityName",
        "2.5.4.8" => "stateOrProvinceName",
        "2.5.4.9" => "streetAddress",
        "2.5.4.10" => "organizationName",
        "2.5.4.11" => "organizationalUnitName",
        "2.5.4.12" => "title",
        "2.5.4.42" => "givenName",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "0.9.2342.19200300.100.1.1" => "userId",
        "0.9.2342.19200300.100.1.25" => "domainComponent",
        _ => return dotted,
    }
    .to_owned()
}

fn algorithm_name(oid: ObjectIdentifier) -> String {
    let dotted = oid.to_string();
    match dotted.as_str() {
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.3.101.112" => "ED25519",
        "1.3.101.113" => "ED448",
        _ => return dotted,
    }
    .to_owned()
}
