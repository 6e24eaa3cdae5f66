//! The three NIST curves: private keys, their encodings, and Diffie-Hellman.
//!
//! A private key is its scalar, big-endian in the full width of the curve: that is what the store keeps of a key for agreement.

use p256::NistP256;
use p256::elliptic_curve::point::AffinePoint;
use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point, ValidatePublicKey};
use p256::elliptic_curve::{CurveArithmetic, FieldBytesSize, Generate, PublicKey, SecretKey};
use p384::NistP384;
use p521::NistP521;
use pkcs8::{AssociatedOid, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use rand_core::TryCryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key::RandomnessError;

/// One of the curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

/// Something that is no key on the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CurveError {
    #[error("the bytes are not a private key on the curve")]
    PrivateKey,
    #[error("not the SubjectPublicKeyInfo (DER) of a point on the curve of the key")]
    PublicKey,
    #[error("the key could not be encoded")]
    Encode,
}

/// Runs a function of a generic curve for the one that a value names.
macro_rules! on {
    ($curve:expr, $function:ident($($argument:expr),*)) => {
        match $curve {
            Curve::P256 => $function::<NistP256>($($argument),*),
            Curve::P384 => $function::<NistP384>($($argument),*),
            Curve::P521 => $function::<NistP521>($($argument),*),
        }
    };
}

impl Curve {
    /// A new private key.
    pub(crate) fn generate<R: TryCryptoRng + ?Sized>(
        self,
        rng: &mut R,
    ) -> Result<Zeroizing<Vec<u8>>, RandomnessError> {
        match self {
            Self::P256 => generate::<NistP256, R>(rng),
            Self::P384 => generate::<NistP384, R>(rng),
            Self::P521 => generate::<NistP521, R>(rng),
        }
    }

    /// The public half of a private key, as SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key_der(self, scalar: &[u8]) -> Result<Vec<u8>, CurveError> {
        on!(self, public_key_der(scalar))
    }

    /// A private key as PKCS#8 in DER, its public half included.
    pub(crate) fn private_key_der(self, scalar: &[u8]) -> Result<Zeroizing<Vec<u8>>, CurveError> {
        on!(self, private_key_der(scalar))
    }

    /// The x coordinate that a private key and somebody's public key (SubjectPublicKeyInfo in DER) share. A point that is not on the
    /// curve, or is its neutral element, is refused.
    pub(crate) fn agree(self, scalar: &[u8], peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, CurveError> {
        on!(self, agree(scalar, peer))
    }
}

fn generate<C: CurveArithmetic, R: TryCryptoRng + ?Sized>(
    rng: &mut R,
) -> Result<Zeroizing<Vec<u8>>, RandomnessError> {
    let key = SecretKey::<C>::try_generate_from_rng(rng).map_err(|_| RandomnessError)?;
    Ok(Zeroizing::new(Zeroizing::new(key.to_bytes()).to_vec()))
}

fn public_key_der<C>(scalar: &[u8]) -> Result<Vec<u8>, CurveError>
where
    C: AssociatedOid + CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let public = private_key::<C>(scalar)?.public_key();
    public.to_public_key_der().map(|der| der.into_vec()).map_err(|_| CurveError::Encode)
}

fn private_key_der<C>(scalar: &[u8]) -> Result<Zeroizing<Vec<u8>>, CurveError>
where
    C: AssociatedOid + CurveArithmetic + ValidatePublicKey,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    private_key::<C>(scalar)?.to_pkcs8_der().map(|der| der.to_bytes()).map_err(|_| CurveError::Encode)
}

fn agree<C>(scalar: &[u8], peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, CurveError>
where
    C: AssociatedOid + CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let peer = PublicKey::<C>::from_public_key_der(peer).map_err(|_| CurveError::PublicKey)?;
    let shared = private_key::<C>(scalar)?.diffie_hellman(&peer);
    Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
}

fn private_key<C: CurveArithmetic>(scalar: &[u8]) -> Result<SecretKey<C>, CurveError> {
    SecretKey::from_slice(scalar).map_err(|_| CurveError::PrivateKey)
}
