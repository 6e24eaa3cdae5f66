use super::*;
use crate::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};

fn metadata(description: &str) -> KeyMetadata {
    KeyMetadata {
        id: KeyId::generate(&mut getrandom::SysRng).unwrap(),
        created: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        description: description.to_owned(),
        usage: KeyUsage::EncryptDecrypt,
        spec: KeySpec::SymmetricDefault,
        state: KeyState::Enabled,
    }
}

#[test]
fn what_was_stored_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.db");
    let master = MasterKey::generate().unwrap();
    let key = metadata("first");
    let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    {
        let store = Store::create(&path, &master).unwrap();
        store.insert_key(&key, "{}", &[7; 32]).unwrap();
        store.create_alias("alias/one", &key.id, now).unwrap();
    }
    let store = Store::open(&path, &master).unwrap();
    let found = store.key(&key.id).unwrap().unwrap();
    assert_eq!(
        (found.metadata, found.policy.as_str(), found.material.as_slice()),
        (key.clone(), "{}", &[7; 32][..])
    );
    assert_eq!(store.alias("alias/one").unwrap(), Some(key.id.clone()));
    assert_eq!(store.list_keys(None, 10).unwrap(), [key.id.clone()]);
    let alias = Alias { name: "alias/one".to_owned(), target: key.id, created: now, updated: now };
    assert_eq!(store.list_aliases(None, None, 10).unwrap(), [alias]);
}
