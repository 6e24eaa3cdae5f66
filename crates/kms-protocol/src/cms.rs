//! CMS EnvelopedData (RFC 5652, section 6) as a key service answers an enclave.

mod error;
mod recipient;

pub use error::{CmsError, RecipientKeyError};
pub use recipient::{MAX_MODULUS_BITS, MIN_MODULUS_BITS, RecipientKey};

use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

/// How an envelope is written. Both mean the same; many clients read only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Indefinite lengths where AWS KMS has them.
    #[default]
    Ber,
    /// Definite lengths everywhere.
    Der,
}

/// Seals a plaintext for the holder of the recipient's private key.
///
/// # Errors
/// [`CmsError::Random`] if the generator fails, [`CmsError::Size`] for a plaintext longer than [`MAX_PLAINTEXT`].
pub fn seal<R: TryCryptoRng>(
    recipient: &RecipientKey,
    plaintext: &[u8],
    encoding: Encoding,
    rng: &mut R,
) -> Result<Vec<u8>, CmsError> {
    let _ = (recipient, plaintext, encoding, rng);
    Err(CmsError::Unopenable)
}

/// Opens an envelope of either encoding.
///
/// # Errors
/// [`CmsError::Structure`] says what is wrong with the envelope's form. Everything that goes wrong after that, be it a wrong key, a
/// changed byte or padding, is [`CmsError::Unopenable`].
pub fn open(key: &rsa::RsaPrivateKey, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
    let _ = (key, cms);
    Err(CmsError::Unopenable)
}

/// Bytes of a plaintext: a private key of RSA 4096 in PKCS#8 has 2,376, random bytes are 1,024 at most.
pub const MAX_PLAINTEXT: usize = 16 * 1024;
