use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use super::*;
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};

fn key() -> KeyMetadata {
    KeyMetadata {
        id: KeyId::generate(&mut getrandom::SysRng).unwrap(),
        created: SystemTime::UNIX_EPOCH,
        description: String::new(),
        usage: KeyUsage::EncryptDecrypt,
        spec: KeySpec::SymmetricDefault,
        state: KeyState::Enabled,
    }
}

#[test]
fn a_backup_is_one_private_file_that_opens_with_all_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("kms.db"), folder.path().join("copy.db"));
    let master = MasterKey::generate().unwrap();
    let store = Store::create(&path, &master).unwrap();
    let key = key();
    store.insert_key(&key, "{}", &[5; 32]).unwrap();
    store.backup(&copy).unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["copy.db", "kms.db", "kms.db-shm", "kms.db-wal", "kms.db.lock"]);
    let restored = Store::open(&copy, &master).unwrap();
    assert_eq!(restored.key(&key.id).unwrap().unwrap().material.as_slice(), [5; 32]);
}

#[test]
fn a_backup_made_while_others_write_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.db");
    let master = MasterKey::generate().unwrap();
    let store = Store::create(&path, &master).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..40).for_each(|_| store.insert_key(&key(), "{}", &[5; 32]).unwrap()));
        let mut number = 0;
        while number < 3 || !writer.is_finished() {
            number += 1;
            let copy = folder.path().join(format!("copy-{number}.db"));
            let known = store.list_keys(None, 100).unwrap();
            // As the command does it, beside a service that has the database open.
            backup(&path, &copy, &master).unwrap();
            let restored = Store::open(&copy, &master).unwrap();
            let restored = restored.list_keys(None, 100).unwrap();
            assert!(known.iter().all(|id| restored.contains(id)));
        }
    });
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("kms.db"), folder.path().join("copy.db"));
    let store = Store::create(&path, &MasterKey::generate().unwrap()).unwrap();
    std::fs::write(&copy, "mine").unwrap();
    assert!(matches!(store.backup(&copy), Err(StoreError::File(_))));
    std::fs::remove_file(&copy).unwrap();
    std::os::unix::fs::symlink("nowhere", &copy).unwrap();
    assert!(matches!(store.backup(&copy), Err(StoreError::File(_))));
    assert_eq!(std::fs::read_link(&copy).unwrap(), Path::new("nowhere"));
}

#[test]
fn a_backup_under_another_master_key_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("kms.db"), folder.path().join("copy.db"));
    drop(Store::create(&path, &MasterKey::generate().unwrap()).unwrap());
    let result = backup(&path, &copy, &MasterKey::generate().unwrap());
    assert!(matches!(result, Err(StoreError::WrongMasterKey)));
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_str().unwrap().starts_with("kms.db")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_beside_a_backup_is_neither_an_obstacle_nor_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let store = Store::create(&file("kms.db"), &MasterKey::generate().unwrap()).unwrap();
    // What earlier versions left, and what a killed one leaves now.
    std::fs::write(file("copy.db.new"), "mine").unwrap();
    std::fs::create_dir(file(".kms-AAAAAA.new")).unwrap();
    std::fs::write(file(".kms-AAAAAA.new/copy"), "mine").unwrap();
    store.backup(&file("copy.db")).unwrap();
    for name in ["copy.db.new", ".kms-AAAAAA.new/copy"] {
        assert_eq!(std::fs::read_to_string(file(name)).unwrap(), "mine", "{name}");
    }
}
