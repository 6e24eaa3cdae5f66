//! Which enclaves there are.

use crate::client::error::ClientError;
use crate::description::{Description, State};
use crate::run_dir::{RunRoot, is_enclave_id};

/// All enclaves of this run root, the ended ones included, by EnclaveID. One whose state cannot be read, for example
/// because another version wrote it, is left out here and told by [`super::clean_stale`].
///
/// # Errors
/// If the run root cannot be read.
pub fn list(root: &RunRoot) -> Result<Vec<Description>, ClientError> {
    let ids = root.enclave_ids()?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Under the lock nobody cleans: a state whose lock is held belongs to a supervisor that lives.
    let _lock = root.lock()?;
    let mut descriptions = Vec::new();
    for id in ids {
        if let Some(folder) = root.open(&id)?
            && let Ok(Some((record, _))) = folder.read_state()
        {
            descriptions.push(record.description);
        }
    }
    Ok(descriptions)
}

/// The enclave with this EnclaveID or name. Several may have had the name: the one that has not ended is meant,
/// then the one that ended last.
///
/// # Errors
/// [`ClientError::NoSuchEnclave`]; for an EnclaveID what is wrong with its state; else as [`list`].
pub fn find(root: &RunRoot, name_or_id: &str) -> Result<Description, ClientError> {
    if is_enclave_id(name_or_id)
        && let Some(folder) = root.open(name_or_id)?
    {
        folder.read_state()?;
    }
    let all = list(root)?;
    let mut found: Vec<Description> = all
        .iter()
        .filter(|enclave| enclave.enclave_id == name_or_id || enclave.name == name_or_id)
        .cloned()
        .collect();
    let mut ended: Vec<(u64, Description)> = Vec::new();
    if let Some(living) = found.iter().position(|enclave| enclave.state != State::Exited) {
        return Ok(found.swap_remove(living));
    }
    for description in found {
        let record = root.open(&description.enclave_id)?.map(|folder| folder.read_state()).transpose()?;
        let ended_at = record.flatten().and_then(|(record, _)| record.ended_at).unwrap_or(0);
        ended.push((ended_at, description));
    }
    let last = ended.into_iter().max_by_key(|(ended_at, _)| *ended_at);
    last.map(|(_, description)| description)
        .ok_or_else(|| ClientError::NoSuchEnclave { name: name_or_id.to_owned(), known: known(&all) })
}

/// What there is, for an error message.
fn known(all: &[Description]) -> String {
    /// More names than this do not help.
    const MAX_NAMES: usize = 10;
    if all.is_empty() {
        return "there are no enclaves at all; `enclave run` starts one".to_owned();
    }
    let names: Vec<&str> = all.iter().take(MAX_NAMES).map(|enclave| enclave.name.as_str()).collect();
    let more = if all.len() > MAX_NAMES { ", ..." } else { "" };
    format!("there are: {}{more}", names.join(", "))
}
