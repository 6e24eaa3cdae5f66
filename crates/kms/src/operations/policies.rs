//! GetKeyPolicy, PutKeyPolicy, ListKeyPolicies. A key has one policy, named `default`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Question, failed};
use super::keys::{bad_marker, check_limit};
use super::wire::{invalid, read, write};
use crate::error::{ErrorKind, KmsError};
use crate::policy::Policy;

/// The name of every key's one policy.
const DEFAULT: &str = "default";
/// Most names in one answer of ListKeyPolicies.
const MAX_LISTED: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetKeyPolicyRequest {
    key_id: String,
    policy_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetKeyPolicyResponse<'a> {
    policy: &'a str,
    policy_name: &'a str,
}

pub(super) fn get_key_policy(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: GetKeyPolicyRequest = read(body)?;
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key("kms:GetKeyPolicy", &key))?;
    if request.policy_name.is_some_and(|name| name != DEFAULT) {
        return Err(KmsError::new(
            ErrorKind::NotFound,
            "No such policy exists: the policy of a key is named default",
        ));
    }
    write(&GetKeyPolicyResponse { policy: &key.policy_text, policy_name: DEFAULT })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PutKeyPolicyRequest {
    key_id: String,
    policy_name: Option<String>,
    policy: String,
    bypass_policy_lockout_safety_check: Option<bool>,
}

pub(super) fn put_key_policy(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: PutKeyPolicyRequest = read(body)?;
    if request.policy_name.is_some_and(|name| name != DEFAULT) {
        return Err(invalid("PolicyName is default: a key has one policy"));
    }
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.key_id)?;
    let question = Question::on_key("kms:PutKeyPolicy", &key).lasting();
    let checked = check(call, &question, &request.policy, request.bypass_policy_lockout_safety_check);
    call.authorize(&question.putting(checked.is_ok().then_some(&request.policy)))?;
    checked.map_err(|unfit| call.unfit(unfit))?;
    call.service.store.set_policy(key.id(), &request.policy).map_err(|error| failed(&error))?;
    Ok(Zeroizing::default())
}

/// Whether a policy can be put: it is understood, and does not lock its author out, unless that is wanted. Before the decision is made, so
/// that the log's line about it says which policy was put; who is denied learns that and nothing else.
pub(super) fn check(
    call: &Call<'_>,
    question: &Question<'_>,
    text: &str,
    bypass_lockout: Option<bool>,
) -> Result<(), Unfit> {
    let policy = Policy::parse(text).map_err(|error| Unfit::Malformed(error.to_string()))?;
    if bypass_lockout == Some(true) { Ok(()) } else { call.check_lockout(&policy, question) }
}

/// Why a policy is not put.
pub(super) enum Unfit {
    /// It is no policy, and why.
    Malformed(String),
    /// Its author could not change it again, and why.
    LocksOut(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListKeyPoliciesRequest {
    key_id: String,
    limit: Option<usize>,
    marker: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListKeyPoliciesResponse {
    policy_names: [&'static str; 1],
    truncated: bool,
}

pub(super) fn list_key_policies(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: ListKeyPoliciesRequest = read(body)?;
    check_limit(request.limit, MAX_LISTED, MAX_LISTED)?;
    if request.marker.is_some() {
        // Every answer is complete: none gave a marker.
        return Err(bad_marker());
    }
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key("kms:ListKeyPolicies", &key))?;
    write(&ListKeyPoliciesResponse { policy_names: [DEFAULT], truncated: false })
}
