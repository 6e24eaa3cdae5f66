use std::os::unix::fs::PermissionsExt;

use super::*;

fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, MasterKeySource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (folder, MasterKeySource::File(path))
}

#[test]
fn a_key_that_openssl_made_is_read() {
    let output = std::process::Command::new("openssl").args(["rand", "-hex", "32"]).output().unwrap();
    let (_folder, source) = file(&output.stdout, 0o600);
    assert_eq!(format!("{}\n", hex::encode(source.load().unwrap().as_bytes())).as_bytes(), output.stdout);
}

#[test]
fn a_key_that_was_made_is_read_back_and_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let source = MasterKeySource::File(path.clone());
    let key = source.generate().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(source.load().unwrap().as_bytes(), key.as_bytes());
    assert!(matches!(source.generate(), Err(MasterKeyError::File(_))));
    assert_eq!(source.load().unwrap().as_bytes(), key.as_bytes());
    assert_ne!(MasterKey::generate().unwrap().as_bytes(), key.as_bytes());
}

#[test]
fn files_that_are_not_64_digits_are_refused() {
    let digits = "0123456789abcdef".repeat(4);
    for content in ["", "\n", &digits[1..], &format!("{digits}0"), &format!("{digits}\n\n"), &"x".repeat(64)]
    {
        let (_folder, source) = file(content.as_bytes(), 0o600);
        assert!(
            matches!(
                source.load(),
                Err(MasterKeyError::Malformed(_) | MasterKeyError::File(FileError::TooLong { .. }))
            ),
            "{content:?}"
        );
    }
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let (_folder, source) = file("0".repeat(64).as_bytes(), 0o640);
    assert!(matches!(source.load(), Err(MasterKeyError::File(FileError::NotPrivate { .. }))));
}

#[test]
fn a_symbolic_link_is_refused() {
    let (folder, source) = file("0".repeat(64).as_bytes(), 0o600);
    let link = folder.path().join("link");
    let MasterKeySource::File(path) = source else { unreachable!() };
    std::os::unix::fs::symlink(path, &link).unwrap();
    let linked = MasterKeySource::File(link);
    assert!(matches!(linked.load(), Err(MasterKeyError::File(FileError::NotPrivate { .. }))));
}

#[test]
fn names_of_credentials_lead_nowhere_else() {
    let folder = Some(OsString::from("/run/credentials/kms.service"));
    let path = credential("kms-master.key", NEXT, folder.clone()).unwrap();
    assert_eq!(path, Path::new("/run/credentials/kms.service/kms-master.key.next"));
    for name in ["", ".", "..", "../key", "a/b", "a\0", "/etc/shadow"] {
        let result = credential(name, "", folder.clone());
        assert!(matches!(result, Err(MasterKeyError::CredentialName(_))), "{name:?}");
    }
    for none in [None, Some(OsString::new())] {
        assert!(matches!(credential("key", "", none), Err(MasterKeyError::NoCredentials)));
    }
}

#[test]
fn a_credential_is_not_made_here() {
    let source = MasterKeySource::Credential("key".to_owned());
    assert!(matches!(source.generate(), Err(MasterKeyError::MakeCredential(_))));
}

#[test]
fn a_key_is_not_in_debug_output() {
    let key = MasterKey::from_bytes(Zeroizing::new([0x5a; 32]));
    assert_eq!(format!("{key:?}"), "MasterKey(..)");
}

#[test]
fn the_configuration_names_each_kind_of_source() {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Configuration {
        master_key: MasterKeySource,
    }
    let read = |text: &str| toml::from_str::<Configuration>(text).map(|found| found.master_key);
    let source = read("master-key = { file = 'master.key' }").unwrap().within(Path::new("/srv"));
    assert_eq!(source, MasterKeySource::File("/srv/master.key".into()));
    assert_eq!(
        read("master-key = { credential = 'kms' }").unwrap(),
        MasterKeySource::Credential("kms".to_owned())
    );
    let token = "[master-key.token]\nmodule = '/usr/lib/token.so'\ntoken = 't'\nkey = 'k'\nwrapped = 'w'\npin = { file = 'p' }";
    let MasterKeySource::Token(found) = read(token).unwrap().within(Path::new("/srv")) else {
        unreachable!()
    };
    assert_eq!(
        (found.wrapped.as_path(), found.pin),
        (Path::new("/srv/w"), super::super::PinSource::File("/srv/p".into()))
    );
    assert!(read("master-key = { file = 'a', credential = 'b' }").is_err());
    assert!(read(&format!("{token}\nmore = 1")).is_err());
}
