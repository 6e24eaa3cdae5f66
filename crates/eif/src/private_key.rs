//! The keys that make signatures over images.
//!
//! They come as PEM, in the form of SEC 1 ("EC PRIVATE KEY", RFC 5915) or PKCS#8 ("PRIVATE KEY", RFC 5958), and sign
//! deterministically (RFC 6979): the same key over the same image gives the same signature, so signed images can be
//! reproduced too.

use core::fmt;

use der::{Decode, pem};
use ecdsa::signature::Signer;
use p256::pkcs8::PrivateKeyInfoRef;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::certificate::pem_block;
use crate::key::{Algorithm, EC_PUBLIC_KEY, PublicKey, key_kind};

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
