//! What our certificates look like.
//!
//! The profile of AWS's chains, so that verifiers written for those accept ours, with three differences:
//! subjects name this project and can never be mistaken for AWS's; there are no CRL distribution points,
//! for nobody serves one; and every certificate below the root says which key issued it, as RFC 5280 asks.

use std::time::SystemTime;

use der::asn1::OctetString;
use der::flagset::FlagSet;
use rand_core::TryCryptoRng;
use sha2::{Digest, Sha256};
use x509_cert::TbsCertificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Error as BuilderError};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::{Enclave, Host, Level, PkiError, Root};
use crate::certificate::Certificate;
use crate::identity::{EnclaveId, InstanceId};
use crate::key::{PrivateKey, PublicKey};

/// Organisation of every subject. AWS's say `O=Amazon, OU=AWS`; nothing here contains either name.
const ORGANISATION: &str = "OU=Self-issued root of trust,O=Enclave Hypervisor";
/// Bytes of a serial number: AWS's 16, of which 127 bits are random here.
const SERIAL_LEN: usize = 16;
/// Bytes of a key identifier: RFC 7093 section 2 method 1, the beginning of a SHA-256.
const KEY_IDENTIFIER_LEN: usize = 20;
/// Bytes of a key's hash in the root's name.
const NAME_HASH_LEN: usize = 8;

/// Which of the four certificates is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Root,
    Host,
    Enclave,
    Leaf,
}

/// One certificate to be issued.
pub(super) struct Order<'a> {
    pub(super) kind: Kind,
    pub(super) subject: Name,
    pub(super) public_key: &'a PublicKey,
    pub(super) issuer: Name,
    /// `None` in a root, which issues itself.
    pub(super) issuer_key_identifier: Option<Vec<u8>>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

pub(super) fn root_name(key: &PublicKey) -> Result<Name, PkiError> {
    let hash = key_hash(key);
    let beginning = hash.get(..NAME_HASH_LEN).unwrap_or(&hash);
    name(&format!("{}.root.enclave-hypervisor", hex::encode(beginning)))
}

pub(super) fn host_name(instance: &InstanceId) -> Result<Name, PkiError> {
    name(&format!("{instance}.host.enclave-hypervisor"))
}

pub(super) fn enclave_name(enclave: &EnclaveId) -> Result<Name, PkiError> {
    name(&format!("{}.ca.enclave-hypervisor", enclave.module_id()))
}

pub(super) fn leaf_name(enclave: &EnclaveId) -> Result<Name, PkiError> {
    name(&format!("{}.enclave-hypervisor", enclave.module_id()))
}

/// `common_name` must need no escaping: identities are made of letters, digits, dots and dashes.
fn name(common_name: &str) -> Result<Name, PkiError> {
    format!("CN={common_name},{ORGANISATION}").parse().map_err(|_| PkiError::Encode)
}

/// Issues the certificate that `order` describes, signed with `issuer_key`.
pub(super) fn issue<R: TryCryptoRng + ?Sized>(
    order: Order<'_>,
    issuer_key: &PrivateKey,
    rng: &mut R,
) -> Result<Certificate, PkiError> {
    let not_before = Time::try_from(order.not_before).map_err(|_| PkiError::Clock)?;
    let not_after = Time::try_from(order.not_after).map_err(|_| PkiError::Clock)?;
    let key = SubjectPublicKeyInfoOwned::from_key(order.public_key).map_err(|_| PkiError::Encode)?;
    let validity = Validity::new(not_before, not_after);
    let builder =
        CertificateBuilder::new(order, serial_number(rng)?, validity, key).map_err(|_| PkiError::Encode)?;
    let certificate =
        builder.build::<_, p384::ecdsa::DerSignature>(issuer_key.signer()).map_err(|_| PkiError::Encode)?;
    let der = der::Encode::to_der(&certificate).map_err(|_| PkiError::Encode)?;
    Ok(Certificate::from_der(&der)?)
}

/// A random positive number of exactly [`SERIAL_LEN`] bytes.
fn serial_number<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; SERIAL_LEN];
    rng.try_fill_bytes(&mut bytes).map_err(|_| PkiError::Randomness)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::new(&bytes).map_err(|_| PkiError::Encode)
}

fn key_hash(key: &PublicKey) -> [u8; 32] {
    Sha256::digest(key.to_sec1_point(false).as_bytes()).into()
}

fn key_identifier(key: &PublicKey) -> Result<OctetString, der::Error> {
    OctetString::new(&key_hash(key)[..KEY_IDENTIFIER_LEN])
}

impl Kind {
    fn constraints(self) -> BasicConstraints {
        let (ca, path_len_constraint) = match self {
            Self::Root => (true, Root::PATH_LENGTH),
            Self::Host => (true, Host::PATH_LENGTH),
            Self::Enclave => (true, Enclave::PATH_LENGTH),
            Self::Leaf => (false, None),
        };
        BasicConstraints { ca, path_len_constraint }
    }

    fn usage(self) -> FlagSet<KeyUsages> {
        match self {
            Self::Root | Self::Host => {
                KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign
            }
            Self::Enclave => KeyUsages::KeyCertSign.into(),
            Self::Leaf => KeyUsages::DigitalSignature | KeyUsages::NonRepudiation,
        }
    }
}

impl Order<'_> {
    fn extensions(&self) -> Result<Vec<Extension>, der::Error> {
        let none: &[Extension] = &[];
        let mut constraints = self.kind.constraints().to_extension(&self.subject, none)?;
        // RFC 5280 lets a leaf's be uncritical; AWS's is critical, and verifiers compare.
        constraints.critical = true;
        let mut usage = KeyUsage(self.kind.usage()).to_extension(&self.subject, none)?;
        usage.critical = self.kind != Kind::Leaf;
        let subject_key = SubjectKeyIdentifier(key_identifier(self.public_key)?);
        let mut extensions = vec![constraints, usage, subject_key.to_extension(&self.subject, none)?];
        if let Some(identifier) = &self.issuer_key_identifier {
            let issuer_key = AuthorityKeyIdentifier {
                key_identifier: Some(OctetString::new(identifier.as_slice())?),
                ..AuthorityKeyIdentifier::default()
            };
            extensions.push(issuer_key.to_extension(&self.subject, none)?);
        }
        Ok(extensions)
    }
}

impl BuilderProfile for Order<'_> {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
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
