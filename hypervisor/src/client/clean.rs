//! What supervisors could not clean up themselves: the remains of killed ones, and ended enclaves grown old.

use core::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::error::ClientError;
use crate::description::State;
use crate::run_dir::{
    CONTROL_SOCKET, EnclaveFolder, RootLock, RunDirError, RunRoot, VSOCK_SOCKET, mark_killed,
};
use crate::state::{Record, StateLock};

/// How long an ended enclave stays listed.
pub const EXITED_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that was cleaned. Its text is made for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// The supervisor was killed: the enclave is now listed as ended.
    SupervisorKilled {
        /// The enclave's name.
        name: String,
        /// Its EnclaveID.
        enclave_id: String,
    },
    /// The folder of an enclave that never came to be is removed.
    Unfinished {
        /// Its EnclaveID.
        enclave_id: String,
    },
    /// The folder of an enclave that ended more than [`EXITED_KEPT_FOR`] ago is removed.
    Expired {
        /// The enclave's name.
        name: String,
        /// Its EnclaveID.
        enclave_id: String,
    },
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SupervisorKilled { name, enclave_id } => write!(
                f,
                "the supervisor of enclave {name} ({enclave_id}) was killed; the enclave is now listed as EXITED"
            ),
            Self::Unfinished { enclave_id } => {
                write!(
                    f,
                    "removed what a killed supervisor left of enclave {enclave_id}, which had not started"
                )
            }
            Self::Expired { name, enclave_id } => {
                write!(f, "removed enclave {name} ({enclave_id}), which ended more than 24 hours ago")
            }
        }
    }
}

/// Cleans up after supervisors that were killed and removes enclaves that ended long ago. Each command does this
/// first and shows what it returns.
///
/// A state that cannot be read, for example another version's, is left alone.
///
/// # Errors
/// If a folder cannot be read or changed.
pub fn clean_stale(root: &RunRoot) -> Result<Vec<Cleaned>, ClientError> {
    let ids = root.enclave_ids()?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let lock = root.lock()?;
    let now = seconds_since_1970();
    let mut cleaned = Vec::new();
    for id in ids {
        if let Some(folder) = root.open(&id)? {
            cleaned.extend(clean(folder, id, &lock, now)?);
        }
    }
    Ok(cleaned)
}

/// Cleans one folder, if it needs it.
fn clean(
    folder: EnclaveFolder,
    enclave_id: String,
    lock: &RootLock,
    now: u64,
) -> Result<Option<Cleaned>, RunDirError> {
    let (record, alive) = match crate::state::read(std::os::fd::AsFd::as_fd(&folder)) {
        Ok(Some(read)) => read,
        Ok(None) => {
            folder.remove(lock)?;
            return Ok(Some(Cleaned::Unfinished { enclave_id }));
        }
        Err(_) => return Ok(None),
    };
    if alive {
        return Ok(None);
    }
    let name = record.description.name.clone();
    if record.description.state != State::Exited {
        mark_ended(&folder, record, now)?;
        return Ok(Some(Cleaned::SupervisorKilled { name, enclave_id }));
    }
    let age = now.saturating_sub(record.ended_at.unwrap_or(0));
    if age > EXITED_KEPT_FOR.as_secs() {
        folder.remove(lock)?;
        return Ok(Some(Cleaned::Expired { name, enclave_id }));
    }
    Ok(None)
}

/// Does for a killed supervisor what it would have done at its end.
fn mark_ended(folder: &EnclaveFolder, mut record: Record, now: u64) -> Result<(), RunDirError> {
    let state_error = |error| RunDirError::State { path: folder.path().to_owned(), error };
    let taken = StateLock::take_over(std::os::fd::AsFd::as_fd(folder)).map_err(state_error)?;
    if let Some(mut taken) = taken {
        mark_killed(&mut record.description);
        record.ended_at = Some(now);
        folder.remove_file(CONTROL_SOCKET)?;
        folder.remove_file(VSOCK_SOCKET)?;
        taken.replace(&record).map_err(state_error)?;
    }
    Ok(())
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
