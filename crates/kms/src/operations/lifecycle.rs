//! EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::{Call, Key, Question, failed, internal};
use super::keys::whole_seconds;
use super::wire::{KeyOnly, invalid, read, seconds, write};
use crate::error::{ErrorKind, KmsError};
use crate::key::KeyState;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many days a key waits for its destruction. Source: ScheduleKeyDeletion, `PendingWindowInDays`.
const WAITING_DAYS: core::ops::RangeInclusive<u32> = 7..=30;
const DEFAULT_WAITING_DAYS: u32 = 30;

pub(super) fn enable_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    switch(call, body, "kms:EnableKey", KeyState::Enabled)
}

pub(super) fn disable_key(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    switch(call, body, "kms:DisableKey", KeyState::Disabled)
}

fn switch(
    call: &Call<'_>,
    body: &[u8],
    action: &'static str,
    state: KeyState,
) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: KeyOnly = read(body)?;
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key(action, &key).lasting())?;
    key.check_kept()?;
    set_state(call, &key, state)?;
    Ok(Zeroizing::default())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ScheduleKeyDeletionRequest {
    key_id: String,
    pending_window_in_days: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ScheduleKeyDeletionResponse<'a> {
    key_id: &'a str,
    #[serde(serialize_with = "seconds")]
    deletion_date: SystemTime,
    key_state: &'a str,
    pending_window_in_days: u32,
}

pub(super) fn schedule_key_deletion(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: ScheduleKeyDeletionRequest = read(body)?;
    let days = request.pending_window_in_days.unwrap_or(DEFAULT_WAITING_DAYS);
    if !WAITING_DAYS.contains(&days) {
        return Err(invalid(format!(
            "PendingWindowInDays is {} to {}",
            WAITING_DAYS.start(),
            WAITING_DAYS.end()
        )));
    }
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key("kms:ScheduleKeyDeletion", &key).lasting())?;
    key.check_kept()?;
    let at = whole_seconds(call.now)
        .checked_add(DAY.saturating_mul(days))
        .ok_or_else(|| internal(&"the clock is too far in the future"))?;
    let state = KeyState::PendingDeletion { at };
    set_state(call, &key, state)?;
    write(&ScheduleKeyDeletionResponse {
        key_id: &key.arn,
        deletion_date: at,
        key_state: state.aws_name(),
        pending_window_in_days: days,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CancelKeyDeletionResponse<'a> {
    key_id: &'a str,
}

/// The key is disabled then, as on AWS.
pub(super) fn cancel_key_deletion(call: &Call<'_>, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let request: KeyOnly = read(body)?;
    let _changing = call.service.changing();
    let key = call.key_without_alias(&request.key_id)?;
    call.authorize(&Question::on_key("kms:CancelKeyDeletion", &key).lasting())?;
    if !matches!(key.metadata.state, KeyState::PendingDeletion { .. }) {
        return Err(KmsError::new(
            ErrorKind::KmsInvalidState,
            format!("{} is not pending deletion.", key.arn),
        ));
    }
    set_state(call, &key, KeyState::Disabled)?;
    write(&CancelKeyDeletionResponse { key_id: &key.arn })
}

fn set_state(call: &Call<'_>, key: &Key, state: KeyState) -> Result<(), KmsError> {
    call.service.store.set_state(key.id(), state).map_err(|error| failed(&error))
}
