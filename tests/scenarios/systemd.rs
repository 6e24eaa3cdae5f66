//! The key service as a unit of a real systemd: the unit file that is shipped, and the commands of docs/kms.md, "Under systemd".

use std::path::Path;
use std::process::Command;

use containers::tool;
use serde_json::{Value, json};
use tests::product::{Printed, bin_dir};
use tests::systemd::Machine;

const UNIT: &str = "enclave-kms.service";
const UNIT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/systemd/enclave-kms.service");
const DOCUMENTATION: &str = include_str!("../../docs/kms.md");

/// What an operator types once, as the documentation has it.
const USER: &str = r#"systemd-sysusers --inline 'u enclave-kms - "Key service" /var/lib/enclave-kms'"#;
const STORE: &str = "mkdir -p -m 0700 /etc/credstore.encrypted";
const ENCRYPT: &str = "systemd-creds encrypt --name=kms-master - /etc/credstore.encrypted/kms-master";
/// `enclave kms`, as the service runs it.
const KMS: &str = r#"kms() {
    systemd-run --quiet --pipe --wait --collect --uid=enclave-kms -p StateDirectory=enclave-kms -p LimitMEMLOCK=infinity \
        -E ENCLAVE_STATE_DIR=/var/lib/enclave-kms -p LoadCredentialEncrypted=kms-master:/etc/credstore.encrypted/kms-master \
        enclave kms "$@"
}"#;
const INIT: &str = "kms init --master-key-credential kms-master";
const START: &str = "systemctl enable --now enclave-kms";
const RELOAD: &str = "systemctl reload enclave-kms";
const BACKUP: &str = "kms backup /var/lib/enclave-kms/keys.backup";
const STOP: &str = "systemctl stop enclave-kms";
const ENCRYPT_NEXT: &str =
    "systemd-creds encrypt --name=kms-master.next - /etc/credstore.encrypted/kms-master.next";
const ROTATE: &str = r"systemd-run --quiet --pipe --wait --collect --uid=enclave-kms -p LimitMEMLOCK=infinity \
    -E ENCLAVE_STATE_DIR=/var/lib/enclave-kms -p LoadCredentialEncrypted=kms-master:/etc/credstore.encrypted/kms-master \
    -p LoadCredentialEncrypted=kms-master.next:/etc/credstore.encrypted/kms-master.next \
    enclave kms rotate-master-key";
/// The drop-in for a credential that is not encrypted.
const NOT_ENCRYPTED: &str = "LoadCredentialEncrypted=\nLoadCredential=kms-master:/run/credstore/kms-master\n";

/// Where the shipped unit has the service's folder.
const FOLDER: &str = "/var/lib/enclave-kms/kms";
/// systemd's own exit status of a unit whose credentials cannot be had: systemd.exec(5), `EXIT_CREDENTIALS`.
const NO_CREDENTIALS: &str = "243";
/// The exposure that `systemd-analyze security` may find at most, in tenths of 0 to 10. Without any setting it is 96.
const EXPOSURE: u32 = 15;

/// A machine with the program, the unit and the service's user, a master key as its credential, and a service made from it.
struct Host {
    machine: Machine,
    /// What `init` printed.
    made: Value,
}

impl Host {
    fn new() -> Self {
        let machine = Machine::boot(&tool::systemd_root(), &[Path::new(UNIT_FILE)]);
        machine.install(&bin_dir().join("enclave"), "/usr/local/bin/enclave", 0o755);
        let _ = machine.run(&format!("{USER}; {STORE}")).success();
        let mut host = Self { machine, made: Value::Null };
        host.give_master_key(&master_key());
        host.made = host.kms(&format!("{INIT} -o json")).success().json();
        host
    }

    /// Puts this key into the place of the service's credential.
    fn give_master_key(&self, key: &[u8]) {
        let _ = self.machine.feed(ENCRYPT, key).success();
    }

    /// Runs `enclave kms` as the service's user with the service's credential.
    fn kms(&self, command: &str) -> Printed {
        self.machine.run(&format!("{KMS}\n{command}"))
    }

    fn systemctl(&self, command: &str) -> Printed {
        self.machine.run(&format!("systemctl {command}"))
    }

    fn status_text(&self) -> String {
        let [text] = self.machine.properties(UNIT, ["StatusText"]);
        text
    }

    /// Asks the service with curl, which signs for AWS's services as others do.
    fn ask(&self, key: &Value, operation: &str, request: &Value) -> Value {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let printed = Printed::of(
            self.machine
                .on_its_network("curl")
                .args(["--silent", "--show-error", "--cacert"])
                .arg(self.machine.path(&text(&self.made["Authority"])))
                .args(["--aws-sigv4", &format!("aws:amz:{}:kms", text(&self.made["Region"])), "--user"])
                .arg(format!("{}:{}", text(&key["AccessKeyId"]), text(&key["SecretAccessKey"])))
                .args(["--header", "Content-Type: application/x-amz-json-1.1"])
                .args(["--header", &format!("X-Amz-Target: TrentService.{operation}")])
                .args(["--data", &request.to_string(), &text(&self.made["Endpoint"])]),
        );
        printed.success().json()
    }

    /// Gives the service other settings.
    fn drop_in(&self, settings: &str) {
        let script = format!(
            "mkdir -p /etc/systemd/system/{UNIT}.d; cat >/etc/systemd/system/{UNIT}.d/test.conf; systemctl daemon-reload"
        );
        let _ = self.machine.feed(&script, format!("[Service]\n{settings}\n").as_bytes()).success();
    }

    /// Starts the service, which must fail for this reason and not be tried again.
    fn does_not_start(&self, status: &str, reason: &str) {
        let _ = self.systemctl(&format!("start {UNIT}")).failure(&[UNIT]);
        let journal = self.machine.journal(UNIT);
        let last = journal.rsplit_once("Starting ").map_or("", |(_, last)| last);
        assert!(last.contains(reason), "the journal does not say {reason:?}: {journal}");
        let state = self.machine.properties(UNIT, ["ActiveState", "ExecMainStatus", "NRestarts"]);
        assert_eq!(state, ["failed", status, "0"], "{journal}");
        // systemd counts starts, and refuses the sixth within ten seconds.
        let _ = self.systemctl(&format!("reset-failed {UNIT}")).success();
    }
}

/// What `openssl rand -hex 32` prints.
fn master_key() -> Vec<u8> {
    tool::run(Command::new("openssl").args(["rand", "-hex", "32"])).into_bytes()
}

#[test]
fn the_documentation_has_the_commands_that_are_tested() {
    for command in
        [USER, STORE, ENCRYPT, KMS, INIT, START, RELOAD, BACKUP, STOP, ENCRYPT_NEXT, ROTATE, NOT_ENCRYPTED]
    {
        assert!(DOCUMENTATION.contains(command), "docs/kms.md does not say: {command}");
    }
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_unit_serves_reloads_comes_back_and_ends() {
    let host = Host::new();
    let _ = host.machine.run(&format!("systemd-analyze verify /etc/systemd/system/{UNIT}")).success();
    let _ = host.machine.run(START).success();
    assert_eq!(host.systemctl(&format!("is-active {UNIT}")).success().stdout, "active\n");
    assert_eq!(host.status_text(), "serving");
    assert_confined(&host);

    let administrator = &host.made["Administrator"];
    let key = &host.ask(administrator, "CreateKey", &json!({}))["KeyMetadata"]["KeyId"];
    let sealed = host.ask(administrator, "Encrypt", &json!({ "KeyId": key, "Plaintext": "c2VjcmV0" }));
    let sealed = json!({ "CiphertextBlob": sealed["CiphertextBlob"] });
    let opens = || assert_eq!(host.ask(administrator, "Decrypt", &sealed)["Plaintext"], "c2VjcmV0");
    opens();

    // A reload reads whom the service knows, or keeps what it has.
    let application = host.kms("kms principal add application -o json").success().json();
    let unknown = host.ask(&application, "Decrypt", &sealed);
    assert_eq!(unknown["__type"], "UnrecognizedClientException", "{unknown}");
    let _ = host.machine.run(RELOAD).success();
    let _ = host.machine.journal_until(UNIT, "read the principals again: 2 access keys", 1);
    let denied = host.ask(&application, "Decrypt", &sealed);
    assert_eq!(denied["__type"], "AccessDeniedException", "{denied}");
    let _ = host.machine.run(&format!("echo nonsense >>{FOLDER}/kms.toml; {RELOAD}")).success();
    let _ = host.machine.journal_until(UNIT, "kept the principals as they were", 1);
    assert!(host.status_text().starts_with("serving as before: "));
    opens();
    let _ = host.machine.run(&format!("sed -i '$d' {FOLDER}/kms.toml")).success();

    // A backup while it runs, by one who has the credential.
    let backup = host.kms(BACKUP).success();
    assert!(backup.stdout.contains("checked"), "{backup:?}");
    assert!(host.machine.path("/var/lib/enclave-kms/keys.backup").metadata().unwrap().len() > 0);

    // Killed, it comes back with all that it had.
    let _ = host.systemctl(&format!("kill --kill-who=main --signal=KILL {UNIT}")).success();
    let _ = host.machine.journal_until(UNIT, "Started ", 2);
    opens();

    let _ = host.machine.run(STOP).success();
    let ended = host.machine.properties(UNIT, ["ActiveState", "Result", "ExecMainStatus"]);
    assert_eq!(ended, ["inactive", "success", "0"], "{}", host.machine.journal(UNIT));

    // A new master key, beside the old one and then in its place.
    let new = master_key();
    let _ = host.machine.feed(ENCRYPT_NEXT, &new).success();
    let rotated = host.machine.run(ROTATE).success();
    assert!(rotated.stdout.contains("Sealed 1 key"), "{rotated:?}");
    host.give_master_key(&new);
    let _ = host.systemctl(&format!("start {UNIT}")).success();
    opens();
}

/// What the kernel says of the process, and systemd of the unit.
fn assert_confined(host: &Host) {
    let [process] = host.machine.properties(UNIT, ["MainPID"]);
    let says = |file: &str, name: &str| {
        let text = std::fs::read_to_string(host.machine.path(&format!("/proc/{process}/{file}"))).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(says("status", set), ["0000000000000000"], "{set}");
    }
    assert_eq!(says("status", "NoNewPrivs:"), ["1"]);
    assert_eq!(says("status", "Seccomp:"), ["2"]);
    assert!(!says("status", "Uid:").contains(&"0".to_owned()), "it is root");
    assert_ne!(says("status", "VmLck:")[0], "0", "its memory can be swapped out");
    assert_eq!(says("limits", "Max core file size")[..2], ["0", "0"]);
    let analysis = format!("systemd-analyze security --no-pager --threshold={EXPOSURE} {UNIT}");
    let _ = host.machine.run(&analysis).success();
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn without_the_right_master_key_the_unit_fails_and_says_why() {
    let host = Host::new();
    let credential = "/etc/credstore.encrypted/kms-master";
    let _ = host.machine.run(&format!("mv {credential} /root/kept")).success();
    host.does_not_start(NO_CREDENTIALS, "Failed to set up credentials");

    let encrypt_as = format!("systemd-creds encrypt --name=another - {credential}");
    let _ = host.machine.feed(&encrypt_as, &master_key()).success();
    host.does_not_start(NO_CREDENTIALS, "Failed to set up credentials");

    host.give_master_key(&master_key());
    host.does_not_start("1", "this is not the master key of the database");
    let backup = host.kms(BACKUP).failure(&["this is not the master key of the database"]);
    assert_eq!(backup.stdout, "");

    host.give_master_key(b"no key at all");
    host.does_not_start("1", "kms-master");

    host.drop_in("LoadCredentialEncrypted=");
    host.does_not_start("1", "CREDENTIALS_DIRECTORY");

    host.drop_in(NOT_ENCRYPTED);
    let _ = host
        .machine
        .run("mkdir -p -m 0700 /run/credstore; systemd-creds decrypt --name=kms-master /root/kept /run/credstore/kms-master")
        .success();
    let _ = host.systemctl(&format!("start {UNIT}")).success();
    assert_eq!(host.status_text(), "serving");
}
