//! What supervisors could not clean up themselves: the remains of killed ones, and ended enclaves grown old.

use core::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::error::ClientError;
use crate::description::State;
use crate::run_dir::{
    CONTROL_SOCKET, EnclaveFolder, RootLock, RunDirError, RunRoot, VSOCK_SOCKET, mark_killed,
};
use crate::state::{Record, StateLock};

/// How long an ended enclave stays listed.
pub const EXITED_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that was cleaned or could not be. Its text is made for people.
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
    /// The state cannot be read: nothing is changed, and the enclave is not listed.
    Unreadable {
        /// Its EnclaveID.
        enclave_id: String,
        /// What is wrong and what to do.
        problem: String,
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
            Self::Unreadable { enclave_id, problem } => {
                write!(f, "enclave {enclave_id} is not listed: {problem}")
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
/// A state that cannot be read, for example another version's, is left alone and told.
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
    let (record, alive) = match crate::state::read(folder.as_fd()) {
        Ok(Some(read)) => read,
        Ok(None) => {
            // One whose start failed leaves an empty folder to the command that started it, which may be about to remove it.
            let told = folder.names().is_ok_and(|names| !names.is_empty());
            remove(folder, lock, None)?;
            return Ok(told.then_some(Cleaned::Unfinished { enclave_id }));
        }
        Err(error) => return Ok(Some(Cleaned::Unreadable { enclave_id, problem: error.to_string() })),
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
        remove(folder, lock, record.description.cgroup.as_deref())?;
        return Ok(Some(Cleaned::Expired { name, enclave_id }));
    }
    Ok(None)
}

/// Removes the folder of an enclave of which no process is left, and its cgroup: without a path, the one it would have by default.
pub(super) fn remove(
    folder: EnclaveFolder,
    lock: &RootLock,
    cgroup: Option<&Path>,
) -> Result<(), RunDirError> {
    let enclave_id = folder.path().file_name().unwrap_or_default().to_owned();
    folder.remove(lock)?;
    let cgroup = match cgroup {
        // The path comes from a file that the supervisor writes: it must be this enclave's.
        Some(path) => path.file_name().is_some_and(|name| name == enclave_id).then(|| path.to_owned()),
        None => containment::given_cgroup().ok().map(|given| given.join(&enclave_id)),
    };
    match cgroup.map(|path| (containment::remove_cgroup(&path), path)) {
        Some((Err(error), path)) => Err(RunDirError::Folder { path, error }),
        _ => Ok(()),
    }
}

/// Removes what an enclave left whose start failed before it ran: an empty folder, or none. If its command gave it up, it is
/// listed as ended, which is removed as well.
pub(super) fn remove_unfinished(
    root: &RunRoot,
    enclave_id: &str,
    cgroup_parent: Option<&Path>,
    given_up: bool,
) -> Result<(), RunDirError> {
    let lock = root.lock()?;
    let Some(folder) = root.open(enclave_id)? else { return Ok(()) };
    let unfinished = match crate::state::read(folder.as_fd()) {
        Ok(None) => true,
        Ok(Some((_, alive))) => given_up && !alive,
        Err(_) => false,
    };
    if unfinished {
        let cgroup = cgroup_parent.map(|parent| parent.join(enclave_id));
        remove(folder, &lock, cgroup.as_deref())?;
    }
    Ok(())
}

/// Does for a killed supervisor what it would have done at its end.
fn mark_ended(folder: &EnclaveFolder, mut record: Record, now: u64) -> Result<(), RunDirError> {
    let state_error = |error| RunDirError::State { path: folder.path().to_owned(), error };
    let taken = StateLock::take_over(folder.as_fd()).map_err(state_error)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{find, list};
    use crate::description::Description;
    use crate::exit_reason::ExitReason;
    use crate::state::STATE_FILE;

    const DAY: u64 = 24 * 60 * 60;

    /// A folder whose supervisor is gone.
    fn leave(root: &RunRoot, enclave_id: &str, state: State, ended_at: Option<u64>) {
        let folder = root.create(&root.lock().unwrap(), enclave_id).unwrap();
        let description = Description {
            name: "left".to_owned(),
            enclave_id: enclave_id.to_owned(),
            run_dir: folder.path().to_owned(),
            state,
            ..Description::example()
        };
        StateLock::create(folder.as_fd(), &Record::new(description, ended_at)).unwrap();
    }

    #[test]
    fn ended_enclaves_are_kept_for_a_day() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let now = seconds_since_1970();
        leave(&root, "i-1-enc1", State::Exited, Some(now - DAY - 1));
        leave(&root, "i-1-enc2", State::Exited, Some(now - DAY + 60));
        let cleaned = clean_stale(&root).unwrap();
        assert!(
            matches!(cleaned.as_slice(), [Cleaned::Expired { enclave_id, .. }] if enclave_id == "i-1-enc1")
        );
        assert_eq!(root.enclave_ids().unwrap(), ["i-1-enc2"]);
    }

    #[test]
    fn the_last_to_end_is_meant_by_a_name() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let now = seconds_since_1970();
        for (enclave_id, ended_at) in [("i-1-enc1", now - 5), ("i-1-enc2", now - 1), ("i-1-enc3", now - 9)] {
            leave(&root, enclave_id, State::Exited, Some(ended_at));
        }
        assert_eq!(find(&root, "left").unwrap().enclave_id, "i-1-enc2");
        assert_eq!(find(&root, "i-1-enc3").unwrap().enclave_id, "i-1-enc3");
    }

    #[test]
    fn a_killed_supervisor_s_enclave_is_marked_once() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        for (enclave_id, state) in
            [("i-1-enc1", State::Created), ("i-1-enc2", State::Running), ("i-1-enc3", State::Terminating)]
        {
            leave(&root, enclave_id, state, None);
        }
        assert_eq!(clean_stale(&root).unwrap().len(), 3);
        assert!(clean_stale(&root).unwrap().is_empty());
        for description in list(&root).unwrap() {
            assert_eq!(description.exit_reason, Some(ExitReason::SupervisorKilled));
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_hides_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        leave(&root, "i-1-enc1", State::Exited, Some(seconds_since_1970()));
        leave(&root, "i-1-enc2", State::Exited, Some(seconds_since_1970()));
        std::fs::write(temporary.path().join("i-1-enc2").join(STATE_FILE), r#"{"Version": 9}"#).unwrap();
        let cleaned = clean_stale(&root).unwrap();
        assert!(
            matches!(cleaned.as_slice(), [Cleaned::Unreadable { enclave_id, .. }] if enclave_id == "i-1-enc2")
        );
        assert!(cleaned[0].to_string().contains("version 9"), "{}", cleaned[0]);
        assert_eq!(list(&root).unwrap().len(), 1);
        assert!(find(&root, "i-1-enc2").unwrap_err().to_string().contains("version 9"));
        assert_eq!(find(&root, "left").unwrap().enclave_id, "i-1-enc1");
    }
}
