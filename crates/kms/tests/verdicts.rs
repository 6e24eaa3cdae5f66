//! Our decisions beside those of another implementation of IAM's evaluation, on random policies and requests.
//!
//! `data/verdicts.jsonl` is what @cloud-copilot/iam-simulate 0.1.173 said; tests/oracles/policies asks it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::pcr::Pcr;
use kms::policy::{Attestation, Effect, IdentityPolicy, Outcome, Policy, Request, decide};
use serde_json::Value;

const VERDICTS: &str = include_str!("data/verdicts.jsonl");
const ACCOUNT: &str = "123456789012";
const KEY: &str = "arn:aws:kms:local-1:123456789012:key/11111111-2222-3333-4444-555555555555";
/// 2026-11-22T12:00:00Z, by `date -u -d @1795348800`.
const TIME: Duration = Duration::from_secs(1_795_348_800);

/// Registers are written `{a}` in the file.
fn expand(line: &str) -> String {
    "abcdABCD".chars().fold(line.to_owned(), |line, digit| {
        line.replace(&format!("{{{digit}}}"), &digit.to_string().repeat(96))
    })
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn our_verdict(case: &Value) -> &'static str {
    let key = Policy::parse(&case["key"].to_string()).unwrap();
    let identity = Some(&case["identity"]).filter(|policy| !policy.is_null());
    let identity = identity.map(|policy| IdentityPolicy::parse(&policy.to_string()).unwrap());
    let pcrs: Option<BTreeMap<u8, Pcr>> = Some(&case["pcrs"]).filter(|pcrs| !pcrs.is_null()).map(|pcrs| {
        texts(pcrs).iter().map(|(index, value)| (index.parse().unwrap(), value.parse().unwrap())).collect()
    });
    let context = texts(&case["context"]);
    let request = Request {
        principal: case["principal"].as_str().unwrap(),
        account: ACCOUNT,
        action: case["action"].as_str().unwrap(),
        resource: KEY,
        time: SystemTime::from(UNIX_EPOCH + TIME),
        encryption_context: &context,
        attestation: pcrs.as_ref().map(|pcrs| Attestation { pcrs }),
        key_spec: None,
        key_usage: None,
        request_alias: None,
    };
    let decision = decide(Some(&key), identity.as_ref(), &request);
    let denied = decision
        .statements()
        .iter()
        .any(|report| report.effect == Effect::Deny && report.outcome == Outcome::Matched);
    match (decision.allowed(), denied) {
        (true, false) => "Allowed",
        (false, true) => "ExplicitlyDenied",
        (false, false) => "ImplicitlyDenied",
        (true, true) => "Allowed against a Deny",
    }
}

#[test]
fn another_implementation_decides_the_same() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut differing = Vec::new();
    for (number, line) in VERDICTS.lines().enumerate() {
        let case: Value = serde_json::from_str(&expand(line)).unwrap();
        let theirs = case["verdict"].as_str().unwrap();
        let ours = our_verdict(&case);
        *counts.entry(theirs.to_owned()).or_default() += 1;
        if ours != theirs {
            differing.push(format!("line {}: ours {ours}, theirs {theirs}", number + 1));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    // A file of denials alone would prove little.
    for verdict in ["Allowed", "ExplicitlyDenied", "ImplicitlyDenied"] {
        assert!(counts.get(verdict).is_some_and(|count| *count >= 40), "{counts:?}");
    }
}
