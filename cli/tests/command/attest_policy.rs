//! `attest verify` with a policy file, its report, and its exit statuses.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::attest::{Fixture, NONCE, image, made_at, production};
use crate::support::Ran;

const PCR0: &str = "a0";
const PCR8: &str = "a8";

/// A register whose bytes are all the same.
fn register(byte: &str) -> String {
    byte.repeat(48)
}

/// One accepted set.
fn set(name: &str, pcr0: &str) -> String {
    format!("[[accept]]\nname = \"{name}\"\nPCR0 = \"{}\"\n", register(pcr0))
}

impl Fixture {
    /// Verifies under a policy that names the root by its file.
    fn under(&self, policy: &str, more: &[&str]) -> Ran {
        let path = self.user.file("policy.toml", format!("roots = [\"root.pem\"]\n{policy}"));
        self.user.run(&[&["attest", "verify", &self.document, "--policy", &path], more].concat())
    }

    /// Verifies under exactly this policy.
    fn under_text(&self, policy: &str, more: &[&str]) -> Ran {
        let path = self.user.file("policy.toml", policy);
        self.user.run(&[&["attest", "verify", &self.document, "--policy", &path], more].concat())
    }
}

/// The status of every step, in order.
fn statuses(report: &Value) -> Vec<&str> {
    ["Structure", "Chain", "Dates", "Signature", "Age", "Policy"]
        .map(|step| report["Steps"][step]["Status"].as_str().unwrap())
        .to_vec()
}

/// What a refusal prints with `-o json`: one JSON value, the error beside it.
#[track_caller]
fn refused_with_report(ran: Ran, status: i32) -> Value {
    assert_eq!(ran.status, status, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["Verified"], false);
    assert_eq!(report.get("PCRs"), None, "claims of a refused document stand where proven ones do");
    let _ = ran.says(&[report["Failure"]["Reason"].as_str().unwrap()]);
    report
}

#[test]
fn any_of_several_sets_is_accepted_and_named() {
    let fixture = production();
    let policy = [set("v1.3", "b0"), set("v1.4", PCR0)].concat();
    let text = fixture.under(&policy, &[]).succeeded().stdout;
    assert!(text.contains("Accepted as  v1.4"), "{text}");
    let report = fixture.under(&policy, &["-o", "json"]).succeeded().json();
    assert_eq!(statuses(&report), ["passed", "passed", "passed", "passed", "not asked", "passed"]);
    let sets = &report["Steps"]["Policy"]["Details"]["Sets"];
    assert_eq!((&sets[0]["Matches"], &sets[1]["Matches"]), (&false.into(), &true.into()));
    assert_eq!(sets[0]["Registers"][0]["Expected"], register("b0"));
    assert_eq!(sets[0]["Registers"][0]["Found"], register(PCR0));
}

#[test]
fn no_set_that_matches_whole_is_a_refusal_that_names_each() {
    let fixture = production();
    let half = format!("{}PCR1 = \"{}\"\n", set("half", PCR0), register("b1"));
    let policy = [set("v1.3", "b0"), half].concat();
    let _ = fixture.under(&policy, &[]).refused(9, &["v1.3: PCR 0", "half: PCR 1", "eif measure"]);
}

#[test]
fn an_image_of_an_accepted_signer_is_accepted() {
    let signers = format!("signers = [\"{}\", \"{}\"]", register("b8"), register(PCR8));
    let _ = production().under(&signers, &[]).succeeded();
}

#[test]
fn an_image_of_another_signer_is_refused() {
    let signers = format!("signers = [\"{}\"]", register("b8"));
    let _ = production().under(&signers, &[]).refused(9, &["signer", &register(PCR8)]);
}

#[test]
fn the_signer_is_demanded_beside_the_sets() {
    let policy = format!("signers = [\"{}\"]\n{}", register("b8"), set("v1", PCR0));
    let _ = production().under(&policy, &[]).refused(9, &["signer"]);
}

#[test]
fn a_document_older_than_the_policy_allows_is_refused() {
    let fixture = made_at(SystemTime::now() - Duration::from_secs(400), Some(&image()));
    let policy = |limit: u32| format!("max_age_seconds = {limit}\n{}", set("v1", PCR0));
    let _ = fixture.under(&policy(3600), &[]).succeeded();
    let _ = fixture.under(&policy(300), &[]).refused(7, &["age", "at most 300 s"]);
    // An option makes it stricter, never laxer.
    let _ = fixture.under(&policy(3600), &["--max-age", "300"]).refused(7, &["at most 300 s"]);
    let _ = fixture.under(&policy(300), &["--max-age", "3600"]).refused(7, &["at most 300 s"]);
    let _ = fixture.verify(&["--max-age", "300"]).refused(7, &["age"]);
    let _ = fixture.verify(&["--max-age", "3600"]).succeeded();
}

#[test]
fn a_document_from_the_future_is_refused_where_age_counts() {
    let ahead = made_at(SystemTime::now() + Duration::from_secs(200), Some(&image()));
    let _ = ahead.verify(&[]).succeeded();
    let _ = ahead.verify(&["--max-age", "3600"]).refused(7, &["future"]);
    let policy = format!("max_age_seconds = 60\nmax_future_seconds = 300\n{}", set("v1", PCR0));
    let _ = ahead.under(&policy, &[]).succeeded();
}

#[test]
fn an_age_is_not_judged_at_the_documents_own_time() {
    let _ = production().verify(&["--at", "document", "--max-age", "1"]).failed(&["contradict"]);
}

#[test]
fn a_debug_document_is_accepted_only_by_a_policy_that_allows_it() {
    let debug = made_at(SystemTime::now(), None);
    let _ = debug.under(&set("v1", PCR0), &[]).refused(8, &["debug"]);
    let policy = format!("allow_debug = true\n{}", set("test", "00"));
    let _ = debug.under(&policy, &[]).succeeded();
    // The option may not loosen what the file says.
    let ran = debug.under(&set("v1", PCR0), &["--allow-debug"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:#?}");
}

#[test]
fn a_policy_that_requires_a_nonce_judges_nothing_without_one() {
    let fixture = production();
    let policy = format!("require_nonce = true\n{}", set("v1", PCR0));
    let _ = fixture.under(&policy, &[]).failed(&["requires a nonce", "--nonce"]);
    let _ = fixture.under(&policy, &["--nonce", "00"]).refused(10, &["nonce"]);
    let _ = fixture.under(&policy, &["--nonce", &hex::encode(NONCE)]).succeeded();
}

#[test]
fn any_of_several_roots_is_trusted() {
    let (fixture, stranger) = (production(), production());
    let words = ["attest", "verify", &fixture.document, "--root", &stranger.root];
    let _ = fixture.user.run(&words).refused(4, &["another root"]);
    let _ = fixture.user.run(&[&words[..], &["--root", &fixture.root]].concat()).succeeded();
}

#[test]
fn a_policy_names_roots_by_fingerprint_too() {
    let fixture = production();
    let report = fixture.verify(&["-o", "json"]).succeeded().json();
    let fingerprint = report["Certificates"][0]["SHA256"].as_str().unwrap();
    let roots = |digits: &str| format!("roots = [\"sha256:{digits}\"]\n{}", set("v1", PCR0));
    let _ = fixture.under_text(&roots(fingerprint), &[]).succeeded();
    let other = "ab".repeat(32);
    let _ = fixture.under_text(&roots(&other), &[]).refused(4, &["another root", &other]);
}

#[test]
fn roots_are_given_in_one_place() {
    let fixture = production();
    let _ = fixture.under(&set("v1", PCR0), &["--root", &fixture.root]).failed(&["--root", "one place"]);
    let _ = fixture.under_text(&set("v1", PCR0), &[]).failed(&["names no roots", "--root"]);
    let _ = fixture.under_text(&set("v1", PCR0), &["--root", &fixture.root]).succeeded();
}

#[test]
fn options_beside_a_policy_add_demands() {
    let fixture = production();
    let other = format!("0={}", register("b0"));
    let _ = fixture.under(&set("v1", PCR0), &["--pcr", &other]).refused(9, &["PCR 0"]);
    let policy = format!("user_data = \"00\"\n{}", set("v1", PCR0));
    let _ = fixture.under(&policy, &[]).refused(9, &["user data"]);
    let _ = fixture.under(&policy, &["--user-data", "01"]).failed(&["different user data"]);
}

#[test]
fn a_policy_that_is_none_is_refused_with_its_mistake() {
    let fixture = production();
    for (policy, word) in [
        (set("v1", PCR0) + "frob = 1", "frob"),
        ("frob = 1".to_owned(), "frob"),
        (set("v1", PCR0) + "PCR32 = \"00\"", "PCR32"),
        (set("v1", PCR0) + "PCR1 = \"a1\"", "96 hexadecimal digits"),
        (set("v1", PCR0) + &format!("PCR0 = \"{}\"", register("a0")), "duplicate"),
        (set("v1", "00"), "all zeros"),
        ("[[accept]]\nname = \"v1\"".to_owned(), "no PCR"),
        (String::new(), "every image"),
        ("max_age_seconds = -1".to_owned(), "max_age_seconds"),
        ("allow_debug = \"yes\"".to_owned(), "allow_debug"),
        (format!("signers = []\n{}", set("v1", PCR0)), "signers is an empty list"),
    ] {
        let _ = fixture.under(&policy, &[]).failed(&["is not a policy", word, "docs/attestation.md"]);
    }
    let _ = fixture.under("\0", &[]).failed(&["is not a policy"]);
    let missing = fixture.user.path("nowhere.toml");
    let words = ["attest", "verify", &fixture.document, "--policy", missing.to_str().unwrap()];
    let _ = fixture.user.run(&words).failed(&["nowhere.toml", "cannot read"]);
}

#[test]
fn a_policy_cannot_drive_the_terminal() {
    let fixture = production();
    // Not TOML: its reader shows the line.
    let shown = fixture.under("frob = \"\x1b[2J\"", &[]).failed(&["is not a policy", "\u{fffd}[2J"]);
    // Escaped in TOML, in the name of a set that does not match.
    let named = fixture.under(&set("v1\\u001b[2J", "b0"), &[]).refused(9, &["v1\u{fffd}[2J: PCR 0"]);
    for ran in [shown, named] {
        assert!(!ran.stderr.contains('\x1b'), "{ran:#?}");
    }
}

#[test]
fn a_report_of_what_cannot_be_read_claims_nothing() {
    let fixture = production();
    let cut = fixture.user.file("cut", &fixture.raw[..fixture.raw.len() - 1]);
    for at in [&[][..], &["--at", "document"]] {
        let words = ["attest", "verify", &cut, "--root", &fixture.root, "-o", "json"];
        let report = refused_with_report(fixture.user.run(&[&words[..], at].concat()), 3);
        assert_eq!(report["Unproven"], Value::Null);
        assert_eq!(statuses(&report), ["failed"].into_iter().chain(["not reached"; 5]).collect::<Vec<_>>());
    }
}

#[test]
fn a_report_shows_the_chain_to_a_root_that_is_not_trusted() {
    let (fixture, stranger) = (production(), production());
    let words = ["attest", "verify", &fixture.document, "--root", &stranger.root, "-o", "json"];
    let report = refused_with_report(fixture.user.run(&words), 4);
    assert_eq!(statuses(&report)[..3], ["passed", "failed", "not reached"]);
    let chain = &report["Steps"]["Chain"]["Details"];
    assert_ne!(chain["TrustedRoots"][0], chain["Root"]);
    let certificates = report["Unproven"]["Certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 4);
    assert_eq!(certificates[1]["Issuer"], certificates[0]["Subject"]);
    // A point of P-384, uncompressed, is 97 bytes.
    assert_eq!(certificates[3]["Key"].as_str().unwrap().len(), 194);
}

#[test]
fn a_report_of_dates_says_as_of_when() {
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let fixture = made_at(past, Some(&image()));
    let report = refused_with_report(fixture.verify(&["--at", "1600000000", "-o", "json"]), 5);
    assert_eq!(report["Steps"]["Dates"]["Details"]["At"], "2020-09-13T12:26:40Z");
    assert_eq!(statuses(&report)[1..4], ["passed", "failed", "not reached"]);
}

#[test]
fn a_report_of_a_changed_document_compares_nothing_with_the_policy() {
    let fixture = production();
    let mut changed = fixture.raw.clone();
    let position = changed.windows(NONCE.len()).position(|window| window == NONCE).unwrap();
    changed[position] ^= 1;
    let path = fixture.user.file("changed", &changed);
    let words = ["attest", "verify", &path, "--root", &fixture.root, "-o", "json"];
    let report = refused_with_report(fixture.user.run(&words), 6);
    assert_eq!(statuses(&report)[2..], ["passed", "failed", "not reached", "not reached"]);
    assert_eq!(report["Steps"]["Policy"]["Details"], Value::Null);
}

#[test]
fn a_report_of_an_old_document_counts_its_age() {
    let fixture = made_at(SystemTime::now() - Duration::from_secs(400), Some(&image()));
    let report = refused_with_report(fixture.verify(&["--max-age", "300", "-o", "json"]), 7);
    let age = &report["Steps"]["Age"]["Details"];
    assert!((400..500).contains(&age["AgeSeconds"].as_i64().unwrap()), "{age}");
    assert_eq!((&age["MaxAgeSeconds"], &age["MaxFutureSeconds"]), (&300.into(), &60.into()));
}

#[test]
fn a_report_of_a_debug_document_says_so() {
    let report = refused_with_report(made_at(SystemTime::now(), None).verify(&["-o", "json"]), 8);
    assert_eq!(report["Steps"]["Policy"]["Details"]["Debug"], true);
    assert_eq!(report["Unproven"]["Debug"], true);
}

#[test]
fn a_report_of_another_nonce_shows_both() {
    let report = refused_with_report(production().verify(&["--nonce", "00", "-o", "json"]), 10);
    let nonce = &report["Steps"]["Policy"]["Details"]["Nonce"];
    assert_eq!((&nonce["Expected"], &nonce["Found"]), (&"00".into(), &hex::encode(NONCE).into()));
}

#[test]
fn the_help_lists_every_exit_status() {
    let help = production().user.run(&["attest", "verify", "--help"]).succeeded().stdout;
    for status in 0..=10 {
        assert!(help.contains(&format!("\n  {status:2}  ")), "{status}: {help}");
    }
}
