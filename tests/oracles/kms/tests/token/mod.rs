//! A service whose master key a token wraps, from `init` to a restored backup: the real command and the program beside it, which loads
//! SoftHSM, with AWS's command line as the client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::service::{Listening, enclave, python, run};

/// Debian's package softhsm2.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234-user";
const SECRET: &[u8] = b"attack at dawn";

/// A folder with a token labelled `kms`, the file of its PIN, and room for a service in `kms`.
struct Place {
    enclave: PathBuf,
    folder: TempDir,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let place = Self { enclave: enclave(test)?, folder: tempfile::tempdir().unwrap() };
        place.make_token("softhsm2.conf");
        place.write_pin(PIN);
        fs::write(place.path("plain"), SECRET).unwrap();
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A token of SoftHSM's, behind these settings.
    fn make_token(&self, settings: &str) {
        let tokens = self.path(&format!("{settings}.tokens"));
        fs::create_dir(&tokens).unwrap();
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(self.path(settings), text).unwrap();
        run(Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "kms", "--so-pin", "so-pin", "--pin", PIN])
            .env("SOFTHSM2_CONF", self.path(settings)));
    }

    fn write_pin(&self, pin: &str) {
        fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.path("pin"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn enclave(&self) -> Command {
        let mut command = Command::new(&self.enclave);
        command.current_dir(self.folder.path()).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        command
    }

    /// `enclave kms COMMAND... --dir kms`.
    fn kms(&self, command: &[&str]) -> Output {
        self.enclave().arg("kms").args(command).args(["--dir", "kms"]).output().unwrap()
    }

    fn init(&self, module: &str, label: &str) -> Output {
        let token = ["--master-key-token", module, "--master-key-token-label", label];
        let rest = ["--master-key-pin", "pin", "--listen", "127.0.0.1:0", "-o", "json"];
        self.kms(&[&["init"][..], &token, &rest].concat())
    }

    fn serve(&self) -> Listening {
        Listening::start(&mut self.enclave(), &self.path("kms"))
    }

    /// Runs a script in which `aws` asks the service; what it wrote.
    fn aws(&self, service: &Listening, access_key: &Value, script: &str) -> Vec<u8> {
        let bin = python("aws");
        let path = format!("{}:{}", bin.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-ec", script]).env("PATH", path);
        run(service.for_client(&mut command, self.folder.path(), access_key))
    }

    /// What is in the folder, by name.
    fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn succeeded(ran: Output) -> Vec<u8> {
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// Insists on an error with these words and a next step, and on nothing on standard output.
fn failed(ran: &Output, words: &str) {
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains(words) && said.contains("next: ") && ran.stdout.is_empty(), "{words}: {said}");
}

const ENCRYPT: &str = r#"
key=$(aws kms create-key --query KeyMetadata.KeyId --output text)
aws kms encrypt --key-id "$key" --plaintext fileb://plain --query CiphertextBlob --output text > secret.b64
base64 -d secret.b64 > secret
"#;
const DECRYPT: &str = r"
aws kms decrypt --ciphertext-blob fileb://secret --query Plaintext --output text > opened.b64
base64 -d opened.b64
";

#[test]
fn a_service_with_its_master_key_in_a_token_keeps_its_keys_through_restart_rotation_and_restoration() {
    let test =
        "a_service_with_its_master_key_in_a_token_keeps_its_keys_through_restart_rotation_and_restoration";
    let Some(place) = Place::new(test) else { return };
    let made: Value = serde_json::from_slice(&succeeded(place.init(MODULE, "kms"))).unwrap();
    let administrator = &made["Administrator"];
    assert!(!place.path("kms/master.key").exists(), "the master key is nowhere but under the token's key");
    let wrapped = fs::read(place.path("kms/master.key.wrapped")).unwrap();

    let service = place.serve();
    place.aws(&service, administrator, ENCRYPT);
    drop(service);
    let opens = |after: &str| {
        assert_eq!(place.aws(&place.serve(), administrator, DECRYPT), SECRET, "after {after}");
    };
    opens("a restart");

    succeeded(place.kms(&["rotate-master-key"]));
    assert_ne!(fs::read(place.path("kms/master.key.wrapped")).unwrap(), wrapped);
    assert_eq!(fs::read(place.path("kms/master.key.wrapped.old")).unwrap(), wrapped);
    opens("a rotation");

    let service = place.serve();
    succeeded(place.kms(&["backup", "keys.backup"]));
    drop(service);
    for name in ["keys.db", "keys.db-wal", "keys.db-shm"] {
        // Of a service that was killed the last two are there.
        let _ = fs::remove_file(place.path("kms").join(name));
    }
    fs::rename(place.path("keys.backup"), place.path("kms/keys.db")).unwrap();
    opens("a restoration");
}

#[test]
fn a_service_does_not_start_with_another_pin_or_another_token_of_the_same_name() {
    let test = "a_service_does_not_start_with_another_pin_or_another_token_of_the_same_name";
    let Some(place) = Place::new(test) else { return };
    succeeded(place.init(MODULE, "kms"));
    place.write_pin("4321-user");
    for command in [&["serve"][..], &["rotate-master-key"], &["backup", "keys.backup"]] {
        failed(&place.kms(command), "PIN");
    }
    assert!(!place.path("keys.backup").exists());
    place.write_pin(PIN);
    place.make_token("other.conf");
    let serve = |settings: &str| {
        let mut command = place.enclave();
        command.env("SOFTHSM2_CONF", place.path(settings)).args(["kms", "serve", "--dir", "kms"]);
        command.output().unwrap()
    };
    failed(&serve("other.conf"), "has no AES key labelled `enclave-kms`");
    // It was not for good.
    drop(place.serve());
}

#[test]
fn a_wrong_pin_or_a_missing_token_or_library_makes_no_service_and_leaves_nothing() {
    let test = "a_wrong_pin_or_a_missing_token_or_library_makes_no_service_and_leaves_nothing";
    let Some(place) = Place::new(test) else { return };
    let before = place.names();
    failed(&place.init(MODULE, "other"), "other");
    failed(&place.init("/nowhere/module.so", "kms"), "/nowhere/module.so");
    place.write_pin("4321-user");
    failed(&place.init(MODULE, "kms"), "PIN");
    assert_eq!(place.names(), before);
    // None of it stands in the way.
    place.write_pin(PIN);
    succeeded(place.init(MODULE, "kms"));
}
