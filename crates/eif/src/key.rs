//! The keys that sign images: on P-256, P-384 or P-521, each with its one COSE algorithm.
//!
//! Private keys come as PEM, in the form of SEC 1 ("EC PRIVATE KEY", RFC 5915) or PKCS#8 ("PRIVATE KEY", RFC 5958). They sign
//! deterministically (RFC 6979): the same key over the same image gives the same signature, so signed images can be
//! reproduced too. Algorithms and lengths of signatures: RFC 9053, section 2.1.

use core::fmt;

use coset::iana;
use der::asn1::ObjectIdentifier;
use der::{Decode, pem};
use ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::PrivateKeyInfoRef;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::certificate::{SigningCertificate, pem_block};

/// `id-ecPublicKey` (RFC 5480).
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
/// `rsaEncryption` (RFC 8017) and `id-RSASSA-PSS`.
const RSA: [&str; 2] = ["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"];
const ED25519: &str = "1.3.101.112";
const ED448: &str = "1.3.101.113";

/// How an image is signed; the curve of the key decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
}

impl Algorithm {
    /// Its name in the COSE registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The hash that goes with it, as OpenSSL's command line names it.
    #[must_use]
    pub const fn hash(self) -> &'static str {
        match self {
            Self::Es256 => "sha256",
            Self::Es384 => "sha384",
            Self::Es512 => "sha512",
        }
    }

    /// Bytes of a signature: two numbers of the field's length.
    #[must_use]
    pub const fn signature_length(self) -> usize {
        match self {
            Self::Es256 => 64,
            Self::Es384 => 96,
            Self::Es512 => 132,
        }
    }

    pub(crate) const fn cose(self) -> iana::Algorithm {
        match self {
            Self::Es256 => iana::Algorithm::ES256,
            Self::Es384 => iana::Algorithm::ES384,
            Self::Es512 => iana::Algorithm::ES512,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The public key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// The key of a certificate; else what kind of key it has.
    pub(crate) fn of(certificate: &SigningCertificate) -> Result<Self, String> {
        let info = certificate.parsed().tbs_certificate().subject_public_key_info();
        let kind = info.algorithm.oid.to_string();
        if kind != EC_PUBLIC_KEY {
            return Err(key_kind(&kind));
        }
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.decode_as().ok());
        let curve: ObjectIdentifier = curve.ok_or("on a curve without a name")?;
        let point = info.subject_public_key.raw_bytes();
        match curve.to_string().as_str() {
            "1.2.840.10045.3.1.7" => p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Self::P256),
            "1.3.132.0.34" => p384::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Self::P384),
            "1.3.132.0.35" => p521::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Self::P521),
            other => return Err(format!("on curve {other}")),
        }
        .map_err(|_| "not a point on its curve".to_owned())
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::Es256,
            Self::P384(_) => Algorithm::Es384,
            Self::P521(_) => Algorithm::Es512,
        }
    }

    /// True if this key made `signature`, r and s of the field's length each, over `data`.
    pub(crate) fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|s| key.verify(data, &s).is_ok())
            }
            Self::P384(key) => {
                p384::ecdsa::Signature::from_slice(signature).is_ok_and(|s| key.verify(data, &s).is_ok())
            }
            Self::P521(key) => {
                p521::ecdsa::Signature::from_slice(signature).is_ok_and(|s| key.verify(data, &s).is_ok())
            }
        }
    }

    /// A signature in DER (`Ecdsa-Sig-Value`, RFC 3279) as r and s of the field's length each.
    pub(crate) fn signature_from_der(&self, der: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256(_) => p256::ecdsa::Signature::from_der(der).ok().map(|s| s.to_vec()),
            Self::P384(_) => p384::ecdsa::Signature::from_der(der).ok().map(|s| s.to_vec()),
            Self::P521(_) => p521::ecdsa::Signature::from_der(der).ok().map(|s| s.to_vec()),
        }
    }
}

/// Words for a key that cannot sign images.
fn key_kind(oid: &str) -> String {
    match oid {
        _ if RSA.contains(&oid) => "RSA".to_owned(),
        ED25519 => "Ed25519".to_owned(),
        ED448 => "Ed448".to_owned(),
        _ => format!("of kind {oid}"),
    }
}

/// Why a file is not a key that can sign images.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No private key in it.
    #[error("the signing key is not a PEM file with a private key in it")]
    Pem,
    /// The key is encrypted.
    #[error(
        "the signing key is encrypted, and no password is asked for; decrypt it (`openssl pkey -in KEY -out PLAIN`) into a \
         place that only you can read, or sign elsewhere and attach the signature"
    )]
    Encrypted,
    /// The key is of a kind that does not sign images.
    #[error("the signing key is {0}; images are signed with keys on P-256, P-384 or P-521")]
    Kind(String),
    /// The key is damaged, or on another curve.
    #[error("the signing key is not a readable key on P-256, P-384 or P-521")]
    Unreadable,
}

/// A private key that signs images. Wiped from memory when dropped; never printed.
pub struct PrivateKey(Keys);

/// Boxed, so that moving a key copies a pointer and leaves no second key behind.
enum Keys {
    P256(Box<p256::ecdsa::SigningKey>),
    P384(Box<p384::ecdsa::SigningKey>),
    P521(Box<p521::ecdsa::SigningKey>),
}

impl PrivateKey {
    /// Reads the first private key of a PEM file; text and other blocks around it (parameters, a certificate) are
    /// ignored.
    ///
    /// # Errors
    /// If there is none, or it is encrypted, of another kind, or damaged.
    pub fn from_pem(file: &[u8]) -> Result<Self, KeyError> {
        if pem_block(file, "ENCRYPTED PRIVATE KEY").is_some() {
            return Err(KeyError::Encrypted);
        }
        if let Some(block) = pem_block(file, "PRIVATE KEY") {
            return Self::from_pkcs8(&decode_pem(block)?);
        }
        if let Some(block) = pem_block(file, "EC PRIVATE KEY") {
            // RFC 1421: such a block has header lines, which name the cipher.
            if block.windows(b"ENCRYPTED".len()).any(|window| window == b"ENCRYPTED") {
                return Err(KeyError::Encrypted);
            }
            let der = decode_pem(block)?;
            return Self::on_its_curve(
                || p256::SecretKey::from_sec1_der(&der).ok(),
                || p384::SecretKey::from_sec1_der(&der).ok(),
                || p521::SecretKey::from_sec1_der(&der).ok(),
            );
        }
        for (label, kind) in [("RSA PRIVATE KEY", "RSA"), ("DSA PRIVATE KEY", "DSA")] {
            if pem_block(file, label).is_some() {
                return Err(KeyError::Kind(kind.to_owned()));
            }
        }
        Err(KeyError::Pem)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = || PrivateKeyInfoRef::from_der(der).map_err(|_| KeyError::Unreadable);
        let kind = info()?.algorithm.oid.to_string();
        if kind != EC_PUBLIC_KEY {
            return Err(KeyError::Kind(key_kind(&kind)));
        }
        Self::on_its_curve(
            || p256::SecretKey::try_from(info().ok()?).ok(),
            || p384::SecretKey::try_from(info().ok()?).ok(),
            || p521::SecretKey::try_from(info().ok()?).ok(),
        )
    }

    /// Each closure succeeds for a key on its curve alone.
    fn on_its_curve(
        p256: impl FnOnce() -> Option<p256::SecretKey>,
        p384: impl FnOnce() -> Option<p384::SecretKey>,
        p521: impl FnOnce() -> Option<p521::SecretKey>,
    ) -> Result<Self, KeyError> {
        let keys = p256()
            .map(|key| Keys::P256(Box::new((&key).into())))
            .or_else(|| p384().map(|key| Keys::P384(Box::new((&key).into()))))
            .or_else(|| p521().map(|key| Keys::P521(Box::new((&key).into()))));
        keys.map(Self).ok_or(KeyError::Unreadable)
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        match &self.0 {
            Keys::P256(key) => PublicKey::P256(*key.verifying_key()),
            Keys::P384(key) => PublicKey::P384(*key.verifying_key()),
            Keys::P521(key) => PublicKey::P521(*key.verifying_key()),
        }
    }

    /// The algorithm it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public_key().algorithm()
    }

    /// Signs `data`: r and s of the field's length each, the same for the same data.
    #[must_use]
    pub fn sign(&self, data: &[u8]) -> Vec<u8> {
        match &self.0 {
            Keys::P256(key) => Signer::<p256::ecdsa::Signature>::sign(&**key, data).to_vec(),
            Keys::P384(key) => Signer::<p384::ecdsa::Signature>::sign(&**key, data).to_vec(),
            Keys::P521(key) => Signer::<p521::ecdsa::Signature>::sign(&**key, data).to_vec(),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, ..)", self.algorithm())
    }
}

/// The content of a PEM block, wiped when dropped.
fn decode_pem(block: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // As long as the text: it never grows, which would leave a copy behind.
    let mut der = Zeroizing::new(Vec::with_capacity(block.len()));
    pem::Decoder::new_detect_wrap(block)
        .and_then(|mut decoder| decoder.decode_to_end(&mut der).map(drop))
        .map_err(|_| KeyError::Unreadable)?;
    Ok(der)
}
