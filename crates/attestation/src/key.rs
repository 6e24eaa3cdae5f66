//! P-384 keys: the only kind that documents and certificates here are signed with.

use core::fmt;

use p384::ecdsa::SigningKey;
use p384::elliptic_curve::Generate;
use p384::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rand_core::TryCryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// A P-384 public key that signatures are checked with.
pub use p384::ecdsa::VerifyingKey as PublicKey;

/// A P-384 private key. Wiped from memory when dropped; never printed. Boxed, so that moving it copies a pointer and leaves no
/// second key behind.
pub struct PrivateKey(Box<SigningKey>);

/// A key that could not be made, read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The random number generator failed.
    #[error("no randomness for a new key: the random number generator failed")]
    Randomness,
    /// The bytes or the text are not a PKCS#8 P-384 key.
    #[error("not an unencrypted PKCS#8 private key on curve P-384")]
    NotAPrivateKey,
    /// The key could not be encoded.
    #[error("the private key could not be encoded as PKCS#8")]
    Encode,
}

impl PrivateKey {
    /// Makes a new key from `rng`.
    ///
    /// # Errors
    /// [`KeyError::Randomness`] if the generator fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, KeyError> {
        SigningKey::try_generate_from_rng(rng).map(Self::boxed).map_err(|_| KeyError::Randomness)
    }

    /// Reads the DER form that [`Self::to_pkcs8_der`] writes.
    ///
    /// # Errors
    /// [`KeyError::NotAPrivateKey`] for anything else.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_der(der).map(Self::boxed).map_err(|_| KeyError::NotAPrivateKey)
    }

    /// Reads the PEM form ("BEGIN PRIVATE KEY").
    ///
    /// # Errors
    /// [`KeyError::NotAPrivateKey`] for anything else.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem).map(Self::boxed).map_err(|_| KeyError::NotAPrivateKey)
    }

    /// The key as PKCS#8 DER, wiped when dropped.
    ///
    /// # Errors
    /// [`KeyError::Encode`]; not known to happen.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.0.to_pkcs8_der().map(|document| document.to_bytes()).map_err(|_| KeyError::Encode)
    }

    /// The key as PKCS#8 PEM, wiped when dropped.
    ///
    /// # Errors
    /// [`KeyError::Encode`]; not known to happen.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Encode)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.0.verifying_key()
    }

    fn boxed(key: SigningKey) -> Self {
        Self(Box::new(key))
    }

    /// The key as the signer that p384 knows.
    pub(crate) fn signer(&self) -> &SigningKey {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;

    #[test]
    fn a_key_survives_both_encodings() {
        let key = PrivateKey::generate(&mut SysRng).unwrap();
        let from_der = PrivateKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
        let from_pem = PrivateKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        assert_eq!(from_der.public_key(), key.public_key());
        assert_eq!(from_pem.public_key(), key.public_key());
    }

    #[test]
    fn the_private_half_is_not_printed() {
        let key = PrivateKey::generate(&mut SysRng).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn what_is_not_a_p384_key_is_refused() {
        let key = PrivateKey::generate(&mut SysRng).unwrap();
        let mut der = key.to_pkcs8_der().unwrap();
        der.pop();
        assert_eq!(PrivateKey::from_pkcs8_der(&der).unwrap_err(), KeyError::NotAPrivateKey);
        assert_eq!(PrivateKey::from_pkcs8_der(&[]).unwrap_err(), KeyError::NotAPrivateKey);
        assert_eq!(PrivateKey::from_pkcs8_pem("").unwrap_err(), KeyError::NotAPrivateKey);
    }

    #[test]
    fn a_failing_generator_makes_no_key() {
        struct Broken;
        impl rand_core::TryRng for Broken {
            type Error = core::fmt::Error;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Err(core::fmt::Error)
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Err(core::fmt::Error)
            }
            fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
                Err(core::fmt::Error)
            }
        }
        impl TryCryptoRng for Broken {}
        assert_eq!(PrivateKey::generate(&mut Broken).unwrap_err(), KeyError::Randomness);
    }
}
