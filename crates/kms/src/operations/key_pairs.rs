//! GenerateDataKeyPair, GenerateDataKeyPairWithoutPlaintext.
//!
//! A pair is a private key in PKCS#8 and a public one in SubjectPublicKeyInfo, both DER. The private one comes back encrypted under the
//! key of the request.

use std::sync::atomic::{AtomicUsize, Ordering};

use getrandom::SysRng;
use pkcs8::{EncodePrivateKey, EncodePublicKey};
use rand_core::UnwrapErr;
use rsa::RsaPrivateKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Question, RecipientInfo, internal};
use super::encryption::{Released, check_data_key, seal};
use super::wire::{Bytes, Context, DryRun, GrantTokens, read, unsupported, write};
use crate::curve::Curve;
use crate::error::{ErrorKind, KmsError};
use crate::key::random_bytes;

/// How many RSA keys may be in the making at once: each keeps a processor busy for seconds.
const MAX_RSA_GENERATIONS: usize = 2;

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
enum KeyPairSpec {
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    #[serde(rename = "RSA_3072")]
    Rsa3072,
    #[serde(rename = "RSA_4096")]
    Rsa4096,
    #[serde(rename = "ECC_NIST_P256")]
    EccNistP256,
    #[serde(rename = "ECC_NIST_P384")]
    EccNistP384,
    #[serde(rename = "ECC_NIST_P521")]
    EccNistP521,
    #[serde(rename = "ECC_SECG_P256K1")]
    EccSecgP256k1,
    #[serde(rename = "ECC_NIST_EDWARDS25519")]
    EccNistEdwards25519,
    #[serde(rename = "ML_KEM_512")]
    MlKem512,
    #[serde(rename = "ML_KEM_768")]
    MlKem768,
    #[serde(rename = "ML_KEM_1024")]
    MlKem1024,
    #[serde(rename = "SM2")]
    Sm2,
}

/// A kind of pair that we make.
enum Kind {
    Rsa { bits: usize },
    Ecc(Curve),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GenerateDataKeyPairRequest {
    key_id: String,
    key_pair_spec: KeyPairSpec,
    #[serde(default)]
    encryption_context: Context,
    recipient: Option<RecipientInfo>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
}

/// The same without `Recipient`, which this operation does not have.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct WithoutPlaintextRequest {
    key_id: String,
    key_pair_spec: KeyPairSpec,
    #[serde(default)]
    encryption_context: Context,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GenerateDataKeyPairResponse<'a> {
    private_key_ciphertext_blob: Bytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_plaintext: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_for_recipient: Option<Bytes<'a>>,
    public_key: Bytes<'a>,
    key_id: &'a str,
    key_pair_spec: KeyPairSpec,
}

pub(super) fn generate_data_key_pair(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: GenerateDataKeyPairRequest = read(body)?;
    request.grant_tokens.check()?;
    let kind = request.key_pair_spec.kind()?;
    let key = call.key(&request.key_id)?;
    let question =
        Question::on_key("kms:GenerateDataKeyPair", &key).with_context(&request.encryption_context);
    let recipient = call.recipient(request.recipient.as_ref(), &question)?;
    call.authorize(&question.with_recipient(recipient.as_ref()))?;
    check_data_key(&key)?;
    request.dry_run.stop()?;
    let pair = call.service.generators.generate(&kind)?;
    let ciphertext = seal(&key, &request.encryption_context, &pair.private)?;
    let released = Released::to(recipient.as_ref(), &pair.private)?;
    write(&GenerateDataKeyPairResponse {
        private_key_ciphertext_blob: Bytes(&ciphertext),
        private_key_plaintext: released.plaintext(),
        ciphertext_for_recipient: released.for_recipient(),
        public_key: Bytes(&pair.public),
        key_id: &key.arn,
        key_pair_spec: request.key_pair_spec,
    })
}

pub(super) fn generate_data_key_pair_without_plaintext(
    call: &Call<'_>,
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: WithoutPlaintextRequest = read(body)?;
    request.grant_tokens.check()?;
    let kind = request.key_pair_spec.kind()?;
    let key = call.key(&request.key_id)?;
    let question = Question::on_key("kms:GenerateDataKeyPairWithoutPlaintext", &key);
    call.authorize(&question.with_context(&request.encryption_context))?;
    check_data_key(&key)?;
    request.dry_run.stop()?;
    let pair = call.service.generators.generate(&kind)?;
    let ciphertext = seal(&key, &request.encryption_context, &pair.private)?;
    write(&GenerateDataKeyPairResponse {
        private_key_ciphertext_blob: Bytes(&ciphertext),
        private_key_plaintext: None,
        ciphertext_for_recipient: None,
        public_key: Bytes(&pair.public),
        key_id: &key.arn,
        key_pair_spec: request.key_pair_spec,
    })
}

impl KeyPairSpec {
    fn kind(self) -> Result<Kind, KmsError> {
        match self {
            Self::Rsa2048 => Ok(Kind::Rsa { bits: 2048 }),
            Self::Rsa3072 => Ok(Kind::Rsa { bits: 3072 }),
            Self::Rsa4096 => Ok(Kind::Rsa { bits: 4096 }),
            Self::EccNistP256 => Ok(Kind::Ecc(Curve::P256)),
            Self::EccNistP384 => Ok(Kind::Ecc(Curve::P384)),
            Self::EccNistP521 => Ok(Kind::Ecc(Curve::P521)),
            Self::EccSecgP256k1
            | Self::EccNistEdwards25519
            | Self::MlKem512
            | Self::MlKem768
            | Self::MlKem1024
            | Self::Sm2 => Err(unsupported(
                "KeyPairSpec is RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521 here",
            )),
        }
    }
}

/// Both halves of a new pair, in DER.
struct Pair {
    private: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

/// Makes pairs, and counts the RSA keys that are in the making.
#[derive(Debug, Default)]
pub(super) struct Generators {
    busy: AtomicUsize,
}

/// One place among those that make RSA keys, given back when dropped.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Generators {
    fn generate(&self, kind: &Kind) -> Result<Pair, KmsError> {
        match *kind {
            Kind::Rsa { bits } => {
                let _turn = self.turn()?;
                rsa_pair(bits)
            }
            Kind::Ecc(curve) => ecc_pair(curve),
        }
    }

    /// A place, or the advice to come back: SDKs wait and try again by themselves.
    fn turn(&self) -> Result<Turn<'_>, KmsError> {
        self.busy
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |busy| {
                (busy < MAX_RSA_GENERATIONS).then(|| busy.saturating_add(1))
            })
            .map(|_| Turn(&self.busy))
            .map_err(|_| {
                KmsError::new(ErrorKind::Throttling, "too many RSA key pairs are being made; try again")
            })
    }
}

fn rsa_pair(bits: usize) -> Result<Pair, KmsError> {
    // The search for primes cannot report that the generator failed: it would panic, which ends the service. So the generator is asked
    // first. Linux's, once it has answered, goes on to (getrandom(2), "Errors" has nothing that could come later).
    random_bytes(1, &mut SysRng).map_err(|error| internal(&error))?;
    let private = RsaPrivateKey::new(&mut UnwrapErr(SysRng), bits).map_err(|error| internal(&error))?;
    let public = private.to_public_key().to_public_key_der().map_err(|error| internal(&error))?;
    let private = private.to_pkcs8_der().map_err(|error| internal(&error))?;
    Ok(Pair { private: private.to_bytes(), public: public.into_vec() })
}

fn ecc_pair(curve: Curve) -> Result<Pair, KmsError> {
    let scalar = curve.generate(&mut SysRng).map_err(|error| internal(&error))?;
    let private = curve.private_key_der(&scalar).map_err(|error| internal(&error))?;
    let public = curve.public_key_der(&scalar).map_err(|error| internal(&error))?;
    Ok(Pair { private, public })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rsa_key_more_than_the_limit_is_refused_until_a_place_is_free() {
        let generators = Generators::default();
        let mut turns: Vec<_> = (0..MAX_RSA_GENERATIONS).map(|_| generators.turn().unwrap()).collect();
        let Err(error) = generators.turn() else { panic!("a place too many") };
        assert_eq!(error.kind(), ErrorKind::Throttling);
        turns.pop();
        assert!(generators.turn().is_ok());
    }
}
