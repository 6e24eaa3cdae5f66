//! Another master key, and what an interrupted rotation leaves.

use super::*;

/// A filled store under a master key in a file.
fn with_source() -> (Place, MasterKeySource, KeyMetadata) {
    let (place, first, _) = Place::filled();
    let source = MasterKeySource::File(place.file("master.key"));
    let text = format!("{}\n", hex::encode(place.master.as_bytes()));
    private_file::write_new(&place.file("master.key"), text.as_bytes()).unwrap();
    (place, source, first)
}

fn assert_readable(store: &Store, key: &KeyMetadata) {
    assert_eq!(store.key(&key.id).unwrap().unwrap().material.as_slice(), [1; 32]);
    assert_eq!(store.alias("alias/one").unwrap().as_ref(), Some(&key.id));
}

#[test]
fn after_a_rotation_only_the_new_key_opens_the_database() {
    let (place, source, first) = with_source();
    assert_eq!(rotate(&place.path(), &source).unwrap(), Rotated { keys: 2, aliases: 1 });
    assert!(matches!(place.try_open(), Err(StoreError::WrongMasterKey)));
    assert_readable(&Store::open_from(&place.path(), &source).unwrap(), &first);
    let old = MasterKeySource::File(place.file("master.key.old")).load().unwrap();
    assert_eq!(old.as_bytes(), place.master.as_bytes());
    assert!(!place.file("master.key.next").exists());
}

#[test]
fn nothing_sealed_by_the_old_key_is_left_in_the_files() {
    let (place, source, _) = with_source();
    let old: Vec<Vec<u8>> = Connection::open(place.path())
        .unwrap()
        .prepare("SELECT sealed FROM keys UNION ALL SELECT sealed FROM aliases")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(contains(&std::fs::read(place.path()).unwrap(), &old[0]), "the search finds what is there");
    rotate(&place.path(), &source).unwrap();
    let bytes = std::fs::read(place.path()).unwrap();
    assert!(old.len() == 3 && old.iter().all(|sealed| !contains(&bytes, sealed)));
}

#[test]
fn a_store_goes_on_under_the_new_key_while_others_read() {
    let (place, first, _) = Place::filled();
    let store = place.open();
    let done = std::sync::atomic::AtomicBool::new(false);
    let master = std::thread::scope(|scope| {
        let (store, first, done) = (&store, &first, &done);
        let reader = scope.spawn(move || {
            let mut reads = 0;
            while reads == 0 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_readable(store, first);
                reads += 1;
            }
        });
        let mut master = MasterKey::generate().unwrap();
        for _ in 0..5 {
            master = MasterKey::generate().unwrap();
            store.rotate_master_key(&master).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
        master
    });
    store.set_policy(&first.id, "after").unwrap();
    drop(store);
    assert_readable(&Store::open(&place.path(), &master).unwrap(), &first);
}

#[test]
fn a_rotation_that_ended_before_the_database_changed_is_forgotten() {
    let (place, source, first) = with_source();
    source.make_next().unwrap();
    assert!(place.file("master.key.next").exists());
    assert_readable(&Store::open_from(&place.path(), &source).unwrap(), &first);
    assert!(!place.file("master.key.next").exists());
    assert_readable(&place.open(), &first);
}

#[test]
fn a_rotation_that_ended_after_the_database_changed_is_completed() {
    let (place, source, first) = with_source();
    let next = source.make_next().unwrap();
    place.open().rotate_master_key(&next).unwrap();
    assert_readable(&Store::open_from(&place.path(), &source).unwrap(), &first);
    assert!(!place.file("master.key.next").exists());
    assert_eq!(source.load().unwrap().as_bytes(), next.as_bytes());
    // And if it ended between the second name of the old key and the new key's place.
    let after = source.make_next().unwrap();
    Store::open(&place.path(), &next).unwrap().rotate_master_key(&after).unwrap();
    std::fs::remove_file(place.file("master.key.old")).unwrap();
    std::fs::hard_link(place.file("master.key"), place.file("master.key.old")).unwrap();
    assert_readable(&Store::open_from(&place.path(), &source).unwrap(), &first);
    assert_eq!(source.load().unwrap().as_bytes(), after.as_bytes());
    let old = MasterKeySource::File(place.file("master.key.old")).load().unwrap();
    assert_eq!(old.as_bytes(), next.as_bytes());
}

#[test]
fn a_rotation_of_a_database_in_use_is_refused_and_its_keys_are_left_alone() {
    let (place, source, _) = with_source();
    let store = place.open();
    assert!(matches!(rotate(&place.path(), &source), Err(StoreError::File(FileError::InUse(_)))));
    assert!(!place.file("master.key.next").exists() && !place.file("master.key.old").exists());
    drop(store);
}

#[test]
fn neither_of_two_wrong_keys_opens_the_database() {
    let (place, ..) = Place::filled();
    let source = MasterKeySource::File(place.file("other.key"));
    source.generate().unwrap();
    source.make_next().unwrap();
    assert!(matches!(Store::open_from(&place.path(), &source), Err(StoreError::WrongMasterKey)));
    assert!(place.file("other.key").exists() && place.file("other.key.next").exists());
}
