//! Files that are not what they should be.

use super::*;

#[test]
fn a_database_that_is_not_there_or_is_there_already_is_told() {
    let place = Place::new();
    let missing = Store::open(&place.file("none.db"), &place.master).unwrap_err();
    assert!(matches!(missing, StoreError::File(ref error) if error.is_not_found()), "{missing}");
    let before = std::fs::read(place.path()).unwrap();
    let again = Store::create(&place.path(), &place.master).unwrap_err();
    assert!(again.to_string().contains("File exists"), "{again}");
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
    let nowhere = Store::create(&place.file("none/kms.db"), &place.master).unwrap_err();
    assert!(matches!(nowhere, StoreError::File(FileError::Io { .. })), "{nowhere}");
}

#[test]
fn what_is_beside_a_new_database_is_neither_an_obstacle_nor_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.db");
    std::fs::write(folder.path().join("kms.db.new"), "mine").unwrap();
    let master = MasterKey::generate().unwrap();
    drop(Store::create(&path, &master).unwrap());
    drop(Store::open(&path, &master).unwrap());
    assert_eq!(std::fs::read_to_string(folder.path().join("kms.db.new")).unwrap(), "mine");
}

#[test]
fn a_second_process_or_store_is_refused() {
    let (place, ..) = Place::filled();
    let store = place.open();
    assert!(matches!(place.try_open(), Err(StoreError::File(FileError::InUse(_)))));
    drop(store);
    drop(place.open());
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let (place, ..) = Place::filled();
    for mode in [0o640, 0o604, 0o620, 0o602] {
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = place.try_open().unwrap_err();
        assert!(matches!(error, StoreError::File(FileError::NotPrivate { .. })), "{mode:o}: {error}");
    }
}

#[test]
fn a_symbolic_link_a_folder_and_a_fifo_are_refused() {
    let (place, ..) = Place::filled();
    let link = place.file("link.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let folder = place.file("folder");
    std::fs::create_dir(&folder).unwrap();
    let fifo = place.file("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    for path in [link, folder, fifo] {
        let error = Store::open(&path, &place.master).unwrap_err();
        assert!(matches!(error, StoreError::File(FileError::NotPrivate { .. })), "{error}");
    }
}

#[test]
fn a_database_of_another_user_is_refused() {
    let (place, ..) = Place::filled();
    if std::os::unix::fs::chown(place.path(), Some(65534), None).is_err() {
        println!("SKIPPED a_database_of_another_user_is_refused: only root can give files away");
        return;
    }
    let error = place.try_open().unwrap_err();
    assert!(matches!(error, StoreError::File(FileError::NotPrivate { .. })), "{error}");
}

#[test]
fn a_folder_that_is_reached_by_a_link_is_used_where_it_is() {
    let (place, ..) = Place::filled();
    let link = place.file("here");
    std::os::unix::fs::symlink(place.folder.path(), &link).unwrap();
    let store = Store::open(&link.join("kms.db"), &place.master).unwrap();
    assert_eq!(store.path(), place.path().canonicalize().unwrap());
}

#[test]
fn a_file_that_is_no_database_of_ours_is_told_and_left_alone() {
    let (place, ..) = Place::filled();
    let text = place.file("text");
    std::fs::write(&text, "x".repeat(4096)).unwrap();
    let other = place.file("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    for path in [text, other] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(&path, &place.master).unwrap_err();
        assert!(matches!(error, StoreError::Foreign(_)), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_database_of_a_newer_format_is_told() {
    let (place, ..) = Place::filled();
    place.attack("PRAGMA user_version = 2");
    assert!(matches!(place.try_open(), Err(StoreError::Newer { found: 2 })));
    place.attack("PRAGMA user_version = 0");
    assert!(matches!(place.try_open(), Err(StoreError::Damaged(_))));
}

#[test]
fn a_database_cut_anywhere_is_refused() {
    let (place, ..) = Place::filled();
    let whole = std::fs::read(place.path()).unwrap();
    assert!(whole.len() > 4096, "more than a page");
    for length in (0..whole.len()).step_by(1000).chain([99, 100, whole.len() - 1]) {
        std::fs::write(place.path(), &whole[..length]).unwrap();
        match place.try_open() {
            Err(StoreError::Damaged(_) | StoreError::Foreign(_)) => {}
            other => panic!("{length} of {} bytes: {other:?}", whole.len()),
        }
    }
}

#[test]
fn no_flipped_byte_is_believed() {
    let (place, first, second) = Place::filled();
    let whole = std::fs::read(place.path()).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x41;
        std::fs::write(place.path(), &flipped).unwrap();
        let Ok(store) = place.try_open() else {
            refused += 1;
            continue;
        };
        // A byte that nothing reads, or one of the header that changes nothing: then all is as it was.
        for (key, policy) in [(&first, "policy of the first"), (&second, "policy of the second")] {
            let found = store.key(&key.id).unwrap().unwrap();
            assert_eq!((&found.metadata, found.policy.as_str()), (key, policy), "byte {at}");
        }
        assert_eq!(store.alias("alias/one").unwrap(), Some(first.id.clone()), "byte {at}");
    }
    assert!(refused > 10, "{refused} of them mattered");
}

#[test]
fn tables_triggers_and_views_that_are_not_ours_are_refused() {
    for addition in [
        "CREATE TABLE more (a)",
        "CREATE TRIGGER t AFTER UPDATE ON keys BEGIN DELETE FROM keys; END",
        "CREATE VIEW v AS SELECT * FROM keys",
        "DROP INDEX keys_by_deletion",
        "ALTER TABLE keys ADD COLUMN more TEXT",
    ] {
        let (place, ..) = Place::filled();
        place.attack(addition);
        let error = place.try_open().unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{addition}: {error}");
    }
    let (place, ..) = Place::filled();
    place.attack("DELETE FROM meta");
    assert!(matches!(place.try_open(), Err(StoreError::Damaged(_))));
    let (place, ..) = Place::filled();
    place.attack("PRAGMA foreign_keys = OFF; DELETE FROM keys");
    assert!(matches!(place.try_open(), Err(StoreError::Damaged(_))));
}
