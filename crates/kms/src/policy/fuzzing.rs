//! What the fuzz target and the test that replays its corpus both run: any bytes as a policy, of a key and of a caller.
//!
//! What holds: a policy that is refused says so in one short line; one that is read decides each request alike twice, explains
//! itself in bounded and printable text with a reason for each statement that does not match, and never allows against a Deny.
#![allow(
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::pcr::{PCR_LEN, Pcr};

use super::decision::{MAX_LINES, MAX_REASON};
use super::lint::{lint, lint_identity};
use super::{
    Attestation, Decision, Effect, IdentityPolicy, Outcome, Policy, PolicyError, Request, check_lockout,
    decide,
};

/// Longest message of a refusal: a position, which may name an encryption context's key, a quoted value and advice.
const LONGEST_REFUSAL: usize = 4 * 1024;
/// Lines of one statement in an explanation: its own, and three for each condition.
const STATEMENT_LINES: usize = 1 + 3 * super::MAX_CONDITIONS;

const CALLERS: [&str; 4] = [
    "arn:aws:iam::123456789012:role/App",
    "arn:aws:iam::123456789012:root",
    "arn:aws:sts::123456789012:assumed-role/App/i-1",
    "arn:aws:iam::210987654321:user/Stranger",
];
const ACTIONS: [&str; 3] = ["kms:Decrypt", "kms:GenerateDataKey", "kms:PutKeyPolicy"];
const KEY: &str = "arn:aws:kms:local-1:123456789012:key/11111111-2222-3333-4444-555555555555";

/// Takes bytes for a policy. True if they are one.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else { return false };
    let key = readable(Policy::parse(text));
    let identity = readable(IdentityPolicy::parse(text));
    assert!(key.is_none() || identity.is_none(), "a policy of a key and of a caller at once");
    if let Some(key) = &key {
        let _ = (lint(key), key.callers(), key.account());
    }
    if let Some(identity) = &identity {
        let _ = lint_identity(identity);
    }
    let nothing = BTreeMap::new();
    let context = BTreeMap::from([("app".to_owned(), "pay\nroll\u{1b}".to_owned())]);
    let pcrs = BTreeMap::from([(0, Pcr::from_bytes([0xaa; PCR_LEN])), (8, Pcr::ZERO)]);
    for principal in CALLERS {
        for action in ACTIONS {
            for (encryption_context, attestation) in
                [(&nothing, None), (&context, Some(Attestation { pcrs: &pcrs }))]
            {
                let request = Request {
                    principal,
                    account: "123456789012",
                    action,
                    resource: KEY,
                    time: time(),
                    encryption_context,
                    attestation,
                    key_spec: Some("SYMMETRIC_DEFAULT"),
                    key_usage: None,
                    request_alias: None,
                };
                let decision = decide(key.as_ref(), identity.as_ref(), &request);
                assert_eq!(decision, decide(key.as_ref(), identity.as_ref(), &request), "decided otherwise");
                check(&decision);
                if let Some(key) = &key {
                    let _ = check_lockout(key, &request);
                }
            }
        }
    }
    key.is_some() || identity.is_some()
}

fn time() -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(1_795_348_800)).unwrap_or(UNIX_EPOCH)
}

fn readable<T>(parsed: Result<T, PolicyError>) -> Option<T> {
    parsed
        .map_err(|error| {
            let message = error.to_string();
            assert!(message.len() <= LONGEST_REFUSAL, "a refusal of {} bytes", message.len());
            assert!(!message.contains(char::is_control), "{message:?}");
        })
        .ok()
}

fn check(decision: &Decision) {
    let text = decision.to_string();
    assert!(decision.reason().chars().count() <= MAX_REASON.saturating_add(1));
    assert!(!decision.reason().contains(char::is_control), "{:?}", decision.reason());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.lines().count() <= MAX_LINES.saturating_add(STATEMENT_LINES).saturating_add(2));
    let matched = |effect| {
        decision
            .statements()
            .iter()
            .any(|report| report.effect == effect && report.outcome != Outcome::Unmatched)
    };
    assert!(!(decision.allowed() && matched(Effect::Deny)), "allowed against a Deny: {text}");
    assert!(!decision.allowed() || matched(Effect::Allow), "allowed by nothing: {text}");
    for report in decision.statements() {
        assert_eq!(
            report.outcome == Outcome::Unmatched,
            !report.mismatches.is_empty(),
            "a reason is missing: {text}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of each input.
    const MUTATIONS: u64 = 500;

    #[test]
    fn no_bytes_break_the_reader_of_policies() {
        corpus::replay("policy", MUTATIONS, |bytes| {
            policy(bytes);
        });
    }

    #[test]
    fn the_corpus_has_policies_and_refused_ones() {
        for (name, input) in corpus::inputs("policy") {
            assert_eq!(policy(&input), !name.starts_with("refused-"), "{name}");
        }
    }
}
