//! An enemy who can write the file and has not the master key.

use super::*;

/// What only the use of the row shows while the service runs, and any start of the service shows.
fn assert_refused(place: &Place, statements: &str, what: &str) {
    place.attack(statements);
    match place.try_open() {
        Err(StoreError::Tampered(said)) => assert!(said.contains(what), "{said}"),
        other => panic!("{statements}: {other:?}"),
    }
}

#[test]
fn any_changed_column_of_a_key_is_refused() {
    for change in [
        "created = created + 1",
        "description = 'harmless'",
        "usage = 'KEY_AGREEMENT'",
        "spec = 'ECC_NIST_P256'",
        "state = 'Disabled'",
        "state = 'PendingDeletion', deletion = 1",
        "deletion = 1",
        "policy = 'allow everyone'",
        "sealed = zeroblob(60)",
        "sealed = x''",
        "sealed = substr(sealed, 1, length(sealed) - 1)",
    ] {
        let (place, first, _) = Place::filled();
        assert_refused(&place, &format!("UPDATE keys SET {change} WHERE id = '{}'", first.id), "the key");
    }
}

#[test]
fn any_changed_column_of_an_alias_is_refused() {
    for change in [
        "target = (SELECT id FROM keys WHERE id != target)",
        "name = 'alias/two'",
        "created = 1",
        "updated = 1",
        "sealed = zeroblob(28)",
    ] {
        let (place, ..) = Place::filled();
        assert_refused(&place, &format!("UPDATE aliases SET {change}"), "the alias");
    }
}

#[test]
fn a_policy_of_another_key_is_refused() {
    let (place, first, second) = Place::filled();
    let swap = format!(
        "UPDATE keys SET policy = (SELECT policy FROM keys WHERE id = '{}') WHERE id = '{}'",
        second.id, first.id
    );
    assert_refused(&place, &swap, "the key");
}

#[test]
fn the_material_of_another_key_is_refused() {
    let (place, first, second) = Place::filled();
    let swap = format!(
        "UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE id = '{}') WHERE id = '{}'",
        second.id, first.id
    );
    assert_refused(&place, &swap, "the key");
}

#[test]
fn a_whole_row_under_another_id_is_refused() {
    let (place, first, second) = Place::filled();
    let swap = format!(
        "DELETE FROM aliases; DELETE FROM keys WHERE id = '{}'; UPDATE keys SET id = '{}'",
        first.id, first.id
    );
    assert_refused(&place, &swap, "the key");
    assert_ne!(first.id, second.id);
}

#[test]
fn a_row_of_another_database_under_the_same_master_key_is_refused() {
    let (place, ..) = Place::filled();
    let other = place.file("other.db");
    let store = Store::create(&other, &place.master).unwrap();
    store.insert_key(&metadata("foreign"), "allow everyone", &[9; 32]).unwrap();
    drop(store);
    let copy = format!("ATTACH '{}' AS other; INSERT INTO keys SELECT * FROM other.keys", other.display());
    assert_refused(&place, &copy, "the key");
}

#[test]
fn rows_taken_away_are_noticed() {
    for theft in ["DELETE FROM aliases", "DELETE FROM keys WHERE id NOT IN (SELECT target FROM aliases)"] {
        let (place, ..) = Place::filled();
        assert_refused(&place, theft, "rows were taken away");
    }
}

#[test]
fn a_row_put_back_from_an_earlier_time_is_noticed() {
    let (place, first, _) = Place::filled();
    std::fs::copy(place.path(), place.file("earlier.db")).unwrap();
    place.open().set_policy(&first.id, "stricter").unwrap();
    let put_back = format!(
        "ATTACH '{}' AS earlier; INSERT OR REPLACE INTO keys SELECT * FROM earlier.keys WHERE id = '{}'",
        place.file("earlier.db").display(),
        first.id
    );
    assert_refused(&place, &put_back, "put back from an earlier time");
}

#[test]
fn a_sum_put_back_from_an_earlier_time_is_noticed() {
    let (place, first, _) = Place::filled();
    std::fs::copy(place.path(), place.file("earlier.db")).unwrap();
    place.open().set_policy(&first.id, "stricter").unwrap();
    let put_back = format!(
        "ATTACH '{}' AS earlier; UPDATE meta SET sum = (SELECT sum FROM earlier.meta)",
        place.file("earlier.db").display()
    );
    assert_refused(&place, &put_back, "put back from an earlier time");
}

#[test]
fn a_changed_sum_is_refused() {
    let (place, ..) = Place::filled();
    assert_refused(&place, "UPDATE meta SET sum = zeroblob(60)", "the sum");
}

#[test]
fn the_whole_database_of_an_earlier_time_opens_as_a_restored_backup_does() {
    // What the documentation says cannot be noticed. If this fails, the documentation is to be changed.
    let (place, first, _) = Place::filled();
    std::fs::copy(place.path(), place.file("earlier.db")).unwrap();
    place.open().set_policy(&first.id, "stricter").unwrap();
    std::fs::rename(place.file("earlier.db"), place.path()).unwrap();
    assert_eq!(place.open().key(&first.id).unwrap().unwrap().policy, "policy of the first");
}

#[test]
fn changes_while_the_store_is_open_are_refused_at_their_use() {
    let (place, first, second) = Place::filled();
    let store = place.open();
    place.attack(&format!(
        "UPDATE keys SET policy = 'allow everyone' WHERE id = '{}'; UPDATE aliases SET target = '{}'",
        first.id, second.id
    ));
    let tampered = |error: StoreError| matches!(error, StoreError::Tampered(_));
    assert!(tampered(store.key(&first.id).unwrap_err()));
    assert!(tampered(store.set_state(&first.id, KeyState::Disabled).unwrap_err()));
    assert!(tampered(store.set_policy(&first.id, "mine").unwrap_err()));
    assert!(tampered(store.alias("alias/one").unwrap_err()));
    assert!(tampered(store.list_aliases(None, None, 10).unwrap_err()));
    assert!(tampered(store.update_alias("alias/one", &first.id, now()).unwrap_err()));
    assert!(tampered(store.delete_alias("alias/one").unwrap_err()));
    assert!(tampered(store.rotate_master_key(&MasterKey::generate().unwrap()).unwrap_err()));
    assert!(tampered(store.backup(&place.file("backup.db")).unwrap_err()));
    assert!(!place.file("backup.db").exists());
    assert!(store.key(&second.id).unwrap().is_some());
}

#[test]
fn a_date_that_an_enemy_wrote_destroys_no_key() {
    let (place, first, _) = Place::filled();
    let store = place.open();
    place.attack(&format!(
        "UPDATE keys SET state = 'PendingDeletion', deletion = 1 WHERE id = '{}'",
        first.id
    ));
    assert!(matches!(store.destroy_due(now()), Err(StoreError::Tampered(_))));
    place.attack(&format!("UPDATE keys SET state = 'Enabled', deletion = NULL WHERE id = '{}'", first.id));
    assert!(store.key(&first.id).unwrap().is_some());
}

#[test]
fn text_that_is_none_is_refused_and_does_not_stop_the_service() {
    let (place, ..) = Place::filled();
    let store = place.open();
    place.attack("UPDATE keys SET policy = CAST(x'ff' AS TEXT)");
    let ids = store.list_keys(None, 10).unwrap();
    assert!(matches!(store.key(&ids[0]), Err(StoreError::Tampered(_))));
    place.attack("DELETE FROM aliases; UPDATE keys SET id = 'no uuid' WHERE id = (SELECT min(id) FROM keys)");
    assert!(matches!(store.list_keys(None, 10), Err(StoreError::Tampered(_))));
}

#[test]
fn another_master_key_is_told_from_tampering() {
    let (place, ..) = Place::filled();
    let other = MasterKey::generate().unwrap();
    assert!(matches!(Store::open(&place.path(), &other), Err(StoreError::WrongMasterKey)));
    place.attack("UPDATE meta SET key_check = zeroblob(32)");
    assert!(matches!(place.try_open(), Err(StoreError::WrongMasterKey)));
}
