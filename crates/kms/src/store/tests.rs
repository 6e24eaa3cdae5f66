//! What a store keeps, and what it refuses; an enemy works with plain SQLite on the file.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};

mod files;
mod mounts;
mod rotation;
mod tampering;

/// A store in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    master: MasterKey,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), master: MasterKey::generate().unwrap() };
        drop(Store::create(&place.path(), &place.master).unwrap());
        place
    }

    /// With two keys, and an alias of the first.
    fn filled() -> (Self, KeyMetadata, KeyMetadata) {
        let place = Self::new();
        let (first, second) = (metadata("first"), metadata("second"));
        let store = place.open();
        store.insert_key(&first, "policy of the first", &[1; 32]).unwrap();
        store.insert_key(&second, "policy of the second", &[2; 32]).unwrap();
        store.create_alias("alias/one", &first.id, now()).unwrap();
        drop(store);
        (place, first, second)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kms.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), &self.master).unwrap()
    }

    fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.path(), &self.master)
    }

    /// Statements by who has the file and nothing else.
    fn attack(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }
}

fn metadata(description: &str) -> KeyMetadata {
    KeyMetadata {
        id: KeyId::generate(&mut getrandom::SysRng).unwrap(),
        created: now(),
        description: description.to_owned(),
        usage: KeyUsage::EncryptDecrypt,
        spec: KeySpec::SymmetricDefault,
        state: KeyState::Enabled,
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789)
}

fn after(seconds: u64) -> SystemTime {
    now() + Duration::from_secs(seconds)
}

#[test]
fn what_was_stored_is_there_after_the_store_is_opened_again() {
    let (place, first, second) = Place::filled();
    let store = place.open();
    let found = store.key(&first.id).unwrap().unwrap();
    assert_eq!((&found.metadata, found.policy.as_str()), (&first, "policy of the first"));
    assert_eq!(found.material.as_slice(), [1; 32]);
    assert_eq!(store.alias("alias/one").unwrap(), Some(first.id.clone()));
    let alias =
        Alias { name: "alias/one".to_owned(), target: first.id.clone(), created: now(), updated: now() };
    assert_eq!(store.list_aliases(None, None, 10).unwrap(), [alias]);
    assert_eq!(store.key(&metadata("").id).unwrap().map(|key| key.policy), None);
    assert_eq!(store.alias("alias/none").unwrap(), None);
    let mut ids = [first.id, second.id];
    ids.sort();
    assert_eq!(store.list_keys(None, 10).unwrap(), ids);
}

#[test]
fn every_kind_and_state_of_key_is_read_back_as_it_was() {
    let place = Place::new();
    let specs = [KeySpec::SymmetricDefault, KeySpec::EccNistP256, KeySpec::EccNistP384, KeySpec::EccNistP521];
    let states = [KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion { at: after(7) }];
    let mut keys = Vec::new();
    let store = place.open();
    for spec in specs {
        for state in states {
            for usage in [KeyUsage::EncryptDecrypt, KeyUsage::KeyAgreement] {
                let key = KeyMetadata { usage, spec, state, ..metadata("\u{1f511} ' \0 text") };
                store.insert_key(&key, "{}", &[3; 66]).unwrap();
                keys.push(key);
            }
        }
    }
    drop(store);
    let store = place.open();
    for key in keys {
        assert_eq!(store.key(&key.id).unwrap().unwrap().metadata, key);
    }
}

#[test]
fn changes_of_policy_state_and_description_are_kept() {
    let (place, first, second) = Place::filled();
    let store = place.open();
    let pending = KeyState::PendingDeletion { at: after(60) };
    store.set_policy(&first.id, "another").unwrap();
    store.set_state(&first.id, pending).unwrap();
    store.set_description(&first.id, "changed").unwrap();
    drop(store);
    let found = place.open().key(&first.id).unwrap().unwrap();
    let expected = KeyMetadata { description: "changed".to_owned(), state: pending, ..first };
    assert_eq!((found.metadata, found.policy.as_str()), (expected, "another"));
    assert_eq!(found.material.as_slice(), [1; 32]);
    assert_eq!(place.open().key(&second.id).unwrap().unwrap().metadata, second);
}

#[test]
fn changes_of_what_is_not_there_are_refused() {
    let (place, first, _) = Place::filled();
    let store = place.open();
    let none = metadata("none").id;
    let no_key = |result| matches!(result, Err(StoreError::NoSuchKey(id)) if id == none);
    assert!(no_key(store.set_policy(&none, "")));
    assert!(no_key(store.set_state(&none, KeyState::Disabled)));
    assert!(no_key(store.set_description(&none, "")));
    assert!(no_key(store.create_alias("alias/two", &none, now())));
    assert!(no_key(store.update_alias("alias/one", &none, now())));
    let no_alias = |result| matches!(result, Err(StoreError::NoSuchAlias(_)));
    assert!(no_alias(store.update_alias("alias/two", &first.id, now())));
    assert!(no_alias(store.delete_alias("alias/two")));
    assert!(matches!(store.insert_key(&first, "", &[]), Err(StoreError::KeyExists(_))));
    assert!(matches!(store.create_alias("alias/one", &first.id, now()), Err(StoreError::AliasExists(_))));
    assert_eq!(store.key(&first.id).unwrap().unwrap().policy, "policy of the first");
}

#[test]
fn an_alias_moves_to_another_key_and_goes_without_its_key() {
    let (place, first, second) = Place::filled();
    let store = place.open();
    store.update_alias("alias/one", &second.id, after(1)).unwrap();
    assert_eq!(store.list_aliases(Some(&first.id), None, 10).unwrap(), []);
    let moved = store.list_aliases(Some(&second.id), None, 10).unwrap();
    assert_eq!((moved[0].created, moved[0].updated), (now(), after(1)));
    store.delete_alias("alias/one").unwrap();
    assert_eq!(store.alias("alias/one").unwrap(), None);
    drop(store);
    assert!(place.open().key(&second.id).unwrap().is_some());
}

#[test]
fn lists_go_on_behind_what_was_seen_last_and_stop_at_the_limit() {
    let place = Place::new();
    let store = place.open();
    let mut ids: Vec<KeyId> = (0..5)
        .map(|number| {
            let key = metadata("");
            store.insert_key(&key, "", &[]).unwrap();
            store.create_alias(&format!("alias/{number}"), &key.id, now()).unwrap();
            key.id
        })
        .collect();
    ids.sort();
    assert_eq!(store.list_keys(None, 2).unwrap(), ids[..2]);
    assert_eq!(store.list_keys(Some(&ids[1]), 9).unwrap(), ids[2..]);
    assert_eq!(store.list_keys(None, 0).unwrap(), []);
    let names = |aliases: Vec<Alias>| aliases.into_iter().map(|alias| alias.name).collect::<Vec<_>>();
    assert_eq!(names(store.list_aliases(None, None, 1).unwrap()), ["alias/0"]);
    assert_eq!(names(store.list_aliases(None, Some("alias/2"), 9).unwrap()), ["alias/3", "alias/4"]);
}

#[test]
fn a_key_whose_time_has_come_is_gone_with_its_aliases_and_from_the_files() {
    let (place, first, second) = Place::filled();
    // Not compressible, and nowhere else.
    let material: Vec<u8> = (0..64).map(|byte: u8| byte.wrapping_mul(151)).collect();
    let store = place.open();
    let doomed = KeyMetadata { description: "a description to look for".to_owned(), ..metadata("") };
    store.insert_key(&doomed, "a policy to look for", &material).unwrap();
    store.create_alias("alias/doomed", &doomed.id, now()).unwrap();
    store.set_state(&doomed.id, KeyState::PendingDeletion { at: after(10) }).unwrap();
    assert_eq!(store.destroy_due(after(9)).unwrap(), []);
    assert!(store.key(&doomed.id).unwrap().is_some());
    assert_eq!(store.destroy_due(after(10)).unwrap(), std::slice::from_ref(&doomed.id));
    assert!(store.key(&doomed.id).unwrap().is_none());
    assert_eq!(store.alias("alias/doomed").unwrap(), None);
    // With the database still open: the log is empty, and deleted rows are overwritten.
    for name in ["kms.db", "kms.db-wal"] {
        let bytes = std::fs::read(place.file(name)).unwrap();
        for text in ["a description to look for", "a policy to look for", "alias/doomed"] {
            assert!(!contains(&bytes, text.as_bytes()), "{text} is still in {name}");
        }
    }
    drop(store);
    let store = place.open();
    assert!(store.key(&first.id).unwrap().is_some() && store.key(&second.id).unwrap().is_some());
}

#[test]
fn a_deletion_that_was_called_off_destroys_nothing() {
    let (place, first, _) = Place::filled();
    let store = place.open();
    store.set_state(&first.id, KeyState::PendingDeletion { at: after(1) }).unwrap();
    store.set_state(&first.id, KeyState::Disabled).unwrap();
    assert_eq!(store.destroy_due(after(1000)).unwrap(), []);
    assert!(store.key(&first.id).unwrap().is_some());
}

#[test]
fn the_files_have_no_material_in_the_clear() {
    let place = Place::new();
    let material: Vec<u8> = (0..32).map(|byte: u8| byte.wrapping_mul(151)).collect();
    let store = place.open();
    store.insert_key(&metadata("shown"), "", &material).unwrap();
    let mut shown = false;
    for name in ["kms.db", "kms.db-wal", "kms.db-shm"] {
        let bytes = std::fs::read(place.file(name)).unwrap();
        assert!(!contains(&bytes, &material) && !contains(&bytes, place.master.as_bytes()), "{name}");
        shown |= contains(&bytes, b"shown");
        let mode = std::fs::metadata(place.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(shown, "the search finds what is there");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn the_longest_values_are_kept_and_longer_ones_refused() {
    let place = Place::new();
    let store = place.open();
    let longest = KeyMetadata { description: "d".repeat(MAX_DESCRIPTION_LEN), ..metadata("") };
    let policy = "p".repeat(crate::policy::MAX_POLICY_BYTES);
    store.insert_key(&longest, &policy, &[0; MAX_MATERIAL_LEN]).unwrap();
    let name = "a".repeat(MAX_ALIAS_LEN);
    store.create_alias(&name, &longest.id, now()).unwrap();
    assert_eq!(store.key(&longest.id).unwrap().unwrap().metadata, longest);
    let too_long = |result| matches!(result, Err(StoreError::TooLong { .. }));
    assert!(too_long(store.create_alias(&format!("{name}a"), &longest.id, now())));
    assert!(too_long(store.set_policy(&longest.id, &format!("{policy}p"))));
    assert!(too_long(store.set_description(&longest.id, &format!("{}d", longest.description))));
    assert!(too_long(store.insert_key(&metadata(""), "", &[0; MAX_MATERIAL_LEN + 1])));
}

#[test]
fn times_before_1970_and_after_2262_are_refused() {
    let place = Place::new();
    let store = place.open();
    let second = Duration::from_secs(1);
    let last = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(i64::MAX).unwrap());
    store.insert_key(&KeyMetadata { created: last, ..metadata("") }, "", &[]).unwrap();
    for created in [SystemTime::UNIX_EPOCH - second, last + second] {
        let key = KeyMetadata { created, ..metadata("") };
        assert!(matches!(store.insert_key(&key, "", &[]), Err(StoreError::Time)));
    }
}

#[test]
fn many_threads_write_and_read_at_once() {
    let place = Place::new();
    let store = place.open();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    let key = metadata("");
                    store.insert_key(&key, "", &[thread; 32]).unwrap();
                    store.create_alias(&format!("alias/{thread}-{round}"), &key.id, now()).unwrap();
                    assert_eq!(store.key(&key.id).unwrap().unwrap().material.as_slice(), [thread; 32]);
                }
            });
        }
    });
    drop(store);
    let store = place.open();
    assert_eq!(store.list_keys(None, 100).unwrap().len(), 20);
    assert_eq!(store.list_aliases(None, None, 100).unwrap().len(), 20);
}
