//! `attest verify` on documents that the security module makes.

use std::time::{Duration, SystemTime};

use attestation::certificate::Certificate;
use attestation::identity::{EnclaveId, InstanceId, Role};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use base64ct::{Base64, Encoding};
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};

use crate::support::{Ran, User, keys};

pub(crate) const NONCE: &[u8] = b"fresh";
const USER_DATA: &[u8] = b"data";
const PUBLIC_KEY: &[u8] = b"key";

/// A document, where it was written to, and what it should say.
pub(crate) struct Fixture {
    pub(crate) user: User,
    pub(crate) raw: Vec<u8>,
    pub(crate) document: String,
    pub(crate) root: String,
    pub(crate) pcr0: String,
    pub(crate) made: SystemTime,
}

pub(crate) fn image() -> Measurements {
    let register = |byte: u8| Pcr::from_bytes([byte; 48]);
    Measurements {
        pcr0: register(0xa0),
        pcr1: register(0xa1),
        pcr2: register(0xa2),
        pcr8: Some(register(0xa8)),
    }
}

pub(crate) fn made_at(made: SystemTime, measurements: Option<&Measurements>) -> Fixture {
    let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
    let role: Role = "arn:aws:iam::123456789012:role/Webserver".parse().unwrap();
    let root = RootAuthority::generate(made, &mut SysRng).unwrap();
    let host = root.issue_host(&instance, made, &mut SysRng).unwrap();
    let enclave = EnclaveId::generate(instance, made, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, made, &mut SysRng).unwrap();
    let mut module = SecurityModule::new(Identity { enclave, role: Some(role), authority });
    module.set_measurements(measurements).unwrap();
    let request = Request::Attestation {
        user_data: Some(USER_DATA.to_vec()),
        nonce: Some(NONCE.to_vec()),
        public_key: Some(PUBLIC_KEY.to_vec()),
    };
    let response = module.handle(&request.encode(), made);
    let Response::Attestation { document } = Response::decode(&response).unwrap() else {
        panic!("the security module refused");
    };
    let certificate: &Certificate = root.chain().last().unwrap();
    let user = User::new();
    Fixture {
        document: user.file("document", &document),
        root: user.file("root.pem", certificate.to_pem().unwrap()),
        raw: document,
        user,
        pcr0: "a0".repeat(48),
        made,
    }
}

pub(crate) fn production() -> Fixture {
    made_at(SystemTime::now(), Some(&image()))
}

impl Fixture {
    pub(crate) fn verify(&self, more: &[&str]) -> Ran {
        let words = ["attest", "verify", &self.document, "--root", &self.root];
        self.user.run(&[&words[..], more].concat())
    }
}

#[test]
fn a_genuine_document_is_verified_and_shown() {
    let fixture = production();
    let expected = format!("0={}", fixture.pcr0);
    let text = fixture.verify(&["--pcr", &expected, "--nonce", &hex::encode(NONCE)]).succeeded().stdout;
    for word in ["Verified", &fixture.pcr0, &hex::encode(USER_DATA), "root.enclave-hypervisor", "as of"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let ran = fixture.verify(&["-o", "json", "--pcr", &expected]).succeeded();
    // Those of a verified document, then the account of each step.
    assert_eq!(
        keys(&ran.stdout),
        [
            "Verified",
            "VerifiedAt",
            "ModuleID",
            "Debug",
            "Timestamp",
            "TimestampMs",
            "PCRs",
            "Nonce",
            "UserData",
            "PublicKey",
            "Certificates",
            "Failure",
            "Steps",
            "Unproven"
        ]
    );
    let report = ran.json();
    assert_eq!((&report["Verified"], &report["Debug"]), (&true.into(), &false.into()));
    assert_eq!(report["PCRs"]["0"], fixture.pcr0);
    assert_eq!(report["PCRs"].as_object().unwrap().len(), 16);
    assert_eq!(report["Nonce"], hex::encode(NONCE));
    assert_eq!(report["Certificates"].as_array().unwrap().len(), 4);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_document_is_taken_in_every_form() {
    let fixture = production();
    let base64 = Base64::encode_string(&fixture.raw);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let base64 = lines.join("\n");
    for (name, text) in [("hex", hex::encode(&fixture.raw)), ("base64", base64)] {
        let path = fixture.user.file(name, &text);
        let _ = fixture.user.run(&["attest", "verify", &path, "--root", &fixture.root]).succeeded();
        let arguments = ["attest", "verify", "-", "--root", fixture.root.as_str()];
        let _ = fixture.user.run_with_input(&arguments, text.as_bytes()).succeeded();
    }
    let arguments = ["attest", "verify", "-", "--root", fixture.root.as_str()];
    let _ = fixture.user.run_with_input(&arguments, &fixture.raw).succeeded();
}

#[test]
fn each_expectation_that_is_not_met_refuses_the_document() {
    let fixture = production();
    let other = "b0".repeat(48);
    let _ = fixture
        .verify(&["--pcr", &format!("0={other}")])
        .refused(9, &["policy", "PCR 0", &other, &fixture.pcr0]);
    let _ = fixture.verify(&["--pcr", &format!("8={other}")]).refused(9, &["PCR 8"]);
    let _ = fixture.verify(&["--pcr", &format!("16={other}")]).refused(9, &["PCR 16", "not in the document"]);
    let _ = fixture.verify(&["--nonce", "00"]).refused(10, &["policy", "nonce"]);
    let _ = fixture.verify(&["--user-data", "00"]).refused(9, &["user data"]);
    let _ = fixture.verify(&["--public-key", "00"]).refused(9, &["public key"]);
    let same = format!("0={}", fixture.pcr0);
    let _ = fixture.verify(&["--pcr", &same, "--pcr", &same]).succeeded();
    let _ = fixture.verify(&["--pcr", &same, "--pcr", &format!("0={other}")]).failed(&["two values"]);
}

#[test]
fn another_root_refuses_the_document() {
    let (fixture, stranger) = (production(), production());
    let words = ["attest", "verify", &fixture.document, "--root", &stranger.root];
    let _ = fixture.user.run(&words).refused(4, &["chain", "another root", "export-root"]);
}

#[test]
fn a_changed_document_is_refused() {
    let fixture = production();
    let mut changed = fixture.raw.clone();
    let position = changed.windows(NONCE.len()).position(|window| window == NONCE).unwrap();
    changed[position] ^= 1;
    let path = fixture.user.file("changed", &changed);
    let _ =
        fixture.user.run(&["attest", "verify", &path, "--root", &fixture.root]).refused(6, &["signature"]);
    let cut = fixture.user.file("cut", &fixture.raw[..fixture.raw.len() - 1]);
    let _ = fixture.user.run(&["attest", "verify", &cut, "--root", &fixture.root]).refused(3, &["structure"]);
}

#[test]
fn dates_are_judged_now_or_at_the_time_asked_for() {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let fixture = made_at(past, Some(&image()));
    assert_eq!(fixture.made, past);
    let _ = fixture.verify(&[]).refused(5, &["dates", "--at"]);
    let _ = fixture.verify(&["--at", "1700000000"]).succeeded();
    let _ = fixture.verify(&["--at", "2023-11-14T22:13:20Z"]).succeeded();
    let _ = fixture.verify(&["--at", "document"]).succeeded();
    // Three hours later the signing key's certificate has ended, although the chain above it has not.
    let _ = fixture.verify(&["--at", "1700011000"]).refused(5, &["dates"]);
    let _ = fixture.verify(&["--at", "1600000000"]).refused(5, &["dates"]);
}

#[test]
fn a_debug_document_is_refused_whatever_else_is_said() {
    let fixture = made_at(SystemTime::now(), None);
    let zeros = format!("0={}", "0".repeat(96));
    let _ = fixture.verify(&[]).refused(8, &["debug", "--allow-debug"]);
    let _ = fixture.verify(&["--pcr", &zeros]).refused(8, &["debug"]);
    let allowed = fixture.verify(&["--allow-debug", "--pcr", &zeros, "-o", "json"]).succeeded();
    assert_eq!(allowed.json()["Debug"], true);
    assert!(allowed.stderr.contains("warning"), "{allowed:#?}");
}

#[test]
fn what_is_missing_or_something_else_is_named() {
    let fixture = production();
    let root = fixture.root.clone();
    let missing = fixture.user.path("missing").to_str().unwrap().to_owned();
    let _ = fixture
        .user
        .run(&["attest", "verify", &missing, "--root", &root])
        .failed(&["missing", "cannot read"]);
    let _ =
        fixture.user.run(&["attest", "verify", &fixture.document, "--root", &missing]).failed(&["missing"]);
    let _ = fixture
        .user
        .run(&["attest", "verify", &fixture.document, "--root", &fixture.document])
        .failed(&["root"]);
}

#[test]
fn bytes_that_are_no_document_are_refused_for_their_structure() {
    let fixture = production();
    let long_text = "8444a1013822".repeat(10_000);
    // More than is read, and a whole document in what is.
    let hidden_tail = format!("{}{}00", hex::encode(&fixture.raw), " ".repeat(64 * 1024));
    for (bytes, word) in [
        (&b""[..], "COSE_Sign1"),
        (b" \n", "COSE_Sign1"),
        (b"not a document!", "COSE_Sign1"),
        (b"\x00\xff", "COSE_Sign1"),
        (&[0x84; 100_000], "longer than"),
        (&[b' '; 100_000], "longer than"),
        (long_text.as_bytes(), "longer than"),
        (hidden_tail.as_bytes(), "longer than"),
    ] {
        let file = fixture.user.file("bytes", bytes);
        let words = ["attest", "verify", &file, "--root", &fixture.root];
        let _ = fixture.user.run(&words).refused(3, &["structure", word, "base64"]);
        let ran = fixture.user.run(&[&words[..], &["-o", "json"]].concat());
        assert_eq!((ran.status, &ran.json()["Failure"]["Step"]), (3, &"structure".into()), "{ran:#?}");
    }
}

/// The envelope as an array without a length, which the verifier takes and no text begins with.
#[test]
fn a_raw_document_need_not_begin_as_ours_do() {
    let fixture = production();
    let bytes = [&[0x9f], &fixture.raw[1..], &[0xff]].concat();
    let file = fixture.user.file("indefinite", bytes);
    let _ = fixture.user.run(&["attest", "verify", &file, "--root", &fixture.root]).succeeded();
}

#[test]
fn an_empty_nonce_is_a_mistake_on_the_command_line() {
    let ran = production().verify(&["--nonce", ""]);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(ran.stderr.contains("empty nonce"), "{ran:#?}");
}

#[test]
fn who_expects_no_image_is_warned() {
    let fixture = production();
    let warning = "nothing was asked of the image";
    // The published value of this role, which every image on a host of it has.
    let role =
        "3=78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6";
    for more in [&[][..], &["--nonce", &hex::encode(NONCE)], &["-o", "json"], &["--pcr", role]] {
        let ran = fixture.verify(more).succeeded();
        assert!(ran.stderr.contains(warning), "{ran:#?}");
    }
    assert_eq!(fixture.verify(&["--pcr", &format!("0={}", fixture.pcr0)]).succeeded().stderr, "");
    // Of a refused document nothing is said but why.
    assert!(!fixture.verify(&["--nonce", "00"]).refused(10, &[]).stderr.contains(warning));
}

#[test]
fn only_steps_that_were_made_are_said_to_be() {
    let fixture = production();
    let first_line = |more: &[&str]| {
        let text = fixture.verify(&[&["--at", "document"], more].concat()).succeeded().stdout;
        text.lines()
            .next()
            .unwrap()
            .split_once(" (as of ")
            .map(|(before, after)| format!("{before}{}", after.split_once(')').unwrap().1))
    };
    let verified = |steps: &str| Some(format!("Verified: {steps}."));
    assert_eq!(first_line(&[]), verified("structure, chain, dates, signature and policy"));
    assert_eq!(first_line(&["--allow-debug"]), verified("structure, chain, dates and signature"));
    let aged = fixture.verify(&["--max-age", "3600", "--allow-debug"]).succeeded().stdout;
    assert!(aged.contains(", signature and age.\n"), "{aged}");
}
