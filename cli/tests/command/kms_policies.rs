//! `kms lint` and `kms explain`, on policies in files and documents that the security module makes.

use std::time::SystemTime;

use attestation::identity::{EnclaveId, InstanceId, Role};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use serde_json::{Value, json};

use crate::support::{Ran, User};

const APP: &str = "arn:aws:iam::000000000000:role/App";
const IMAGE: &str = "kms:RecipientAttestation:ImageSha384";

fn register(byte: &str) -> String {
    byte.repeat(48)
}

/// A policy that lets the application's role decrypt in the image whose PCR0 is a0a0...
fn one_image() -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Admin", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/Admin"},
         "Action": ["kms:PutKeyPolicy", "kms:Encrypt"], "Resource": "*"},
        {"Sid": "App", "Effect": "Allow", "Principal": {"AWS": APP}, "Action": "kms:Decrypt", "Resource": "*",
         "Condition": {"StringEqualsIgnoreCase": {IMAGE: register("a0"), "kms:EncryptionContext:app": "payroll"}}},
    ]})
}

struct Fixture {
    user: User,
    document: String,
    root: String,
}

/// A document of an enclave that was measured, or of one in debug mode.
fn fixture(measured: bool) -> Fixture {
    let made = SystemTime::now();
    let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
    let role: Role = "arn:aws:iam::123456789012:role/Webserver".parse().unwrap();
    let root = RootAuthority::generate(made, &mut SysRng).unwrap();
    let host = root.issue_host(&instance, made, &mut SysRng).unwrap();
    let enclave = EnclaveId::generate(instance, made, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, made, &mut SysRng).unwrap();
    let mut module = SecurityModule::new(Identity { enclave, role: Some(role), authority });
    let register = |byte: u8| Pcr::from_bytes([byte; 48]);
    let image = Measurements { pcr0: register(0xa0), pcr1: register(0xa1), pcr2: register(0xa2), pcr8: None };
    module.set_measurements(measured.then_some(&image)).unwrap();
    let request = Request::Attestation { user_data: None, nonce: None, public_key: None };
    let response = module.handle(&request.encode(), made);
    let Response::Attestation { document } = Response::decode(&response).unwrap() else {
        panic!("the security module refused");
    };
    let user = User::new();
    Fixture {
        document: user.file("document", document),
        root: user.file("root.pem", root.chain().last().unwrap().to_pem().unwrap()),
        user,
    }
}

impl Fixture {
    /// Explains kms:Decrypt by the application under a policy.
    fn explain(&self, policy: &Value, more: &[&str]) -> Ran {
        let policy = self.user.file("policy.json", policy.to_string());
        let words = [
            "kms",
            "explain",
            "--policy",
            &policy,
            "--action",
            "kms:Decrypt",
            "--principal",
            APP,
            "--root",
            &self.root,
            "--at",
            "document",
        ];
        self.user.run(&[&words[..], more].concat())
    }

    fn explain_document(&self, policy: &Value, more: &[&str]) -> Ran {
        self.explain(policy, &[&["--doc", &self.document, "--context", "app=payroll"], more].concat())
    }
}

fn lint(policy: &Value, more: &[&str]) -> Ran {
    let user = User::new();
    let file = user.file("policy.json", policy.to_string());
    user.run(&[&["kms", "lint", &file], more].concat())
}

/// The output without the lines that change from run to run.
fn steady(output: &str) -> String {
    let changing = |line: &&str| !["At ", "PCR3", "PCR4"].iter().any(|start| line.starts_with(start));
    output.lines().filter(changing).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_callers_policy_is_as_long_for_lint_and_for_a_new_principal_as_for_the_service() {
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}]}"#;
    let user = User::new();
    user.run(&["kms", "init"]).succeeded();
    for (length, fine) in [(10_240, true), (10_241, false)] {
        let file = user.file("policy.json", format!("{policy:length$}"));
        let linted = user.run(&["kms", "lint", "--identity", &file]);
        let added = user.run(&["kms", "principal", "add", &format!("a{length}"), "--policy", &file]);
        assert_eq!(
            (linted.status, added.status),
            if fine { (0, 0) } else { (2, 1) },
            "{linted:#?} {added:#?}"
        );
        for ran in [linted, added] {
            assert!(fine || ran.stderr.contains("has at most 10240"), "{ran:#?}");
        }
    }
    // As the service reads it.
    user.run(&["kms", "backup", user.path("backup.db").to_str().unwrap()]).succeeded();
}

#[test]
fn another_image_is_denied_with_expected_and_presented_values() {
    let mut policy = one_image();
    policy["Statement"][1]["Condition"]["StringEqualsIgnoreCase"][IMAGE] = json!(register("b0"));
    let ran = fixture(true).explain_document(&policy, &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let (wanted, had) = (register("b0"), register("a0"));
    let expected = format!(
        "\
Action     kms:Decrypt
Principal  {APP}
Key        arn:aws:kms:local-1:000000000000:key/00000000-0000-0000-0000-000000000000
PCR0       {had}
PCR1       {}
PCR2       {}
denied: no statement allows it; key policy, Statement[1] \"App\": Condition StringEqualsIgnoreCase {IMAGE}: expected \"{wanted}\", presented \"{had}\"
  key policy, Statement[0] \"Admin\" (Allow) does not match
    Principal
      expected:  \"arn:aws:iam::000000000000:user/Admin\"
      presented: \"{APP}\"
  key policy, Statement[1] \"App\" (Allow) does not match
    Condition StringEqualsIgnoreCase {IMAGE}
      expected:  \"{wanted}\"
      presented: \"{had}\"
",
        register("a1"),
        register("a2"),
    );
    assert_eq!(steady(&ran.stdout), expected);
}

#[test]
fn a_debug_run_of_the_right_image_is_denied() {
    let ran = fixture(false).explain_document(&one_image(), &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains(&format!("presented: \"{}\"", register("00"))), "{}", ran.stdout);
}

#[test]
fn a_request_without_a_document_is_denied() {
    let fixture = fixture(true);
    let policy = fixture.user.file("policy.json", one_image().to_string());
    let ran = fixture.user.run(&[
        "kms",
        "explain",
        "--policy",
        &policy,
        "--action",
        "kms:Decrypt",
        "--principal",
        APP,
        "--context",
        "app=payroll",
    ]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("Document   none\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("presented: not present: the request carried no attestation document"),
        "{}",
        ran.stdout
    );
}

#[test]
fn another_encryption_context_is_denied() {
    let fixture = fixture(true);
    let ran = fixture.explain(&one_image(), &["--doc", &fixture.document, "--context", "app=web"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("presented: \"web\""), "{}", ran.stdout);
}

#[test]
fn the_right_image_is_allowed() {
    let ran = fixture(true).explain_document(&one_image(), &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.contains("allowed: key policy, Statement[1] \"App\" allows it\n"), "{}", ran.stdout);
}

#[test]
fn programs_get_one_json_value() {
    let ran = fixture(true).explain_document(&one_image(), &["-o", "json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.status, &report["Allowed"]), (0, &json!(true)));
    assert_eq!(report["PCRs"]["0"], json!(register("a0")));
    assert_eq!(report["Statements"][0]["Outcome"], json!("unmatched"));
    assert_eq!(report["Statements"][1]["Outcome"], json!("matched"));
}

#[test]
fn the_callers_policy_is_asked_where_the_keys_leaves_it() {
    let fixture = fixture(true);
    let default = json!({"Statement": {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "kms:*", "Resource": "*"}});
    let mut own = one_image()["Statement"][1].clone();
    own.as_object_mut().unwrap().remove("Principal");
    let own = fixture.user.file("own.json", json!({"Statement": own}).to_string());
    assert_eq!(fixture.explain_document(&default, &[]).status, 1);
    assert_eq!(fixture.explain_document(&default, &["--identity-policy", &own]).status, 0);
}

#[test]
fn a_document_of_another_root_is_trouble_and_not_a_decision() {
    let (one, other) = (fixture(true), fixture(true));
    let ran = one.explain(&one_image(), &["--doc", &other.document]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("the document is refused"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn an_action_that_does_not_exist_is_trouble() {
    let fixture = fixture(true);
    let policy = fixture.user.file("policy.json", one_image().to_string());
    for action in ["kms:Decypt", "kms:*", "Decrypt"] {
        let ran = fixture.user.run(&["kms", "explain", "--policy", &policy, "--action", action]);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.starts_with("error: action: "), "{}", ran.stderr);
    }
}

#[test]
fn a_caller_must_be_named_if_the_policy_names_several() {
    let fixture = fixture(true);
    let policy = fixture.user.file("policy.json", one_image().to_string());
    let ran = fixture.user.run(&["kms", "explain", "--policy", &policy, "--action", "kms:Encrypt"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("--principal: arn:aws:iam::000000000000:role/App, "), "{}", ran.stderr);
}

#[test]
fn a_policy_is_required() {
    let ran = User::new().run(&["kms", "explain", "--action", "kms:Decrypt"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

#[test]
fn a_policy_that_the_service_refuses_is_trouble() {
    let mut policy = one_image();
    policy["Statement"][1]["Action"] = json!("kms:Decypt");
    let ran = lint(&policy, &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(
        ran.stderr.contains(
            "Statement[1].Action: \"kms:Decypt\" names no action of KMS; did you mean kms:Decrypt?"
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_policy_file_that_cannot_be_read_is_trouble() {
    let user = User::new();
    let binary = user.file("binary", [0xff; 8]);
    let long = user.file("long", " ".repeat(70_000));
    for path in ["missing.json", &binary, &long] {
        let ran = user.run(&["kms", "lint", path]);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains("next: "), "{}", ran.stderr);
    }
}

#[test]
fn a_finding_ends_lint_with_one() {
    let mut policy = one_image();
    policy["Statement"][0]["Principal"] = json!({"AWS": APP});
    policy["Statement"][0]["Action"] = json!("kms:*");
    let ran = lint(&policy, &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let expected = format!(
        "\
error in Statement[0] \"Admin\": allows kms:Decrypt without a document, beside Statement[1] that asks for one: the open one wins
  leave kms:Decrypt out of this statement, or deny requests without the right document: Effect Deny, StringNotEqualsIgnoreCase on {IMAGE}
1 error, 0 warnings, 0 notes.
"
    );
    assert_eq!(ran.stdout, expected);
}

#[test]
fn notes_alone_are_clean() {
    let mut policy = one_image();
    policy["Statement"][1]["Condition"] = json!({"StringEquals": {IMAGE: register("a0")}});
    let ran = lint(&policy, &["-o", "json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["Clean"], json!(true));
    assert_eq!(report["Findings"].as_array().unwrap().len(), 1);
    assert_eq!(report["Findings"][0]["Severity"], json!("note"));
    assert_eq!(report["Findings"][0]["Statement"], json!(1));
}

#[test]
fn a_right_policy_is_clean() {
    let ran = lint(&one_image(), &[]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "Nothing found.\n"), "{ran:?}");
}

#[test]
fn a_callers_policy_is_linted_as_such() {
    let policy = json!({"Statement": {"Effect": "Allow", "NotAction": "kms:Decrypt", "Resource": "*"}});
    assert_eq!(lint(&policy, &[]).status, 2);
    let ran = lint(&policy, &["--identity"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.starts_with("warning in Statement[0]: Allow with NotAction"), "{}", ran.stdout);
}
