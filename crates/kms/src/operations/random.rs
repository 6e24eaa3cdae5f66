//! GenerateRandom.

use getrandom::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Question, RecipientInfo, internal};
use super::data_keys::check_length;
use super::encryption::Released;
use super::wire::{Bytes, read, unsupported, write};
use crate::error::KmsError;
use crate::key::random_bytes;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GenerateRandomRequest {
    number_of_bytes: usize,
    custom_key_store_id: Option<String>,
    recipient: Option<RecipientInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GenerateRandomResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_for_recipient: Option<Bytes<'a>>,
}

pub(super) fn generate_random(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: GenerateRandomRequest = read(body)?;
    let length = check_length(request.number_of_bytes)?;
    if request.custom_key_store_id.is_some() {
        return Err(unsupported("CustomKeyStoreId is not supported: there are no custom key stores"));
    }
    let question = Question::without_key("kms:GenerateRandom", "*");
    let recipient = call.recipient(request.recipient.as_ref(), &question)?;
    call.authorize(&question.with_recipient(recipient.as_ref()))?;
    let plaintext = random_bytes(length, &mut SysRng).map_err(|error| internal(&error))?;
    let released = Released::to(recipient.as_ref(), &plaintext)?;
    write(&GenerateRandomResponse {
        plaintext: released.plaintext(),
        ciphertext_for_recipient: released.for_recipient(),
    })
}
