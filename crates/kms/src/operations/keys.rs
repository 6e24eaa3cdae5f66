//! CreateKey, DescribeKey, ListKeys, UpdateKeyDescription.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Question, failed, internal};
use super::policies;
use super::wire::{GrantTokens, invalid, read, seconds, unsupported, write};
use crate::error::{ErrorKind, KmsError};
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage, generate_material};
use crate::policy::default_key_policy;

/// Where every key's material comes from.
pub(super) const ORIGIN: &str = "AWS_KMS";
/// Longest description (`DescriptionType`), in characters.
const MAX_DESCRIPTION: usize = 8192;
/// Most keys in one answer of ListKeys, and how many without `Limit`.
const MAX_LISTED: usize = 1000;
const DEFAULT_LISTED: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct CreateKeyRequest {
    policy: Option<String>,
    #[serde(default)]
    description: Option<String>,
    key_usage: Option<String>,
    customer_master_key_spec: Option<String>,
    key_spec: Option<String>,
    origin: Option<String>,
    custom_key_store_id: Option<String>,
    bypass_policy_lockout_safety_check: Option<bool>,
    tags: Option<Vec<serde::de::IgnoredAny>>,
    multi_region: Option<bool>,
    xks_key_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyMetadataResponse<'a> {
    key_metadata: Described<'a>,
}

/// `KeyMetadata`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described<'a> {
    #[serde(rename = "AWSAccountId")]
    account: &'a str,
    key_id: &'a KeyId,
    arn: &'a str,
    #[serde(serialize_with = "seconds")]
    creation_date: SystemTime,
    enabled: bool,
    description: &'a str,
    key_usage: KeyUsage,
    key_state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_date: Option<u64>,
    origin: &'a str,
    key_manager: &'a str,
    customer_master_key_spec: KeySpec,
    key_spec: KeySpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_algorithms: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_agreement_algorithms: Option<[&'a str; 1]>,
    multi_region: bool,
}

pub(super) fn create_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: CreateKeyRequest = read(body)?;
    request.refuse_what_we_do_not_have()?;
    let (spec, usage) = request.kind()?;
    let description = check_description(request.description.unwrap_or_default())?;
    let question = Question::without_key("kms:CreateKey", "*").with_spec(spec, usage).lasting();
    let policy = request.policy.as_deref();
    let bypass = request.bypass_policy_lockout_safety_check;
    let checked = policy.map_or(Ok(()), |text| policies::check(call, &question, text, bypass));
    let id = KeyId::generate(&mut SysRng).map_err(|error| internal(&error))?;
    let arn = call.service.place.key_arn(&id);
    let question = if checked.is_ok() { question.making(&arn).putting(policy) } else { question };
    call.authorize(&question)?;
    checked.map_err(|unfit| call.unfit(unfit))?;
    let policy = request.policy.unwrap_or_else(|| default_key_policy(&call.service.account));
    let metadata = KeyMetadata {
        id,
        created: whole_seconds(call.now),
        description,
        usage,
        spec,
        state: KeyState::Enabled,
    };
    let material = generate_material(spec, &mut SysRng).map_err(|error| internal(&error))?;
    call.service.store.insert_key(&metadata, &policy, &material).map_err(|error| failed(&error))?;
    describe(call, &metadata)
}

impl CreateKeyRequest {
    fn refuse_what_we_do_not_have(&self) -> Result<(), KmsError> {
        if self.custom_key_store_id.is_some() || self.xks_key_id.is_some() {
            return Err(unsupported("custom key stores are not supported"));
        }
        if self.origin.as_deref().is_some_and(|origin| origin != ORIGIN) {
            return Err(unsupported("Origin is AWS_KMS here: the service makes the material of every key"));
        }
        if self.multi_region == Some(true) {
            return Err(unsupported("MultiRegion is not supported: there is one region"));
        }
        if self.tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
            return Err(unsupported("Tags is not supported"));
        }
        Ok(())
    }

    /// What is to be made.
    fn kind(&self) -> Result<(KeySpec, KeyUsage), KmsError> {
        let spec = match (&self.key_spec, &self.customer_master_key_spec) {
            (Some(new), Some(old)) if new != old => {
                return Err(invalid("KeySpec and CustomerMasterKeySpec differ; give KeySpec alone"));
            }
            (Some(spec), _) | (None, Some(spec)) => spec.as_str(),
            (None, None) => KeySpec::SymmetricDefault.aws_name(),
        };
        let spec = KeySpec::from_aws_name(spec).ok_or_else(|| {
            unsupported("KeySpec is SYMMETRIC_DEFAULT, ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521 here")
        })?;
        let usage = match (spec, self.key_usage.as_deref()) {
            (KeySpec::SymmetricDefault, None | Some("ENCRYPT_DECRYPT")) => KeyUsage::EncryptDecrypt,
            (KeySpec::SymmetricDefault, Some(_)) => {
                return Err(invalid("the KeyUsage of a SYMMETRIC_DEFAULT key is ENCRYPT_DECRYPT"));
            }
            (_, Some("KEY_AGREEMENT")) => KeyUsage::KeyAgreement,
            (_, None) => return Err(invalid("KeyUsage is required with this KeySpec: KEY_AGREEMENT")),
            (_, Some("SIGN_VERIFY")) => {
                return Err(unsupported(
                    "KeyUsage is KEY_AGREEMENT with this KeySpec here: there are no signing keys",
                ));
            }
            (_, Some(_)) => return Err(invalid("the KeyUsage of this KeySpec is KEY_AGREEMENT")),
        };
        Ok((spec, usage))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribeKeyRequest {
    key_id: String,
    #[serde(default)]
    grant_tokens: GrantTokens,
}

pub(super) fn describe_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: DescribeKeyRequest = read(body)?;
    request.grant_tokens.check()?;
    let key = call.key(&request.key_id)?;
    call.authorize(&Question::on_key("kms:DescribeKey", &key))?;
    describe(call, &key.metadata)
}

fn describe(call: &Call<'_>, metadata: &KeyMetadata) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let arn = call.service.place.key_arn(&metadata.id);
    let agreement = metadata.usage == KeyUsage::KeyAgreement;
    write(&KeyMetadataResponse {
        key_metadata: Described {
            account: &call.service.account,
            key_id: &metadata.id,
            arn: &arn,
            creation_date: metadata.created,
            enabled: metadata.state == KeyState::Enabled,
            description: &metadata.description,
            key_usage: metadata.usage,
            key_state: metadata.state.aws_name(),
            deletion_date: match metadata.state {
                KeyState::PendingDeletion { at } => Some(since_epoch(at).as_secs()),
                KeyState::Enabled | KeyState::Disabled => None,
            },
            origin: ORIGIN,
            key_manager: "CUSTOMER",
            customer_master_key_spec: metadata.spec,
            key_spec: metadata.spec,
            encryption_algorithms: (!agreement).then_some(["SYMMETRIC_DEFAULT"]),
            key_agreement_algorithms: agreement.then_some(["ECDH"]),
            multi_region: false,
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListKeysRequest {
    limit: Option<usize>,
    marker: Option<String>,
    resource_owners: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListKeysResponse<'a> {
    keys: Vec<ListedKey<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<&'a KeyId>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedKey<'a> {
    key_id: &'a KeyId,
    key_arn: String,
}

pub(super) fn list_keys(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: ListKeysRequest = read(body)?;
    let limit = check_limit(request.limit, DEFAULT_LISTED, MAX_LISTED)?;
    if request.resource_owners.is_some_and(|owners| owners.iter().any(|owner| owner != "SELF")) {
        return Err(unsupported("ResourceOwners is SELF here: there is one account"));
    }
    let after = request.marker.as_deref().map(str::parse::<KeyId>).transpose().map_err(|_| bad_marker())?;
    call.authorize(&Question::without_key("kms:ListKeys", "*"))?;
    let found = call.service.store.list_keys(after.as_ref(), limit.saturating_add(1));
    let found = found.map_err(|error| failed(&error))?;
    let page = found.get(..limit).unwrap_or(&found);
    let truncated = found.len() > page.len();
    write(&ListKeysResponse {
        keys: page
            .iter()
            .map(|id| ListedKey { key_id: id, key_arn: call.service.place.key_arn(id) })
            .collect(),
        next_marker: page.last().filter(|_| truncated),
        truncated,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct UpdateKeyDescriptionRequest {
    key_id: String,
    description: String,
}

pub(super) fn update_key_description(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: UpdateKeyDescriptionRequest = read(body)?;
    let description = check_description(request.description)?;
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key("kms:UpdateKeyDescription", &key))?;
    key.check_kept()?;
    let set = call.service.store.set_description(key.id(), &description);
    set.map_err(|error| failed(&error))?;
    Ok(Zeroizing::default())
}

fn check_description(description: String) -> Result<String, KmsError> {
    if description.chars().count() > MAX_DESCRIPTION {
        return Err(invalid(format!("Description has at most {MAX_DESCRIPTION} characters")));
    }
    Ok(description)
}

/// How many are to be listed at most.
pub(super) fn check_limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, KmsError> {
    match asked {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(_) => Err(invalid(format!("Limit is 1 to {max}"))),
    }
}

pub(super) fn bad_marker() -> KmsError {
    KmsError::new(ErrorKind::InvalidMarker, "Marker is not the NextMarker of an earlier answer")
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same time without the part of a second that neither the wire nor the store has.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(since_epoch(time).as_secs())).unwrap_or(UNIX_EPOCH)
}
