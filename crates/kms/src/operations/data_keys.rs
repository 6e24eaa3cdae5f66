//! GenerateDataKey, GenerateDataKeyWithoutPlaintext.

use getrandom::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Question, RecipientInfo, internal};
use super::encryption::{Released, check_data_key, seal};
use super::wire::{Bytes, Context, DryRun, GrantTokens, invalid, read, write};
use crate::error::KmsError;
use crate::key::random_bytes;

/// Most random bytes in one answer (`NumberOfBytesType`).
pub(super) const MAX_RANDOM: usize = 1024;

#[derive(Deserialize)]
enum DataKeySpec {
    #[serde(rename = "AES_256")]
    Aes256,
    #[serde(rename = "AES_128")]
    Aes128,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GenerateDataKeyRequest {
    key_id: String,
    #[serde(default)]
    encryption_context: Context,
    key_spec: Option<DataKeySpec>,
    number_of_bytes: Option<usize>,
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
    #[serde(default)]
    encryption_context: Context,
    key_spec: Option<DataKeySpec>,
    number_of_bytes: Option<usize>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GenerateDataKeyResponse<'a> {
    ciphertext_blob: Bytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_for_recipient: Option<Bytes<'a>>,
    key_id: &'a str,
}

pub(super) fn generate_data_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: GenerateDataKeyRequest = read(body)?;
    request.grant_tokens.check()?;
    let length = length(request.key_spec.as_ref(), request.number_of_bytes)?;
    let key = call.key(&request.key_id)?;
    let question = Question::on_key("kms:GenerateDataKey", &key).with_context(&request.encryption_context);
    let recipient = call.recipient(request.recipient.as_ref(), &question)?;
    call.authorize(&question.with_recipient(recipient.as_ref()))?;
    check_data_key(&key)?;
    request.dry_run.stop()?;
    let plaintext = random_bytes(length, &mut SysRng).map_err(|error| internal(&error))?;
    let ciphertext = seal(&key, &request.encryption_context, &plaintext)?;
    let released = Released::to(recipient.as_ref(), &plaintext)?;
    write(&GenerateDataKeyResponse {
        ciphertext_blob: Bytes(&ciphertext),
        plaintext: released.plaintext(),
        ciphertext_for_recipient: released.for_recipient(),
        key_id: &key.arn,
    })
}

pub(super) fn generate_data_key_without_plaintext(
    call: &Call<'_>,
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: WithoutPlaintextRequest = read(body)?;
    request.grant_tokens.check()?;
    let length = length(request.key_spec.as_ref(), request.number_of_bytes)?;
    let key = call.key(&request.key_id)?;
    let question = Question::on_key("kms:GenerateDataKeyWithoutPlaintext", &key);
    call.authorize(&question.with_context(&request.encryption_context))?;
    check_data_key(&key)?;
    request.dry_run.stop()?;
    let plaintext = random_bytes(length, &mut SysRng).map_err(|error| internal(&error))?;
    let ciphertext = seal(&key, &request.encryption_context, &plaintext)?;
    write(&GenerateDataKeyResponse {
        ciphertext_blob: Bytes(&ciphertext),
        plaintext: None,
        ciphertext_for_recipient: None,
        key_id: &key.arn,
    })
}

/// How long the key is to be: the request says it in one of two ways.
fn length(spec: Option<&DataKeySpec>, number_of_bytes: Option<usize>) -> Result<usize, KmsError> {
    match (spec, number_of_bytes) {
        (Some(DataKeySpec::Aes256), None) => Ok(32),
        (Some(DataKeySpec::Aes128), None) => Ok(16),
        (None, Some(length)) => check_length(length),
        _ => Err(invalid("give either KeySpec or NumberOfBytes")),
    }
}

/// Refuses a length that no answer has.
pub(super) fn check_length(length: usize) -> Result<usize, KmsError> {
    if (1..=MAX_RANDOM).contains(&length) {
        Ok(length)
    } else {
        Err(invalid(format!("NumberOfBytes is 1 to {MAX_RANDOM}")))
    }
}
