//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases.
//!
//! Who changes an alias needs the permission twice: for the alias, which identity policies give, and for every key that it concerns.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Key, Question, failed, no_such_alias};
use super::keys::{bad_marker, check_limit, whole_seconds};
use super::name::AliasName;
use super::wire::{read, seconds, write};
use crate::error::{ErrorKind, KmsError};
use crate::key::KeyId;
use crate::store::StoreError;

/// Most aliases in one answer of ListAliases, and how many without `Limit`.
const MAX_LISTED: usize = 100;
const DEFAULT_LISTED: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AliasRequest {
    alias_name: String,
    target_key_id: String,
}

pub(super) fn create_alias(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: AliasRequest = read(body)?;
    let alias = AliasName::parse_own(&request.alias_name)?;
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.target_key_id)?;
    authorize(call, "kms:CreateAlias", &alias, [&key])?;
    key.check_kept()?;
    let created = call.service.store.create_alias(alias.as_str(), key.id(), whole_seconds(call.now));
    created.map_err(|error| match error {
        StoreError::AliasExists(_) => KmsError::new(
            ErrorKind::AlreadyExists,
            format!("An alias with the name {} already exists", call.service.place.alias_arn(&alias)),
        ),
        error => failed(&error),
    })?;
    Ok(Zeroizing::default())
}

pub(super) fn update_alias(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: AliasRequest = read(body)?;
    let alias = AliasName::parse_own(&request.alias_name)?;
    let _changing = call.service.changing();
    let old = current(call, &alias)?;
    let new = call.key_without_alias(&request.target_key_id)?;
    authorize(call, "kms:UpdateAlias", &alias, [&old, &new])?;
    new.check_kept()?;
    if (old.metadata.spec, old.metadata.usage) != (new.metadata.spec, new.metadata.usage) {
        // Source: UpdateAlias, "must be the same type ... and have the same key usage".
        return Err(KmsError::new(
            ErrorKind::Validation,
            "the key that an alias stands for is replaced by one of the same KeySpec and KeyUsage",
        ));
    }
    let updated = call.service.store.update_alias(alias.as_str(), new.id(), whole_seconds(call.now));
    updated.map_err(|error| failed(&error))?;
    Ok(Zeroizing::default())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteAliasRequest {
    alias_name: String,
}

pub(super) fn delete_alias(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: DeleteAliasRequest = read(body)?;
    let alias = AliasName::parse_own(&request.alias_name)?;
    let _changing = call.service.changing();
    let key = current(call, &alias)?;
    authorize(call, "kms:DeleteAlias", &alias, [&key])?;
    call.service.store.delete_alias(alias.as_str()).map_err(|error| failed(&error))?;
    Ok(Zeroizing::default())
}

/// The key that an alias stands for.
fn current(call: &Call<'_>, alias: &AliasName) -> Result<Key, KmsError> {
    let gone = || no_such_alias(&call.service.place.alias_arn(alias));
    call.find(&call.target(alias)?, None)?.ok_or_else(gone)
}

fn authorize<'k>(
    call: &Call<'_>,
    action: &'static str,
    alias: &AliasName,
    keys: impl IntoIterator<Item = &'k Key>,
) -> Result<(), KmsError> {
    call.authorize(&Question::without_key(action, &call.service.place.alias_arn(alias)))?;
    keys.into_iter().try_for_each(|key| call.authorize(&Question::on_key(action, key)))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListAliasesRequest {
    key_id: Option<String>,
    limit: Option<usize>,
    marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListAliasesResponse<'a> {
    aliases: Vec<ListedAlias<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<&'a str>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedAlias<'a> {
    alias_name: &'a str,
    alias_arn: String,
    target_key_id: &'a KeyId,
    #[serde(serialize_with = "seconds")]
    creation_date: SystemTime,
    #[serde(serialize_with = "seconds")]
    last_updated_date: SystemTime,
}

pub(super) fn list_aliases(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: ListAliasesRequest = read(body)?;
    let limit = check_limit(request.limit, DEFAULT_LISTED, MAX_LISTED)?;
    let after = request.marker.as_deref().map(AliasName::parse).transpose().map_err(|_| bad_marker())?;
    call.authorize(&Question::without_key("kms:ListAliases", "*"))?;
    let key = request.key_id.as_deref().map(|name| call.key_without_alias(name)).transpose()?;
    let found = call.service.store.list_aliases(
        key.as_ref().map(Key::id),
        after.as_ref().map(AliasName::as_str),
        limit.saturating_add(1),
    );
    let found = found.map_err(|error| failed(&error))?;
    let page = found.get(..limit).unwrap_or(&found);
    let truncated = found.len() > page.len();
    let listed = page.iter().map(|alias| {
        Ok(ListedAlias {
            alias_name: &alias.name,
            alias_arn: call.service.place.alias_arn(&AliasName::parse(&alias.name)?),
            target_key_id: &alias.target,
            creation_date: alias.created,
            last_updated_date: alias.updated,
        })
    });
    write(&ListAliasesResponse {
        aliases: listed.collect::<Result<_, KmsError>>()?,
        next_marker: page.last().filter(|_| truncated).map(|alias| alias.name.as_str()),
        truncated,
    })
}
