//! A certificate authority for one service, and the service's certificate.
//!
//! Clients trust the authority's certificate (`AWS_CA_BUNDLE`); an image that holds it is measured with it. Its key is needed only to issue
//! another certificate for the service. Curve P-256, which every TLS library has. Profile: RFC 5280, with the names where RFC 9525 looks
//! for them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use getrandom::SysRng;
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use rand_core::TryRng;
use rustls::pki_types::DnsName;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_cert::TbsCertificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Error as BuilderError};
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::der::{self, EncodePem};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};
use zeroize::Zeroizing;

/// Names that a certificate has in any case.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long both certificates are valid: clients in images hold the authority's, and are measured with it.
const LIFETIME: Duration = Duration::from_secs(10 * 31_557_600);
/// How long before their making they begin to be valid, for clients whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Bytes of a serial number, of which 127 bits are random.
const SERIAL_LEN: usize = 16;
/// Bytes of a key identifier: RFC 7093 section 2 method 1, the beginning of a SHA-256.
const KEY_IDENTIFIER_LEN: usize = 20;
const ORGANISATION: &str = "OU=Key service,O=Enclave Hypervisor";

/// Certificates and keys in PEM.
pub struct Made {
    /// What clients trust.
    pub authority: String,
    /// Its key (PKCS#8).
    pub authority_key: Zeroizing<String>,
    /// The service's certificate.
    pub certificate: String,
    /// Its key (PKCS#8).
    pub key: Zeroizing<String>,
}

impl core::fmt::Debug for Made {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Made").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// Why certificates could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// A name is neither.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The random number generator failed.
    #[error("no randomness: the random number generator failed")]
    Randomness,
    /// The clock shows a time that certificates cannot express.
    #[error("the clock is outside the years 1970 to 9999; set it")]
    Clock,
    /// Something could not be encoded.
    #[error("the certificate could not be encoded")]
    Encode,
}

/// Makes an authority and a certificate for `localhost`, its addresses and `names`.
///
/// # Errors
/// If a name is none, or randomness or the clock fail.
pub fn make(names: &[String], now: SystemTime) -> Result<Made, CertificateError> {
    let names: Vec<&str> = LOCAL_NAMES.into_iter().chain(names.iter().map(String::as_str)).collect();
    let alternative: Result<Vec<_>, _> = names.iter().map(|name| general_name(name)).collect();
    let (authority_key, key) = (generate()?, generate()?);
    let authority = Profile {
        subject: subject(&format!("Authority {}", fingerprint(&authority_key)))?,
        issuer: None,
        names: None,
        key: *authority_key.verifying_key(),
    };
    let service = Profile {
        subject: subject(&format!("Service {}", fingerprint(&key)))?,
        issuer: Some((authority.subject.clone(), key_identifier(&authority.key)?)),
        names: Some(SubjectAltName(alternative?)),
        key: *key.verifying_key(),
    };
    Ok(Made {
        authority: issue(authority, &authority_key, now)?,
        certificate: issue(service, &authority_key, now)?,
        authority_key: pem(&authority_key)?,
        key: pem(&key)?,
    })
}

fn general_name(name: &str) -> Result<GeneralName, CertificateError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(GeneralName::from(address));
    }
    let wrong = || CertificateError::Name(name.to_owned());
    DnsName::try_from(name).map_err(|_| wrong())?;
    Ia5String::new(name).map(GeneralName::DnsName).map_err(|_| wrong())
}

fn generate() -> Result<SigningKey, CertificateError> {
    SigningKey::try_generate_from_rng(&mut SysRng).map_err(|_| CertificateError::Randomness)
}

fn pem(key: &SigningKey) -> Result<Zeroizing<String>, CertificateError> {
    key.to_pkcs8_pem(LineEnding::LF).map_err(|_| CertificateError::Encode)
}

fn subject(common_name: &str) -> Result<Name, CertificateError> {
    format!("CN={common_name},{ORGANISATION}").parse().map_err(|_| CertificateError::Encode)
}

/// A part of a key's hash, which tells services apart.
fn fingerprint(key: &SigningKey) -> String {
    let hash = key_hash(key.verifying_key());
    hex::encode(hash.get(..8).unwrap_or(&hash))
}

fn key_hash(key: &VerifyingKey) -> [u8; 32] {
    Sha256::digest(key.to_sec1_point(false).as_bytes()).into()
}

fn key_identifier(key: &VerifyingKey) -> Result<OctetString, CertificateError> {
    let hash = key_hash(key);
    let beginning = hash.get(..KEY_IDENTIFIER_LEN).unwrap_or(&hash);
    OctetString::new(beginning).map_err(|_| CertificateError::Encode)
}

fn issue(profile: Profile, issuer: &SigningKey, now: SystemTime) -> Result<String, CertificateError> {
    let time = |time: Option<SystemTime>| {
        time.and_then(|time| Time::try_from(time).ok()).ok_or(CertificateError::Clock)
    };
    let validity = Validity::new(time(now.checked_sub(BACKDATE))?, time(now.checked_add(LIFETIME))?);
    let mut serial = [0; SERIAL_LEN];
    SysRng.try_fill_bytes(&mut serial).map_err(|_| CertificateError::Randomness)?;
    // Positive, and of this length.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let build = || -> Result<String, BuilderError> {
        let key = SubjectPublicKeyInfoOwned::from_key(&profile.key)?;
        let builder = CertificateBuilder::new(profile, SerialNumber::new(&serial)?, validity, key)?;
        Ok(builder.build::<_, DerSignature>(issuer)?.to_pem(LineEnding::LF)?)
    };
    build().map_err(|_| CertificateError::Encode)
}

/// One of the two certificates.
struct Profile {
    subject: Name,
    /// The authority, and its key's identifier; `None` in the authority's own.
    issuer: Option<(Name, OctetString)>,
    /// `None` in the authority's.
    names: Option<SubjectAltName>,
    key: VerifyingKey,
}

impl Profile {
    fn extensions(&self) -> Result<Vec<Extension>, der::Error> {
        let none: &[Extension] = &[];
        let authority = self.names.is_none();
        let constraints = BasicConstraints { ca: authority, path_len_constraint: authority.then_some(0) };
        let usage = if authority {
            KeyUsages::KeyCertSign | KeyUsages::CRLSign
        } else {
            KeyUsages::DigitalSignature.into()
        };
        let identifier = key_identifier(&self.key).map_err(|_| der::ErrorKind::Failed)?;
        let mut constraints = constraints.to_extension(&self.subject, none)?;
        constraints.critical = true;
        let mut usage = KeyUsage(usage).to_extension(&self.subject, none)?;
        usage.critical = true;
        let mut extensions =
            vec![constraints, usage, SubjectKeyIdentifier(identifier).to_extension(&self.subject, none)?];
        if let Some((_, identifier)) = &self.issuer {
            let issuer = AuthorityKeyIdentifier {
                key_identifier: Some(identifier.clone()),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push(issuer.to_extension(&self.subject, none)?);
        }
        if let Some(names) = &self.names {
            extensions.push(names.to_extension(&self.subject, none)?);
            let server = const_oid::db::rfc5280::ID_KP_SERVER_AUTH;
            extensions.push(ExtendedKeyUsage(vec![server]).to_extension(&self.subject, none)?);
        }
        Ok(extensions)
    }
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, subject: &Name) -> Name {
        self.issuer.as_ref().map_or_else(|| subject.clone(), |(name, _)| name.clone())
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _subject_key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _certificate: &TbsCertificate,
    ) -> Result<Vec<Extension>, BuilderError> {
        self.extensions().map_err(BuilderError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_gets_no_certificate() {
        for name in ["", "a b", "-a", "https://a", "a..b", "127.0.0.1:8443", "kms.example.org,other"] {
            let error = make(&[name.to_owned()], SystemTime::now()).unwrap_err();
            assert_eq!(error, CertificateError::Name(name.to_owned()));
        }
    }

    #[test]
    fn a_clock_before_1970_makes_no_certificate() {
        let error = make(&[], SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(error, CertificateError::Clock);
    }
}
