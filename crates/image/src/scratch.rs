//! Folders for what a build needs for a while: gone when it ends, and if it was killed, when the next one begins.
//!
//! A folder belongs to a living process as long as the lock on a file in it is held; the kernel gives it back however that process ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use tempfile::TempDir;

/// How the folders' names begin.
const PREFIX: &str = "enclave-build-";
/// The file that is locked.
const LOCK: &str = "lock";

/// A folder that nobody else uses; in it the file `lock`, beside which everything is the owner's.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one where temporary files are (`$TMPDIR`, else /tmp), and removes those of this user whose process has ended.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes one in this folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new_in(place: &Path) -> io::Result<Self> {
        sweep(place);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        // It has its name only once it is locked: whoever finds it free may remove the folder.
        let draft = folder.path().join("draft");
        let lock = File::create_new(&draft)?;
        lock.lock()?;
        fs::rename(draft, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes an empty folder in it, as a pull from a registry and a build from a Dockerfile want.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.path().join(name);
        fs::create_dir(&folder).map(|()| folder)
    }
}

/// Removes what ended processes of this user left. What cannot be removed is left to the system.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// True for a folder of this user whose lock is free. Where temporary files are, other users may put what they like.
fn is_abandoned(folder: &Path) -> bool {
    let mine = fs::symlink_metadata(folder)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw());
    let lock = rustix::fs::open(
        folder.join(LOCK),
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    mine && lock.is_ok_and(|lock| {
        !matches!(File::from(lock).try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_with_its_owner() {
        let place = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::new_in(place.path()).expect("a scratch folder");
        let folder = scratch.make("folder").expect("a folder in it");
        assert_eq!(fs::read_dir(&folder).expect("a listing").count(), 0);
        fs::write(folder.join("file"), "x").expect("written");
        drop(scratch);
        assert_eq!(fs::read_dir(place.path()).expect("a listing").count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not() {
        let place = tempfile::tempdir().expect("a folder");
        let living = Scratch::new_in(place.path()).expect("a scratch folder");
        let killed = Scratch::new_in(place.path()).expect("a scratch folder").folder.keep();
        fs::write(killed.join("file"), "x").expect("written");
        let foreign = place.path().join("enclave-build-foreign");
        fs::create_dir(&foreign).expect("made");
        let unrelated = place.path().join("other");
        fs::create_dir(&unrelated).expect("made");
        File::create_new(unrelated.join(LOCK)).expect("made");

        let next = Scratch::new_in(place.path()).expect("a scratch folder");
        assert!(!killed.exists());
        for kept in [living.path(), next.path(), &foreign, &unrelated] {
            assert!(kept.exists(), "{}", kept.display());
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let (place, elsewhere) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        File::create_new(elsewhere.path().join(LOCK)).expect("made");
        std::os::unix::fs::symlink(elsewhere.path(), place.path().join("enclave-build-link"))
            .expect("linked");
        let linked_lock = place.path().join("enclave-build-lock");
        fs::create_dir(&linked_lock).expect("made");
        std::os::unix::fs::symlink(elsewhere.path().join(LOCK), linked_lock.join(LOCK)).expect("linked");
        drop(Scratch::new_in(place.path()).expect("a scratch folder"));
        assert!(elsewhere.path().join(LOCK).exists() && linked_lock.exists());
    }
}
