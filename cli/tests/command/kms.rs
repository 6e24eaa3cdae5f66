//! The key service as its operator runs it. curl, which signs by itself, is the client.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::{Ran, User, mode, set_mode};

/// An access key as `-o json` prints it.
struct Key(Value);

/// A service that runs.
struct Service {
    child: Child,
    ready: Value,
    log: BufReader<std::process::ChildStderr>,
}

/// Makes a service on a port that the system chooses, with these lines more in its configuration.
fn made(user: &User, lines: &str) -> Key {
    let made = user.run(&["kms", "init", "--listen", "127.0.0.1:0", "-o", "json"]).succeeded().json();
    let path = user.path("state/kms/kms.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n{lines}\n")).unwrap();
    Key(made["Administrator"].clone())
}

impl Service {
    fn start(user: &User) -> Self {
        let mut child = user
            .command(&["kms", "serve", "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let Some(ready) = serde_json::Deserializer::from_reader(stdout).into_iter().next() else {
            let mut said = String::new();
            log.read_to_string(&mut said).unwrap();
            panic!("the service did not start: {said}");
        };
        Self { child, ready: ready.unwrap(), log }
    }

    /// The address of the nth listener.
    fn address(&self, index: usize) -> &str {
        self.ready["Listeners"][index]["Address"].as_str().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads the log until a line says this, and returns that line.
    fn says(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(
                self.log.read_line(&mut line).unwrap(),
                0,
                "the service ended without saying {words:?}"
            );
        }
        line
    }

    /// Ends it by SIGTERM and returns its exit status.
    fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What curl gets for an operation: the body, then the status.
fn curl(user: &User, key: &Key, url: &str, more: &[&str], operation: &str) -> String {
    let secret = |name: &str| key.0[name].as_str().unwrap().to_owned();
    let ran = Ran::of(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--write-out",
                " %{http_code}",
                "--data",
                "{}",
            ])
            .args(["--aws-sigv4", "aws:amz:local-1:kms", "--user"])
            .arg(format!("{}:{}", secret("AccessKeyId"), secret("SecretAccessKey")))
            .args(["--header", "content-type: application/x-amz-json-1.1"])
            .args(["--header", &format!("x-amz-target: TrentService.{operation}"), "--cacert"])
            .arg(user.path("state/kms/ca.pem"))
            .args(more)
            .arg(url),
    );
    ran.succeeded().stdout
}

#[test]
fn curl_is_answered_over_every_listener() {
    let user = User::new();
    let key = made(&user, "[[listener]]\nhttp = \"127.0.0.1:0\"\n[[listener]]\nunix = \"kms.sock\"");
    let service = Service::start(&user);
    let https = format!("https://{}/", service.address(0));
    assert!(curl(&user, &key, &https, &[], "CreateKey").ends_with("200"));
    let http = format!("http://{}/", service.address(1));
    assert!(curl(&user, &key, &http, &[], "ListKeys").contains("arn:aws:kms:local-1:000000000000:key/"));
    let socket = ["--unix-socket", service.address(2)];
    assert!(curl(&user, &key, "https://localhost/", &socket, "ListKeys").ends_with("200"));
    assert_eq!(mode(Path::new(service.address(2))), 0o600);
    let socket = user.path("state/kms/kms.sock");
    assert_eq!(service.end(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn nobody_is_answered_without_a_key_of_the_service() {
    let user = User::new();
    let key = made(&user, "");
    let mut service = Service::start(&user);
    let url = format!("https://{}/", service.address(0));
    let mut other = Key(key.0.clone());
    other.0["SecretAccessKey"] = "another secret of forty characters, no?".into();
    let refused = curl(&user, &other, &url, &[], "ListKeys");
    assert!(refused.contains("InvalidSignatureException") && refused.ends_with("400"), "{refused}");
    service.says("the signature does not match");
    let mut other = Key(key.0.clone());
    other.0["AccessKeyId"] = "AKIAAAAAAAAAAAAAAAAA".into();
    assert!(curl(&user, &other, &url, &[], "ListKeys").contains("UnrecognizedClientException"));
}

#[test]
fn an_operation_that_is_not_had_is_unsupported() {
    let user = User::new();
    let key = made(&user, "");
    let service = Service::start(&user);
    let url = format!("https://{}/", service.address(0));
    assert!(curl(&user, &key, &url, &[], "CreateGrant").contains("UnsupportedOperationException"));
}

#[test]
fn a_new_principal_is_known_after_sighup_and_may_what_its_policy_says() {
    let user = User::new();
    made(&user, "");
    let mut service = Service::start(&user);
    let url = format!("https://{}/", service.address(0));
    let policy = user.file(
        "policy.json",
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}]}"#,
    );
    let added = user.run(&["kms", "principal", "add", "application", "--policy", &policy, "-o", "json"]);
    let key = Key(added.succeeded().json());
    assert_eq!(key.0["Arn"], "arn:aws:iam::000000000000:user/application");
    assert!(curl(&user, &key, &url, &[], "ListKeys").contains("UnrecognizedClientException"));
    service.signal(Signal::HUP);
    service.says("read the principals again: 2");
    assert!(curl(&user, &key, &url, &[], "ListKeys").ends_with("200"));
    assert!(curl(&user, &key, &url, &[], "CreateKey").contains("AccessDeniedException"));
}

#[test]
fn a_denial_is_one_line_on_standard_error_and_lists_its_statements_in_the_log() {
    let user = User::new();
    made(&user, "");
    // A condition on what no request here has, so that there is something to say of the statement.
    let policy = user.file(
        "policy.json",
        r#"{"Version":"2012-10-17","Statement":[{"Sid":"Other","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"},
            {"Sid":"Late","Effect":"Allow","Action":"kms:ListKeys","Resource":"*",
             "Condition":{"DateLessThan":{"aws:CurrentTime":"2020-01-01"}}}]}"#,
    );
    let added = user.run(&["kms", "principal", "add", "application", "--policy", &policy, "-o", "json"]);
    let key = Key(added.succeeded().json());
    let mut service = Service::start(&user);
    let url = format!("https://{}/", service.address(0));
    assert!(curl(&user, &key, &url, &[], "ListKeys").contains("AccessDeniedException"));
    let line = service.says("denied");
    for words in [
        r#"denied: no statement allows it; identity policy, Statement[1] "Late": Condition DateLessThan"#,
        r#"principal="arn:aws:iam::000000000000:user/application""#,
        r#"action="kms:ListKeys""#,
        r#"request_id=""#,
        r#"source="tcp 127.0.0.1:"#,
    ] {
        assert!(line.contains(words), "{words} is not in {line}");
    }
    service.signal(Signal::TERM);
    let mut rest = String::new();
    service.log.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.lines().count(), 1, "the denial has more lines: {rest}");
    assert!(rest.contains("ending"), "{rest}");
    let log = std::fs::read_to_string(user.path("state/kms/audit.log")).unwrap();
    assert!(log.contains("Statement[0]") && log.contains("Statement[1]"), "{log}");
}

#[test]
fn a_configuration_that_is_broken_at_sighup_changes_nothing() {
    let user = User::new();
    let key = made(&user, "");
    let mut service = Service::start(&user);
    std::fs::write(user.path("state/kms/kms.toml"), "nonsense").unwrap();
    service.signal(Signal::HUP);
    service.says("kept the principals as they were");
    assert!(curl(&user, &key, &format!("https://{}/", service.address(0)), &[], "ListKeys").ends_with("200"));
}

#[test]
fn what_sighup_cannot_change_is_named_in_one_line() {
    let user = User::new();
    let key = made(&user, "");
    let mut service = Service::start(&user);
    let path = user.path("state/kms/kms.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace("\"local-1\"", "\"local-2\"").replace("\"audit.log\"", "\"other.log\"");
    std::fs::write(&path, changed).unwrap();
    service.signal(Signal::HUP);
    let line = service.says("kms.toml");
    assert!(
        line.contains("WARN") && line.ends_with("at the next start alone: region, audit_log\n"),
        "{line}"
    );
    let url = format!("https://{}/", service.address(0));
    assert!(curl(&user, &key, &url, &[], "ListKeys").ends_with("200"), "the region is that of the start");
    // Nothing is said of a file that is again as it was.
    std::fs::write(&path, text).unwrap();
    service.signal(Signal::HUP);
    service.says("read the principals again");
    service.signal(Signal::TERM);
    let mut rest = String::new();
    service.log.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().count() == 1 && rest.contains("ending"), "{rest}");
}

#[test]
fn roots_are_read_again_at_sighup_and_what_is_no_root_changes_nothing() {
    let user = User::new();
    let key = made(&user, "");
    let mut service = Service::start(&user);
    let url = format!("https://{}/", service.address(0));
    let path = user.path("state/kms/kms.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[\"own\"]", "[\"no-root.pem\"]")).unwrap();
    user.run(&["kms", "principal", "add", "application"]).succeeded();
    service.signal(Signal::HUP);
    service.says("no-root.pem");
    assert!(curl(&user, &key, &url, &[], "ListKeys").ends_with("200"));
    std::fs::write(&path, text).unwrap();
    service.signal(Signal::HUP);
    service.says("and roots");
}

#[test]
fn the_process_leaves_no_core_dump_and_gains_no_privilege() {
    let user = User::new();
    made(&user, "");
    let service = Service::start(&user);
    let proc = format!("/proc/{}", service.child.id());
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    for task in std::fs::read_dir(format!("{proc}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
}

#[test]
fn one_folder_is_served_once() {
    let user = User::new();
    made(&user, "");
    let _service = Service::start(&user);
    user.run(&["kms", "serve"]).failed(&["in use by another process"]);
}

#[test]
fn a_log_goes_on_in_a_new_file_while_the_service_is_stopped() {
    let user = User::new();
    let key = made(&user, "");
    let folder = user.path("state/kms");
    let (log, old) = (folder.join("audit.log"), folder.join("audit.log.000000000001"));
    let (log, old) = (log.to_str().unwrap(), old.to_str().unwrap());
    let list_keys_in_a_run = |times: usize| {
        let service = Service::start(&user);
        let url = format!("https://{}/", service.address(0));
        for _ in 0..times {
            assert!(curl(&user, &key, &url, &[], "ListKeys").ends_with("200"));
        }
        user.run(&["kms", "log", "rotate"]).failed(&["in use by another process", "stop that service first"]);
        assert_eq!(service.end(), Some(0));
    };
    list_keys_in_a_run(2);
    let head = user.run(&["kms", "log", "verify", "-o", "json"]).succeeded().json()["Head"].clone();
    let said = user.run(&["kms", "log", "rotate", "-o", "json"]).succeeded().json();
    let expected = json!({"Log": log, "Archive": old, "Entries": 2, "Head": head});
    assert_eq!(said, expected);

    list_keys_in_a_run(3);
    let whole = user.run(&["kms", "log", "verify", old, log, "-o", "json"]).succeeded().json();
    assert_eq!((&whole["Entries"], whole.get("Continues")), (&json!(6), None));
    let alone = user.run(&["kms", "log", "verify", "-o", "json"]).succeeded().json();
    assert_eq!((&alone["Entries"], &alone["Continues"]), (&json!(4), &head));
    let told = user.run(&["kms", "log", "verify"]).succeeded().stdout;
    assert!(told.contains(head.as_str().unwrap()), "{told}");
    user.run(&["kms", "log", "verify", log, old]).failed(&[old, "the oldest first"]);
    // A kept head of the old file is in the new one, too; one that never was is in neither.
    user.run(&["kms", "log", "verify", "--head", head.as_str().unwrap()]).succeeded();
    let wrong = format!("2:{}", "0".repeat(64));
    user.run(&["kms", "log", "verify", old, log, "--head", &wrong]).failed(&["entry 2 is not in the log"]);
}

#[test]
fn init_says_how_to_go_on_and_refuses_what_is_there() {
    let user = User::new();
    let said = user.run(&["kms", "init"]).succeeded().stdout;
    for words in [
        "AWS_ACCESS_KEY_ID=AKIA",
        "AWS_ENDPOINT_URL_KMS=https://127.0.0.1:8443",
        "AWS_CA_BUNDLE=",
        "kms serve",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    user.run(&["kms", "init"]).failed(&["is there already", "--dir"]);
}

#[test]
fn wrong_options_of_init_are_refused() {
    let user = User::new();
    user.run(&["kms", "init", "--account", "12"]).failed(&["account", "12 digits"]);
    user.run(&["kms", "init", "--region", "Not One"]).failed(&["region"]);
    user.run(&["kms", "init", "--san", "no name"]).failed(&["no name"]);
    assert!(!user.path("state/kms").exists());
}

#[test]
fn a_new_service_takes_its_master_key_from_a_credential() {
    let user = User::new();
    let credentials = user.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let init = ["kms", "init", "--master-key-credential", "kms"];
    user.run(&init).failed(&["CREDENTIALS_DIRECTORY", "LoadCredentialEncrypted"]);
    std::fs::write(credentials.join("kms"), "42".repeat(32)).unwrap();
    let made = Ran::of(user.command(&init).env("CREDENTIALS_DIRECTORY", &credentials)).succeeded();
    assert!(made.stdout.contains("credential kms"), "{}", made.stdout);
    assert!(!user.path("state/kms/master.key").exists());
    let file = user.path("backup").display().to_string();
    let backup = ["kms", "backup", &file];
    user.run(&backup).failed(&["CREDENTIALS_DIRECTORY"]);
    Ran::of(user.command(&backup).env("CREDENTIALS_DIRECTORY", &credentials)).succeeded();
    std::fs::write(credentials.join("kms"), "43".repeat(32)).unwrap();
    std::fs::remove_file(user.path("backup")).unwrap();
    Ran::of(user.command(&backup).env("CREDENTIALS_DIRECTORY", &credentials)).failed(&["not the master key"]);
}

#[test]
fn a_master_key_in_a_token_needs_the_tokens_label_and_pin_and_no_credential() {
    let user = User::new();
    let token = ["kms", "init", "--master-key-token", "/m.so"];
    let asked = |more: &[&str]| user.run(&[&token[..], more].concat());
    for (more, missing) in [
        (&["--master-key-token-label", "t"][..], "--master-key-pin"),
        (&["--master-key-pin", "p"], "--master-key-token-label"),
        (
            &["--master-key-token-label", "t", "--master-key-pin", "p", "--master-key-credential", "c"],
            "--master-key-credential",
        ),
    ] {
        let ran = asked(more);
        assert!(ran.status == 2 && ran.stderr.contains(missing), "{ran:#?}");
    }
    let ran = user.run(&["kms", "init", "--master-key-pin", "p"]);
    assert!(ran.status == 2 && ran.stderr.contains("--master-key-token"), "{ran:#?}");
    // All of them: it gets as far as the PIN, which is not there.
    asked(&["--master-key-token-label", "t", "--master-key-pin", "/nowhere/pin"])
        .failed(&["PIN cannot be read", "/nowhere/pin"]);
    assert!(!user.path("state/kms").exists());
}

#[test]
fn a_service_without_a_folder_or_with_a_wrong_one_does_not_start() {
    let user = User::new();
    user.run(&["kms", "serve"]).failed(&["no key service", "enclave kms init"]);
    made(&user, "[[listener]]\nhttp = \"0.0.0.0:0\"");
    user.run(&["kms", "serve"]).failed(&["listener 2", "loopback"]);
}

#[test]
fn keys_that_others_can_read_are_not_used() {
    for name in ["master.key", "server.key", "principals/administrator.secret"] {
        let user = User::new();
        made(&user, "");
        set_mode(&user.path("state/kms").join(name), 0o644);
        user.run(&["kms", "serve"]).failed(&[name, "0600"]);
    }
}

#[test]
fn an_enclave_that_does_not_run_cannot_be_served() {
    let user = User::new();
    made(&user, "");
    user.run(&["kms", "serve", "--enclave", "nobody"]).failed(&["nobody", "enclave describe"]);
}
