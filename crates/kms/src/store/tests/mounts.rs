//! File systems that are full, or cannot be written: made for real in a mount namespace, in a process of its own.

use std::process::Command;

use super::*;

/// Tells the process in the namespace where to work.
const FOLDER: &str = "KMS_TEST_FOLDER";

/// Runs an ignored test of this program behind `mount` commands that prepare its folder. False if this system has no namespaces to give.
fn in_namespace(test: &str, folder: &Path, mounts: &str) -> bool {
    let run = |script: String| {
        Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-ec", &script])
            .env(FOLDER, folder)
            .output()
            .unwrap()
    };
    if !run("mount -t tmpfs tmpfs /mnt".to_owned()).status.success() {
        println!("SKIPPED {test}: no mount namespace can be made here");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let output =
        run(format!("{mounts}; {} --ignored --exact store::tests::mounts::{test}", program.display()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

fn folder_of_parent() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

#[test]
fn a_full_file_system_is_told_and_what_was_acknowledged_stays() {
    let folder = tempfile::tempdir().unwrap();
    in_namespace(
        "fill_it",
        folder.path(),
        &format!("mount -t tmpfs -o size=400k tmpfs '{}'", folder.path().display()),
    );
}

#[test]
#[ignore = "part of another test: fills the file system of its folder"]
fn fill_it() {
    let folder = folder_of_parent();
    let (path, master) = (folder.join("kms.db"), MasterKey::generate().unwrap());
    let store = Store::create(&path, &master).unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let key = metadata("");
        match store.insert_key(&key, &"p".repeat(4000), &[1; 32]) {
            Ok(()) => kept.push(key.id),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000, "400 KiB hold no thousand policies");
    };
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(kept.len() > 3);
    // What is there can still be used, and opened again.
    kept.sort();
    assert_eq!(store.list_keys(None, 1000).unwrap(), kept);
    assert!(store.key(&kept[0]).unwrap().is_some());
    assert!(matches!(store.backup(&folder.join("backup.db")), Err(StoreError::Full)));
    let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_str().unwrap().starts_with("kms.db")).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(store);
    assert_eq!(Store::open(&path, &master).unwrap().list_keys(None, 1000).unwrap(), kept);
}

#[test]
fn a_database_on_a_file_system_that_cannot_be_written_is_told() {
    let (place, ..) = Place::filled();
    std::fs::write(place.file("master"), place.master.as_bytes()).unwrap();
    // The whole folder, then the file alone.
    for path in [place.folder.path(), &place.path()] {
        let path = path.display();
        in_namespace(
            "open_it_read_only",
            place.folder.path(),
            &format!("mount --bind '{path}' '{path}'; mount -o remount,bind,ro '{path}'"),
        );
    }
}

#[test]
#[ignore = "part of another test: opens the database of its folder"]
fn open_it_read_only() {
    let folder = folder_of_parent();
    let master: [u8; 32] = std::fs::read(folder.join("master")).unwrap().try_into().unwrap();
    let master = MasterKey::from_bytes(zeroize::Zeroizing::new(master));
    let error = Store::open(&folder.join("kms.db"), &master).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly), "{error}");
}
