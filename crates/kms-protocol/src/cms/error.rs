//! What can be wrong with an envelope and with a recipient's key.

use thiserror::Error;

/// Why an envelope cannot be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CmsError {
    /// The plaintext to be sealed is too long.
    #[error("the plaintext is longer than {} bytes", super::MAX_PLAINTEXT)]
    Size,
    /// The random number generator failed.
    #[error("the random number generator failed")]
    Random,
    /// The bytes are no envelope of the one form that key services answer with.
    #[error("not an envelope of a key service: {0}")]
    Structure(&'static str),
    /// The envelope does not open with this key. Deliberately says no more: a reason would help who sends
    /// changed envelopes to learn the plaintext.
    #[error("the envelope does not open with this key")]
    Unopenable,
}

/// Why a public key is not taken for a recipient's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecipientKeyError {
    /// Not a SubjectPublicKeyInfo in DER.
    #[error("the public key is not a SubjectPublicKeyInfo in DER")]
    Encoding,
    /// A key of another algorithm than RSA.
    #[error("the public key is not an RSA key")]
    Algorithm,
    /// A modulus too small or too large.
    #[error(
        "the RSA modulus must have {} to {} bits",
        super::recipient::MIN_MODULUS_BITS,
        super::recipient::MAX_MODULUS_BITS
    )]
    Modulus,
    /// An exponent even, too small or too large.
    #[error("the RSA exponent must be odd and from 65537 to 2^33-1")]
    Exponent,
    /// The numbers are no RSA key.
    #[error("the numbers in the public key are no RSA key")]
    Numbers,
}
