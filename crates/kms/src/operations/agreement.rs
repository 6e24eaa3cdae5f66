//! DeriveSharedSecret and GetPublicKey: keys for agreement (ECDH, NIST SP 800-56A).

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Key, Question, RecipientInfo, internal};
use super::encryption::Released;
use super::wire::{Blob, Bytes, DryRun, GrantTokens, MAX_PUBLIC_KEY, invalid, read, unsupported, write};
use crate::curve::{Curve, CurveError};
use crate::error::KmsError;
use crate::key::{KeySpec, KeyUsage};

/// The one algorithm of agreement.
const ECDH: &str = "ECDH";

#[derive(Deserialize)]
enum KeyAgreementAlgorithm {
    #[serde(rename = "ECDH")]
    Ecdh,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeriveSharedSecretRequest {
    key_id: String,
    key_agreement_algorithm: KeyAgreementAlgorithm,
    public_key: Blob<MAX_PUBLIC_KEY>,
    recipient: Option<RecipientInfo>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeriveSharedSecretResponse<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_secret: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_for_recipient: Option<Bytes<'a>>,
    key_agreement_algorithm: &'a str,
    key_origin: &'a str,
}

pub(super) fn derive_shared_secret(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: DeriveSharedSecretRequest = read(body)?;
    request.grant_tokens.check()?;
    let KeyAgreementAlgorithm::Ecdh = request.key_agreement_algorithm;
    let key = call.key(&request.key_id)?;
    let question = Question::on_key("kms:DeriveSharedSecret", &key);
    let recipient = call.recipient(request.recipient.as_ref(), &question)?;
    call.authorize(&question.with_recipient(recipient.as_ref()))?;
    key.check_enabled()?;
    key.check_usage(KeyUsage::KeyAgreement)?;
    let secret = curve(&key)?.agree(&key.material, request.public_key.as_bytes());
    let secret = secret.map_err(|error| match error {
        CurveError::PublicKey => invalid(format!("PublicKey: {error}")),
        CurveError::PrivateKey | CurveError::Encode => internal(&error),
    })?;
    request.dry_run.stop()?;
    let released = Released::to(recipient.as_ref(), &secret)?;
    write(&DeriveSharedSecretResponse {
        key_id: &key.arn,
        shared_secret: released.plaintext(),
        ciphertext_for_recipient: released.for_recipient(),
        key_agreement_algorithm: ECDH,
        key_origin: super::keys::ORIGIN,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetPublicKeyRequest {
    key_id: String,
    #[serde(default)]
    grant_tokens: GrantTokens,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetPublicKeyResponse<'a> {
    key_id: &'a str,
    public_key: Bytes<'a>,
    customer_master_key_spec: KeySpec,
    key_spec: KeySpec,
    key_usage: KeyUsage,
    key_agreement_algorithms: [&'a str; 1],
}

pub(super) fn get_public_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: GetPublicKeyRequest = read(body)?;
    request.grant_tokens.check()?;
    let key = call.key(&request.key_id)?;
    call.authorize(&Question::on_key("kms:GetPublicKey", &key))?;
    if key.metadata.spec == KeySpec::SymmetricDefault {
        return Err(unsupported(format!("{} is a symmetric key: it has no public half", key.arn)));
    }
    key.check_enabled()?;
    let public = curve(&key)?.public_key_der(&key.material).map_err(|error| internal(&error))?;
    write(&GetPublicKeyResponse {
        key_id: &key.arn,
        public_key: Bytes(&public),
        customer_master_key_spec: key.metadata.spec,
        key_spec: key.metadata.spec,
        key_usage: key.metadata.usage,
        key_agreement_algorithms: [ECDH],
    })
}

fn curve(key: &Key) -> Result<Curve, KmsError> {
    key.metadata.spec.curve().ok_or_else(|| internal(&"a key for agreement is not on a curve"))
}
