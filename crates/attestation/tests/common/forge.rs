//! Certificates of any shape, signed with any key: what an attacker could make.

use std::time::{Duration, SystemTime};

use attestation::certificate::{Certificate, CertificateError};
use attestation::key::PrivateKey;
use der::asn1::OctetString;
use der::flagset::FlagSet;
use der::{Encode, oid::ObjectIdentifier};
use p384::ecdsa::{DerSignature, SigningKey};
use p384::pkcs8::DecodePrivateKey;
use x509_cert::TbsCertificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

/// What is to be written into a certificate. Begin with [`Forgery::authority`] or [`Forgery::leaf`] and change it.
#[derive(Clone)]
pub(crate) struct Forgery {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) constraints: Option<BasicConstraints>,
    pub(crate) usage: Option<FlagSet<KeyUsages>>,
    pub(crate) validity: (SystemTime, SystemTime),
    pub(crate) extra: Vec<Extension>,
}

impl Forgery {
    pub(crate) fn authority(subject: &str, issuer: &str, path_length: Option<u8>) -> Self {
        let now = super::now();
        Self {
            subject: subject.into(),
            issuer: issuer.into(),
            constraints: Some(BasicConstraints { ca: true, path_len_constraint: path_length }),
            usage: Some(KeyUsages::KeyCertSign.into()),
            validity: (now - Duration::from_secs(600), now + Duration::from_secs(86400)),
            extra: Vec::new(),
        }
    }

    pub(crate) fn leaf(issuer: &str) -> Self {
        Self {
            constraints: Some(BasicConstraints { ca: false, path_len_constraint: None }),
            usage: Some(KeyUsages::DigitalSignature.into()),
            ..Self::authority("leaf", issuer, None)
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The certificate for `subject`'s key, signed with `issuer`'s.
    pub(crate) fn der(self, subject: &PrivateKey, issuer: &PrivateKey) -> Vec<u8> {
        let key = SubjectPublicKeyInfoOwned::from_key(subject.public_key()).unwrap();
        self.der_for(key, issuer)
    }

    pub(crate) fn der_for(self, key: SubjectPublicKeyInfoOwned, issuer: &PrivateKey) -> Vec<u8> {
        let signer = SigningKey::from_pkcs8_der(&issuer.to_pkcs8_der().unwrap()).unwrap();
        let (start, end) = self.validity;
        let validity = Validity::new(Time::try_from(start).unwrap(), Time::try_from(end).unwrap());
        let builder = CertificateBuilder::new(self, SerialNumber::from(1_u32), validity, key).unwrap();
        builder.build::<_, DerSignature>(&signer).unwrap().to_der().unwrap()
    }

    pub(crate) fn make(self, subject: &PrivateKey, issuer: &PrivateKey) -> Certificate {
        self.try_make(subject, issuer).unwrap()
    }

    pub(crate) fn try_make(
        self,
        subject: &PrivateKey,
        issuer: &PrivateKey,
    ) -> Result<Certificate, CertificateError> {
        Certificate::from_der(&self.der(subject, issuer))
    }
}

/// An extension that nobody knows, with content of `length` bytes.
pub(crate) fn unknown_extension(critical: bool, length: usize) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1"),
        critical,
        extn_value: OctetString::new(vec![0; length]).unwrap(),
    }
}

impl BuilderProfile for Forgery {
    fn get_issuer(&self, _subject: &Name) -> Name {
        format!("CN={}", self.issuer).parse().unwrap()
    }

    fn get_subject(&self) -> Name {
        format!("CN={}", self.subject).parse().unwrap()
    }

    fn build_extensions(
        &self,
        _subject_key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        certificate: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let subject = certificate.subject();
        let none: &[Extension] = &[];
        let mut extensions = Vec::new();
        if let Some(constraints) = self.constraints.clone() {
            extensions.push(constraints.to_extension(subject, none)?);
        }
        if let Some(usage) = self.usage {
            extensions.push(KeyUsage(usage).to_extension(subject, none)?);
        }
        extensions.extend(self.extra.iter().cloned());
        Ok(extensions)
    }
}
