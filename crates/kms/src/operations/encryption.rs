//! Encrypt, Decrypt, ReEncrypt.

use getrandom::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Key, Question, RecipientInfo, internal};
use super::ciphertext::{self, Ciphertext};
use super::wire::{
    Blob, Bytes, Context, DryRun, EncryptionAlgorithm, GrantTokens, MAX_CIPHERTEXT, MAX_PLAINTEXT, read,
    unsupported, write,
};
use crate::error::{ErrorKind, KmsError};
use crate::key::KeyUsage;
use crate::recipient::Recipient;

const DECRYPT: &str = "kms:Decrypt";
const RE_ENCRYPT_FROM: &str = "kms:ReEncryptFrom";
/// What AWS answers for a ciphertext whose key is unknown, and for one whose key the caller may not use: the same.
const NOT_FOR_YOU: &str = "The ciphertext refers to a customer master key that does not exist, \
                           does not exist in this region, or you are not allowed to access.";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EncryptRequest {
    key_id: String,
    plaintext: Blob<MAX_PLAINTEXT>,
    #[serde(default)]
    encryption_context: Context,
    encryption_algorithm: Option<EncryptionAlgorithm>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptResponse<'a> {
    ciphertext_blob: Bytes<'a>,
    key_id: &'a str,
    encryption_algorithm: EncryptionAlgorithm,
}

pub(super) fn encrypt(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: EncryptRequest = read(body)?;
    request.grant_tokens.check()?;
    let key = call.key(&request.key_id)?;
    call.authorize(&Question::on_key("kms:Encrypt", &key).with_context(&request.encryption_context))?;
    check_key(&key, request.encryption_algorithm)?;
    request.dry_run.stop()?;
    let sealed = seal(&key, &request.encryption_context, request.plaintext.as_bytes())?;
    write(&EncryptResponse {
        ciphertext_blob: Bytes(&sealed),
        key_id: &key.arn,
        encryption_algorithm: EncryptionAlgorithm::SymmetricDefault,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DecryptRequest {
    ciphertext_blob: Blob<MAX_CIPHERTEXT>,
    key_id: Option<String>,
    #[serde(default)]
    encryption_context: Context,
    encryption_algorithm: Option<EncryptionAlgorithm>,
    recipient: Option<RecipientInfo>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
    dry_run_modifiers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptResponse<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_for_recipient: Option<Bytes<'a>>,
    encryption_algorithm: EncryptionAlgorithm,
}

pub(super) fn decrypt(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: DecryptRequest = read(body)?;
    request.grant_tokens.check()?;
    refuse_modifiers(request.dry_run_modifiers.as_deref())?;
    let ciphertext = parse(&request.ciphertext_blob)?;
    let named = request.key_id.as_deref();
    let source = Source::find(call, DECRYPT, named, &ciphertext, request.recipient.as_ref())?;
    let question = Question::on_key(DECRYPT, &source.key).with_context(&request.encryption_context);
    let recipient = call.recipient(request.recipient.as_ref(), &question)?;
    source.authorize(call, &question.with_recipient(recipient.as_ref()))?;
    let plaintext = source.open(&ciphertext, &request.encryption_context, request.encryption_algorithm)?;
    request.dry_run.stop()?;
    let released = Released::to(recipient.as_ref(), &plaintext)?;
    write(&DecryptResponse {
        key_id: &source.key.arn,
        plaintext: released.plaintext(),
        ciphertext_for_recipient: released.for_recipient(),
        encryption_algorithm: EncryptionAlgorithm::SymmetricDefault,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ReEncryptRequest {
    ciphertext_blob: Blob<MAX_CIPHERTEXT>,
    #[serde(default)]
    source_encryption_context: Context,
    source_key_id: Option<String>,
    destination_key_id: String,
    #[serde(default)]
    destination_encryption_context: Context,
    source_encryption_algorithm: Option<EncryptionAlgorithm>,
    destination_encryption_algorithm: Option<EncryptionAlgorithm>,
    #[serde(default)]
    grant_tokens: GrantTokens,
    #[serde(default)]
    dry_run: DryRun,
    dry_run_modifiers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReEncryptResponse<'a> {
    ciphertext_blob: Bytes<'a>,
    source_key_id: &'a str,
    key_id: &'a str,
    source_encryption_algorithm: EncryptionAlgorithm,
    destination_encryption_algorithm: EncryptionAlgorithm,
}

pub(super) fn re_encrypt(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: ReEncryptRequest = read(body)?;
    request.grant_tokens.check()?;
    refuse_modifiers(request.dry_run_modifiers.as_deref())?;
    let ciphertext = parse(&request.ciphertext_blob)?;
    let source = Source::find(call, RE_ENCRYPT_FROM, request.source_key_id.as_deref(), &ciphertext, None)?;
    let question = Question::on_key(RE_ENCRYPT_FROM, &source.key);
    source.authorize(call, &question.with_context(&request.source_encryption_context))?;
    let destination = call.key(&request.destination_key_id)?;
    let context = &request.destination_encryption_context;
    call.authorize(&Question::on_key("kms:ReEncryptTo", &destination).with_context(context))?;
    check_key(&destination, request.destination_encryption_algorithm)?;
    let plaintext =
        source.open(&ciphertext, &request.source_encryption_context, request.source_encryption_algorithm)?;
    request.dry_run.stop()?;
    let sealed = seal(&destination, context, &plaintext)?;
    write(&ReEncryptResponse {
        ciphertext_blob: Bytes(&sealed),
        source_key_id: &source.key.arn,
        key_id: &destination.arn,
        source_encryption_algorithm: EncryptionAlgorithm::SymmetricDefault,
        destination_encryption_algorithm: EncryptionAlgorithm::SymmetricDefault,
    })
}

/// The key that a ciphertext is to be decrypted with.
struct Source {
    key: Key,
    /// The request named the key; otherwise the ciphertext alone did.
    named: bool,
}

impl Source {
    fn find(
        call: &Call<'_>,
        action: &'static str,
        name: Option<&str>,
        ciphertext: &Ciphertext<'_>,
        recipient: Option<&RecipientInfo>,
    ) -> Result<Self, KmsError> {
        if let Some(name) = name {
            return Ok(Self { key: call.key(name)?, named: true });
        }
        match call.find(ciphertext.key(), None)? {
            Some(key) => Ok(Self { key, named: false }),
            None => {
                // A document is judged before the caller is: a bad one gets the same answer whether or not there is such a key.
                let arn = call.service.place.key_arn(ciphertext.key());
                let question = Question::without_key(action, &arn);
                call.recipient(recipient, &question)?;
                call.record(&question, false, "the ciphertext names a key that does not exist")?;
                Err(KmsError::new(ErrorKind::AccessDenied, NOT_FOR_YOU))
            }
        }
    }

    /// As [`Call::authorize`]; but who has nothing but a ciphertext does not learn whether its key exists.
    fn authorize(&self, call: &Call<'_>, question: &Question<'_>) -> Result<(), KmsError> {
        call.authorize(question).map_err(|error| match error.kind() {
            ErrorKind::AccessDenied if !self.named => KmsError::new(ErrorKind::AccessDenied, NOT_FOR_YOU),
            _ => error,
        })
    }

    fn open(
        &self,
        ciphertext: &Ciphertext<'_>,
        context: &Context,
        algorithm: Option<EncryptionAlgorithm>,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        check_key(&self.key, algorithm)?;
        if ciphertext.key() != self.key.id() {
            return Err(KmsError::new(
                ErrorKind::IncorrectKey,
                "The key ID in the request does not identify a CMK that can perform this operation.",
            ));
        }
        ciphertext.open(&self.key.material, context).ok_or_else(invalid_ciphertext)
    }
}

fn parse(blob: &Blob<MAX_CIPHERTEXT>) -> Result<Ciphertext<'_>, KmsError> {
    Ciphertext::parse(blob.as_bytes()).ok_or_else(invalid_ciphertext)
}

/// One error whatever is wrong: key, context or bytes.
fn invalid_ciphertext() -> KmsError {
    KmsError::new(
        ErrorKind::InvalidCiphertext,
        "the ciphertext was changed, or made elsewhere, or with another encryption context",
    )
}

fn refuse_modifiers(modifiers: Option<&[String]>) -> Result<(), KmsError> {
    if modifiers.is_none_or(<[_]>::is_empty) {
        return Ok(());
    }
    Err(unsupported("DryRunModifiers is not supported"))
}

/// Refuses a key that cannot encrypt, or not now.
fn check_key(key: &Key, algorithm: Option<EncryptionAlgorithm>) -> Result<(), KmsError> {
    key.check_enabled()?;
    key.check_usage(KeyUsage::EncryptDecrypt)?;
    EncryptionAlgorithm::check(algorithm)
}

/// Encrypts with a key that was checked.
pub(super) fn seal(key: &Key, context: &Context, plaintext: &[u8]) -> Result<Vec<u8>, KmsError> {
    ciphertext::seal(key.id(), &key.material, context, plaintext, &mut SysRng)
        .map_err(|error| internal(&error))
}

/// Refuses a key that cannot protect data keys, or not now.
pub(super) fn check_data_key(key: &Key) -> Result<(), KmsError> {
    check_key(key, None)
}

/// A secret on its way out: sealed for an enclave, or in the clear if the request named none. Never both.
pub(super) struct Released<'a> {
    plaintext: &'a [u8],
    sealed: Option<Vec<u8>>,
}

impl<'a> Released<'a> {
    /// Seals the secret for the enclave that is to have it, if there is one.
    pub(super) fn to(recipient: Option<&Recipient>, plaintext: &'a [u8]) -> Result<Self, KmsError> {
        let sealed = recipient.map(|recipient| recipient.seal(plaintext)).transpose();
        Ok(Self { plaintext, sealed: sealed.map_err(|error| internal(&error))? })
    }

    /// The member that holds it in the clear.
    pub(super) fn plaintext(&self) -> Option<Bytes<'_>> {
        self.sealed.is_none().then_some(Bytes(self.plaintext))
    }

    /// `CiphertextForRecipient`.
    pub(super) fn for_recipient(&self) -> Option<Bytes<'_>> {
        self.sealed.as_deref().map(Bytes)
    }
}
