//! What a relying party's policy accepts and refuses, as values and as the file that operators write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::time::Duration;

use attestation::pcr::{Pcr, PcrIndex};
use attestation::policy::file::{CheckedPolicy, NonceRequired, PolicyFile, PolicyFileError, RootReference};
use attestation::policy::{Comparison, PcrSet, SetMismatch};
use attestation::report::{Content, Status, examine};
use attestation::roots::Roots;
use attestation::verify::{
    AgeError, AgeLimit, ChainError, Policy, PolicyError, VerifiedDocument, VerifyError, verify,
    verify_against,
};
use common::{Hierarchy, now};

fn index(number: u64) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

fn pcr(byte: u8) -> Pcr {
    Pcr::from_bytes([byte; 48])
}

/// A set with one register.
fn set(name: &str, number: u64, value: Pcr) -> PcrSet {
    PcrSet::new(name, [(index(number), value)].into()).unwrap()
}

/// Verifies a document in which PCR n is the byte 0x40 + n.
fn under(policy: &Policy) -> Result<VerifiedDocument, VerifyError> {
    let hierarchy = Hierarchy::new(now());
    let signed = hierarchy.sign(&hierarchy.document(now()));
    verify(&signed, hierarchy.root_certificate(), now(), policy)
}

fn refusal(policy: &Policy) -> PolicyError {
    match under(policy).unwrap_err() {
        VerifyError::Policy(error) => error,
        other => panic!("not the policy: {other}"),
    }
}

#[test]
fn the_first_set_that_matches_whole_is_named() {
    let accept = vec![set("old", 0, pcr(1)), set("new", 0, pcr(0x40)), set("same", 1, pcr(0x41))];
    let verified = under(&Policy { accept, ..Policy::default() }).unwrap();
    assert_eq!(verified.matched.as_deref(), Some("new"));
}

#[test]
fn half_of_one_set_and_half_of_another_do_not_make_one() {
    let half = |name: &str, right: u64, wrong: u64| {
        let pcrs = [(index(right), pcr(0x40 + u8::try_from(right).unwrap())), (index(wrong), pcr(1))];
        PcrSet::new(name, pcrs.into()).unwrap()
    };
    let accept = vec![half("first", 0, 1), half("second", 1, 0)];
    let mismatch = |name: &str, number: u64, found: u8| SetMismatch {
        set: name.to_owned(),
        first: Comparison { index: index(number), expected: pcr(1), found: Some(pcr(found)) },
    };
    let expected = PolicyError::NoSet(vec![mismatch("first", 1, 0x41), mismatch("second", 0, 0x40)]);
    assert_eq!(refusal(&Policy { accept, ..Policy::default() }), expected);
}

#[test]
fn a_refusal_names_the_first_eight_sets_and_counts_the_others() {
    let with = |count: usize| {
        let accept = (0..count).map(|number| set(&format!("r{number}."), 0, pcr(1))).collect();
        refusal(&Policy { accept, ..Policy::default() }).to_string()
    };
    assert!(with(8).contains("r7.") && !with(8).contains("more"), "{}", with(8));
    assert!(with(9).ends_with("; and 1 more") && !with(9).contains("r8."), "{}", with(9));
    assert!(with(2000).len() < 4096);
}

#[test]
fn registers_demanded_beside_the_sets_refuse_though_a_set_matches() {
    let policy = Policy {
        accept: vec![set("new", 0, pcr(0x40))],
        pcrs: [(index(1), pcr(1))].into(),
        ..Policy::default()
    };
    assert!(matches!(refusal(&policy), PolicyError::Pcr(_)));
}

#[test]
fn what_ties_a_policy_to_images_is_a_register_that_measures_them() {
    let demanding = |number| Policy { pcrs: [(index(number), pcr(1))].into(), ..Policy::default() };
    let accepting = |sets: &[u64]| {
        let accept = sets.iter().map(|number| set(&number.to_string(), *number, pcr(1))).collect();
        Policy { accept, ..Policy::default() }
    };
    assert!(!Policy::default().restricts_images());
    for number in 0..32 {
        let measures = [0, 1, 2, 8].contains(&number);
        assert_eq!(demanding(number).restricts_images(), measures, "{number}");
        assert_eq!(accepting(&[number]).restricts_images(), measures, "{number}");
        // One set that any image matches is enough to accept any.
        assert_eq!(accepting(&[0, number]).restricts_images(), measures, "{number}");
    }
    assert!(Policy { signers: [pcr(1)].into(), ..Policy::default() }.restricts_images());
    assert!(!Policy { nonce: Some(vec![1]), ..Policy::default() }.restricts_images());
    // What every image has that nobody signed.
    assert!(!Policy { pcrs: [(index(8), Pcr::ZERO)].into(), ..Policy::default() }.restricts_images());
    assert!(!Policy { signers: [pcr(1), Pcr::ZERO].into(), ..Policy::default() }.restricts_images());
}

#[test]
fn a_set_without_registers_cannot_be_made() {
    assert_eq!(PcrSet::new("all", [].into()), None);
}

#[test]
fn another_signer_is_refused() {
    let policy = Policy { signers: [pcr(1), pcr(2)].into(), ..Policy::default() };
    assert_eq!(refusal(&policy), PolicyError::Signer(Some(pcr(0x48))));
    let policy = Policy { signers: [pcr(1), pcr(0x48)].into(), ..Policy::default() };
    assert!(under(&policy).is_ok());
}

#[test]
fn a_document_without_the_signers_register_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let mut document = hierarchy.document(now());
    document.pcrs.remove(&index(8));
    let policy = Policy { signers: [Pcr::ZERO].into(), ..Policy::default() };
    let refused = verify(&hierarchy.sign(&document), hierarchy.root_certificate(), now(), &policy);
    assert_eq!(refused.unwrap_err(), VerifyError::Policy(PolicyError::Signer(None)));
}

#[test]
fn an_age_is_accepted_up_to_its_limit() {
    let hierarchy = Hierarchy::new(now());
    let signed = hierarchy.sign(&hierarchy.document(now()));
    let limit = AgeLimit { max_age: Duration::from_secs(300), max_future: Duration::from_secs(60) };
    let policy = Policy { age: Some(limit), ..Policy::default() };
    let at = |time| verify(&signed, hierarchy.root_certificate(), time, &policy).map(|_| ());
    let (second, millisecond) = (Duration::from_secs(1), Duration::from_millis(1));
    assert_eq!(at(now()), Ok(()));
    assert_eq!(at(now() + 300 * second), Ok(()));
    assert!(matches!(at(now() + 300 * second + millisecond), Err(VerifyError::Age(AgeError::TooOld { .. }))));
    assert_eq!(at(now() - 60 * second), Ok(()));
    let future = at(now() - 60 * second - millisecond);
    assert!(matches!(future, Err(VerifyError::Age(AgeError::FromTheFuture { .. }))));
}

#[test]
fn a_time_stamp_at_the_end_of_all_time_is_from_the_future() {
    let hierarchy = Hierarchy::new(now());
    let mut document = hierarchy.document(now());
    document.timestamp = u64::MAX;
    let policy = Policy { age: Some(AgeLimit::new(Duration::MAX)), ..Policy::default() };
    let refused = verify(&hierarchy.sign(&document), hierarchy.root_certificate(), now(), &policy);
    assert!(matches!(refused.unwrap_err(), VerifyError::Age(AgeError::FromTheFuture { .. })));
}

#[test]
fn any_of_several_roots_will_do_and_is_told() {
    let (ours, other) = (Hierarchy::new(now()), Hierarchy::new(now()));
    let signed = ours.sign(&ours.document(now()));
    let against = |roots: &Roots| verify_against(&signed, roots, now(), &Policy::default());
    let both = Roots::from_iter([other.root_certificate(), ours.root_certificate()]);
    assert_eq!(against(&both).unwrap().root, ours.root_certificate().fingerprint());
    let refused = against(&Roots::from(other.root_certificate())).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn without_a_root_nothing_is_trusted() {
    let ours = Hierarchy::new(now());
    let signed = ours.sign(&ours.document(now()));
    let refused = verify_against(&signed, &Roots::new(), now(), &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn an_authority_of_the_chain_is_no_root() {
    let ours = Hierarchy::new(now());
    let signed = ours.sign(&ours.document(now()));
    let host = Roots::from(&ours.host.chain()[1]);
    let refused = verify_against(&signed, &host, now(), &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn a_report_agrees_with_the_verdict() {
    let ours = Hierarchy::new(now());
    let signed = ours.sign(&ours.document(now()));
    let roots = Roots::from(ours.root_certificate());
    let good = examine(&signed, &roots, now(), &Policy::default());
    assert!(good.outcome.is_ok() && matches!(good.report.content(), Content::Verified(_)));
    let policy = Policy { nonce: Some(vec![0]), ..Policy::default() };
    let refused = examine(&signed, &roots, now(), &policy);
    assert!(refused.outcome.is_err() && matches!(refused.report.content(), Content::Unproven(_)));
    assert_eq!(refused.report.steps().signature.status, Status::Passed);
    assert_eq!(refused.report.steps().policy.status, Status::Failed);
}

#[test]
fn a_report_does_not_say_passed_of_what_nobody_asked() {
    let ours = Hierarchy::new(now());
    let signed = ours.sign(&ours.document(now()));
    let roots = Roots::from(ours.root_certificate());
    let statuses = |policy: &Policy| {
        let examination = examine(&signed, &roots, now(), policy);
        assert!(examination.outcome.is_ok());
        let steps = examination.report.steps();
        (steps.age.status, steps.policy.status)
    };
    // That no debug enclave made it is demanded, and checked.
    assert_eq!(statuses(&Policy::default()), (Status::NotAsked, Status::Passed));
    let anything = || Policy { allow_debug: true, ..Policy::default() };
    assert_eq!(statuses(&anything()), (Status::NotAsked, Status::NotAsked));
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    for demanding in [
        Policy { pcrs: [(index(0), pcr(0x40))].into(), ..anything() },
        Policy { accept: vec![set("v1", 0, pcr(0x40))], ..anything() },
        Policy { signers: [pcr(0x48)].into(), ..anything() },
        Policy { nonce: bytes("nonce"), ..anything() },
        Policy { user_data: bytes("user data"), ..anything() },
        Policy { public_key: bytes("public key"), ..anything() },
    ] {
        assert_eq!(statuses(&demanding), (Status::NotAsked, Status::Passed), "{demanding:?}");
    }
    let aged = Policy { age: Some(AgeLimit::new(Duration::ZERO)), ..anything() };
    assert_eq!(statuses(&aged), (Status::Passed, Status::NotAsked));
}

#[test]
fn a_report_of_bytes_that_are_none_is_made_too() {
    let examination = examine(&[], &Roots::new(), now(), &Policy::default());
    assert!(matches!(examination.report.content(), Content::Unreadable));
    let json = serde_json::to_value(&examination.report).unwrap();
    assert_eq!(json["Verified"], false);
    assert_eq!(json["Failure"]["Step"], "structure");
}

#[test]
fn a_report_names_the_certificate_that_cannot_be_read() {
    let ours = Hierarchy::new(now());
    let mut document = ours.document(now());
    document.cabundle[1] = vec![0x30; 1024];
    let roots = Roots::from(ours.root_certificate());
    let examination = examine(&ours.sign(&document), &roots, now(), &Policy::default());
    let json = serde_json::to_value(&examination.report).unwrap();
    let certificate = &json["Unproven"]["Certificates"][1];
    assert_eq!(certificate["Position"], 1);
    assert!(certificate["Error"].as_str().unwrap().contains("DER"), "{certificate}");
}

fn parse(text: &str) -> Result<PolicyFile, toml::de::Error> {
    toml::from_str(text)
}

fn checked(text: &str) -> Result<CheckedPolicy, PolicyFileError> {
    parse(text).unwrap().check()
}

fn wrong(text: &str) -> PolicyFileError {
    checked(text).unwrap_err()
}

/// A table of one register.
fn table(register: u8, byte: &str) -> String {
    format!("[[accept]]\nPCR{register} = \"{}\"\n", byte.repeat(48))
}

#[test]
fn a_file_gives_the_policy_that_it_says() {
    let fingerprint = "ab".repeat(32);
    let text = format!(
        "roots = [\"a/root.pem\", \"sha256:{fingerprint}\"]\nsigners = [\"{}\"]\nmax_age_seconds = 300\n\
         require_nonce = true\nuser_data = \"0102\"\n{}name = \"v1\"\n{}",
        "08".repeat(48),
        table(0, "A0"),
        table(31, "ff"),
    );
    let checked = checked(&text).unwrap();
    assert_eq!(
        checked.roots(),
        [RootReference::File("a/root.pem".into()), RootReference::Fingerprint([0xab; 32])]
    );
    let policy = checked.with_nonce(Some(b"nonce".to_vec())).unwrap();
    assert_eq!(policy.nonce.as_deref(), Some(&b"nonce"[..]));
    assert_eq!(policy.accept, [set("v1", 0, pcr(0xa0)), set("set 2", 31, pcr(0xff))]);
    assert_eq!(policy.signers, [pcr(8)].into());
    assert_eq!(policy.age, Some(AgeLimit::new(Duration::from_secs(300))));
    assert_eq!(policy.user_data, Some(vec![1, 2]));
    assert!(!policy.allow_debug);
}

#[test]
fn a_file_that_requires_a_nonce_gives_no_policy_without_one() {
    let text = format!("require_nonce = true\n{}", table(0, "a0"));
    for none in [None, Some(Vec::new())] {
        assert_eq!(checked(&text).unwrap().with_nonce(none).unwrap_err(), NonceRequired);
    }
    assert_eq!(checked(&text).unwrap().with_nonce(Some(vec![0])).unwrap().nonce, Some(vec![0]));
    assert_eq!(checked(&table(0, "a0")).unwrap().with_nonce(None).unwrap().nonce, None);
}

#[test]
fn a_list_that_is_there_and_empty_is_refused() {
    let image = table(0, "a0");
    for name in ["roots", "signers"] {
        assert_eq!(wrong(&format!("{name} = []\n{image}")), PolicyFileError::EmptyList(name));
    }
    let signer = format!("accept = []\nsigners = [\"{}\"]", "08".repeat(48));
    assert_eq!(wrong(&signer), PolicyFileError::EmptyList("accept"));
}

#[test]
fn a_policy_that_accepts_everything_is_refused() {
    assert_eq!(wrong(""), PolicyFileError::Empty);
    assert_eq!(wrong("roots = [\"root.pem\"]\nmax_age_seconds = 1"), PolicyFileError::Empty);
    assert_eq!(wrong("allow_debug = true"), PolicyFileError::Empty);
    assert_eq!(wrong("[[accept]]\nname = \"all\""), PolicyFileError::EmptySet("all".into()));
}

#[test]
fn zeros_in_registers_that_measure_are_refused_unless_debug_is_allowed() {
    for register in [0, 1, 2, 8] {
        let text = table(register, "00");
        assert_eq!(wrong(&text), PolicyFileError::Zero { set: "set 1".into(), index: register });
        assert!(checked(&format!("allow_debug = true\n{text}")).is_ok());
    }
    let signer = format!("signers = [\"{}\"]", "00".repeat(48));
    assert_eq!(wrong(&signer), PolicyFileError::Zero { set: "signers".into(), index: 8 });
}

#[test]
fn a_set_of_nothing_but_zeros_is_refused() {
    assert_eq!(wrong(&table(3, "00")), PolicyFileError::OnlyZeros("set 1".into()));
    // No role, beside an image: that says something.
    let text = format!("{}PCR3 = \"{}\"", table(0, "a0"), "00".repeat(48));
    assert!(checked(&text).is_ok());
}

#[test]
fn two_sets_of_one_name_are_refused() {
    let twice = format!("{0}name = \"v1\"\n{0}name = \"v1\"\n", table(0, "a0"));
    assert_eq!(wrong(&twice), PolicyFileError::SameName("v1".into()));
    let like_a_number = format!("{0}name = \"set 2\"\n{0}", table(0, "a0"));
    assert_eq!(wrong(&like_a_number), PolicyFileError::SameName("set 2".into()));
}

#[test]
fn a_root_that_is_named_in_no_known_way_is_refused() {
    for root in ["", "sha256:", "sha256:00", "sha256:zz"] {
        let text = format!("roots = [\"{root}\"]\n{}", table(0, "a0"));
        assert_eq!(wrong(&text), PolicyFileError::Root(root.into()));
    }
}

#[test]
fn a_limit_on_the_future_alone_is_refused() {
    let text = format!("max_future_seconds = 1\n{}", table(0, "a0"));
    assert_eq!(wrong(&text), PolicyFileError::FutureWithoutAge);
}

#[test]
fn bytes_that_are_not_hexadecimal_are_refused() {
    for field in ["user_data", "public_key"] {
        let text = format!("{field} = \"xx\"\n{}", table(0, "a0"));
        assert_eq!(wrong(&text), PolicyFileError::Hexadecimal(field));
    }
}

#[test]
fn keys_that_are_not_known_are_refused() {
    for text in [
        "nonce = \"00\"",
        "Roots = []",
        "[[accept]]\npcr0 = \"\"",
        "[[accept]]\nPCR00 = \"\"",
        "[[accept]]\nPCR32 = \"\"",
    ] {
        assert!(parse(text).unwrap_err().to_string().contains("unknown"), "{text}");
    }
}

#[test]
fn registers_of_another_width_are_refused() {
    for digits in [0, 64, 94, 95, 97, 98, 128] {
        let text = format!("[[accept]]\nPCR0 = \"{}\"", "a".repeat(digits));
        assert!(parse(&text).unwrap_err().to_string().contains("96 hexadecimal digits"), "{digits}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_in_json_too() {
    let value = "a0".repeat(48);
    let register = format!("{{\"accept\": [{{\"PCR0\": \"{value}\", \"PCR0\": \"{value}\"}}]}}");
    let name = format!("{{\"accept\": [{{\"name\": \"a\", \"name\": \"b\", \"PCR0\": \"{value}\"}}]}}");
    for text in [register, name, "{\"allow_debug\": false, \"allow_debug\": true}".to_owned()] {
        assert!(serde_json::from_str::<PolicyFile>(&text).is_err(), "{text}");
    }
}
