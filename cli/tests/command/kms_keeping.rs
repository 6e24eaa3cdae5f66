//! `enclave kms backup`, `rotate-master-key`, `log verify` and `log rotate`: the files of a key service.

use std::fs;

use crate::support::{User, mode};

/// A user with a new key service.
fn with_service() -> User {
    let user = User::new();
    user.run(&["kms", "init"]).succeeded();
    user
}

#[test]
fn a_backup_is_private_and_is_not_overwritten() {
    let user = with_service();
    let file = user.path("backup.db");
    let file = file.to_str().unwrap();
    let report = user.run(&["kms", "backup", file, "-o", "json"]).succeeded().json();
    assert_eq!(report["Backup"], file);
    assert_eq!(report["Bytes"], fs::metadata(file).unwrap().len());
    assert_eq!(mode(&user.path("backup.db")), 0o600);
    let before = fs::read(file).unwrap();
    let again = user.run(&["kms", "backup", file]);
    assert!(again.status == 1 && again.stderr.contains("next: "), "{again:#?}");
    assert_eq!(fs::read(file).unwrap(), before);
}

#[test]
fn a_backup_under_another_master_key_is_refused() {
    let user = with_service();
    let key = user.path("state/kms/master.key");
    assert!(key.exists());
    fs::write(&key, format!("{}\n", "0".repeat(64))).unwrap();
    let file = user.path("backup.db");
    let ran = user.run(&["kms", "backup", file.to_str().unwrap()]);
    assert!(ran.status == 1 && ran.stderr.contains("this is not the master key"), "{ran:#?}");
    assert!(!file.exists());
}

#[test]
fn a_rotation_leaves_the_old_key_beside_the_new_one() {
    let user = with_service();
    let key = user.path("state/kms/master.key");
    let old = fs::read(&key).unwrap();
    let report = user.run(&["kms", "rotate-master-key", "-o", "json"]).succeeded().json();
    assert_eq!((report["Keys"].clone(), report["Aliases"].clone()), (0.into(), 0.into()));
    let kept = report["OldMasterKey"].as_str().unwrap();
    assert_eq!(fs::read(kept).unwrap(), old);
    assert_ne!(fs::read(&key).unwrap(), old);
    assert_eq!(mode(&key), 0o600);
    // The database is under the new key.
    user.run(&["kms", "backup", user.path("backup.db").to_str().unwrap()]).succeeded();
    fs::write(&key, old).unwrap();
    let ran = user.run(&["kms", "rotate-master-key"]);
    assert!(ran.status == 1 && ran.stderr.contains("this is not the master key"), "{ran:#?}");
}

#[test]
fn a_rotation_of_what_is_not_there_names_the_next_step() {
    let user = User::new();
    for command in [
        &["kms", "rotate-master-key"][..],
        &["kms", "backup", "file"],
        &["kms", "log", "verify"],
        &["kms", "log", "rotate"],
    ] {
        let ran = user.run(command);
        assert!(ran.status == 1 && ran.stderr.contains("next: "), "{ran:#?}");
    }
}

#[test]
fn a_log_is_verified_and_a_changed_one_names_the_line() {
    let user = User::new();
    // Two lines, chained here by the hash alone.
    let line = |number: u32, previous: &str| {
        format!(
            r#"{{"number":{number},"time":"1970-01-01T00:00:00Z","principal":"p","operation":"kms:Decrypt","key":null,"allowed":true,"reason":"r","requestId":"1","source":"unix","previous":"{previous}"}}"#
        )
    };
    let sha256 = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    let first = line(1, &"0".repeat(64));
    let second = line(2, &sha256(&first));
    let whole = user.file("log", format!("{first}\n{second}\n"));
    let report = user.run(&["kms", "log", "verify", &whole, "-o", "json"]).succeeded().json();
    let head = format!("2:{}", sha256(&second));
    assert_eq!((report["Entries"].clone(), report["Head"].clone()), (2.into(), head.clone().into()));
    user.run(&["kms", "log", "verify", &whole, "--head", &head]).succeeded();

    let changed = user.file("changed", format!("{}\n{second}\n", first.replace("true", "false")));
    let ran = user.run(&["kms", "log", "verify", &changed]);
    assert!(ran.status == 1 && ran.stderr.contains("line 2 does not follow"), "{ran:#?}");
    let shorter = user.file("shorter", format!("{first}\n"));
    user.run(&["kms", "log", "verify", &shorter]).succeeded();
    let ran = user.run(&["kms", "log", "verify", &shorter, "--head", &head]);
    assert!(ran.status == 1 && ran.stderr.contains("entry 2 is not in the log"), "{ran:#?}");
    assert_eq!(user.run(&["kms", "log", "verify", &whole, "--head", "2"]).status, 2);
}
