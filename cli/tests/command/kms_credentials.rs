//! What `enclave kms credentials` refuses before there is an enclave to give anything to.

use super::support::{Ran, User, set_mode};

/// As `enclave kms principal add -o json` prints them.
const CREDENTIALS: &str = r#"{"Arn":"a","AccessKeyId":"A","SecretAccessKey":"5550155"}"#;

fn give(user: &User, file: &str) -> Ran {
    user.run(&["kms", "credentials", file, "--enclave", "app"])
}

#[test]
fn a_file_that_others_can_read_is_refused_with_what_mends_it() {
    let user = User::new();
    let file = user.file("app.json", CREDENTIALS);
    for mode in [0o644, 0o640, 0o604] {
        set_mode(user.path("app.json").as_path(), mode);
        give(&user, &file).failed(&["app.json", "can be used by others", "mode 0600"]);
    }
    // The next thing that is missing is the enclave.
    set_mode(user.path("app.json").as_path(), 0o600);
    give(&user, &file).failed(&["app", "enclave describe"]);
}

#[test]
fn what_principal_add_printed_is_taken() {
    let user = User::new();
    user.run(&["kms", "init"]).succeeded();
    let added = user.run(&["kms", "principal", "add", "app", "-o", "json"]).succeeded();
    let file = user.file("app.json", added.stdout);
    set_mode(user.path("app.json").as_path(), 0o600);
    give(&user, &file).failed(&["app", "enclave describe"]);
}

#[test]
fn what_holds_no_credentials_is_refused_without_repeating_it() {
    let user = User::new();
    for text in ["", "5550155", "{}", r#"{"AccessKeyId":5550155}"#] {
        let file = user.file("app.json", text);
        set_mode(user.path("app.json").as_path(), 0o600);
        let refused = give(&user, &file);
        assert!(!refused.stderr.contains("5550155"), "{}", refused.stderr);
        refused.failed(&["app.json", "no JSON", "principal add"]);
    }
}

#[test]
fn a_file_that_is_not_there_a_folder_and_a_link_are_refused() {
    let user = User::new();
    give(&user, "/nowhere/app.json").failed(&["/nowhere/app.json"]);
    give(&user, user.path("").to_str().unwrap()).failed(&["no ordinary file"]);
    let file = user.file("app.json", CREDENTIALS);
    set_mode(user.path("app.json").as_path(), 0o600);
    std::os::unix::fs::symlink(&file, user.path("link")).unwrap();
    give(&user, user.path("link").to_str().unwrap()).failed(&["symbolic link"]);
}

#[test]
fn an_enclave_must_be_named() {
    let user = User::new();
    let file = user.file("app.json", CREDENTIALS);
    for words in [&["kms", "credentials", &file][..], &["kms", "credentials", &file, "--enclave", "app:x"]] {
        let ran = user.run(words);
        assert!(ran.status == 2 && ran.stderr.contains("--enclave"), "{ran:#?}");
    }
}
