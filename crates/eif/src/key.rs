//! The keys that images are signed with: on P-256, P-384 or P-521, each with its one COSE algorithm.
//!
//! Here the public half, which checks signatures; the other is in [`crate::private_key`]. Algorithms and lengths of signatures:
//! RFC 9053, section 2.1.

use core::fmt;

use coset::iana;
use der::asn1::ObjectIdentifier;
use ecdsa::signature::Verifier;

use crate::certificate::SigningCertificate;

/// `id-ecPublicKey` (RFC 5480).
pub(crate) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
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
pub(crate) fn key_kind(oid: &str) -> String {
    match oid {
        _ if RSA.contains(&oid) => "RSA".to_owned(),
        ED25519 => "Ed25519".to_owned(),
        ED448 => "Ed448".to_owned(),
        _ => format!("of kind {oid}"),
    }
}
