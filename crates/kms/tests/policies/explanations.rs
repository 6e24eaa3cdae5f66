//! What a decision says about itself.

use kms::policy::{MAX_LINES, MAX_REASON, MAX_STATEMENTS};
use serde_json::json;

use crate::support::{ADMIN, IMAGE, PCR8, decrypt, one, register, several, statement};

#[test]
fn a_denial_shows_expected_and_presented_values() {
    let policy = several(&[
        statement(json!({"Sid": "Admin", "Principal": {"AWS": ADMIN}, "Action": "kms:*"})),
        statement(
            json!({"Sid": "App", "Condition": {"StringEqualsIgnoreCase": {IMAGE: [register('a'), register('b')], PCR8: register('c')}}}),
        ),
        statement(json!({"Action": ["kms:Encrypt", "kms:GenerateDataKey*"]})),
    ]);
    let decision = decrypt().pcr(0, '0').decide(&policy);
    let (a, b, c, zeros) = (register('a'), register('b'), register('c'), register('0'));
    let expected = format!(
        "denied: no statement allows it; key policy, Statement[1] \"App\": Condition StringEqualsIgnoreCase {IMAGE}: \
         expected one of \"{a}\", \"{b}\", presented \"{zeros}\"
  key policy, Statement[0] \"Admin\" (Allow) does not match
    Principal
      expected:  \"arn:aws:iam::123456789012:user/Admin\"
      presented: \"arn:aws:iam::123456789012:role/App\"
  key policy, Statement[1] \"App\" (Allow) does not match
    Condition StringEqualsIgnoreCase {IMAGE}
      expected:  one of \"{a}\", \"{b}\"
      presented: \"{zeros}\"
    Condition StringEqualsIgnoreCase {PCR8}
      expected:  \"{c}\"
      presented: not present: the attestation document has no PCR 8
  key policy, Statement[2] (Allow) does not match
    Action
      expected:  \"kms:Encrypt\", \"kms:GenerateDataKey*\"
      presented: \"kms:Decrypt\""
    );
    assert_eq!(decision.to_string(), expected);
}

#[test]
fn a_missing_document_is_called_missing() {
    let decision = decrypt().decide(&one(json!({"Condition": {"StringEquals": {IMAGE: register('a')}}})));
    assert!(
        decision.reason().ends_with("presented not present: the request carried no attestation document"),
        "{}",
        decision.reason()
    );
}

#[test]
fn a_deny_and_an_allow_are_named() {
    let policy = several(&[statement(json!({})), statement(json!({"Sid": "No", "Effect": "Deny"}))]);
    assert_eq!(decrypt().decide(&policy).reason(), "key policy, Statement[1] \"No\" denies it");
    assert_eq!(decrypt().decide(&one(json!({}))).reason(), "key policy, Statement[0] allows it");
}

#[test]
fn a_condition_that_fails_comes_before_what_is_left_to_the_callers_policy() {
    let key = several(&[
        statement(json!({"Sid": "Account", "Principal": {"AWS": "123456789012"}})),
        statement(json!({"Sid": "App", "Condition": {"StringEquals": {IMAGE: register('a')}}})),
    ]);
    let (a, zeros) = (register('a'), register('0'));
    assert_eq!(
        decrypt().pcr(0, '0').decide(&key).reason(),
        format!(
            "no statement allows it; key policy, Statement[1] \"App\": Condition StringEquals {IMAGE}: expected \"{a}\", presented \
             \"{zeros}\" (key policy, Statement[0] \"Account\" leaves it to the identity policy, which does not allow it)"
        )
    );
}

#[test]
fn what_is_left_to_the_callers_policy_is_told() {
    let key = one(json!({"Principal": {"AWS": "123456789012"}}));
    let identity = one(json!({"Principal": null, "Condition": {"StringEquals": {IMAGE: register('a')}}}));
    let decision = decrypt().decide_both(Some(&key), Some(&identity));
    assert!(
        decision.reason().starts_with(
            "key policy, Statement[0] leaves it to the identity policy: no statement allows it; identity policy, Statement[0]: \
             Condition StringEquals"
        ),
        "{}",
        decision.reason()
    );
}

#[test]
fn what_the_caller_sent_cannot_forge_a_line_of_the_log() {
    let asked = decrypt().context("app", "x\nallowed: key policy, Statement[0] allows it\u{1b}[2J\u{202e}");
    let decision =
        asked.decide(&one(json!({"Condition": {"StringEquals": {"kms:EncryptionContext:app": "y"}}})));
    let text = decision.to_string();
    assert!(!text.contains(['\u{1b}', '\u{202e}']));
    assert_eq!(text.lines().filter(|line| line.starts_with("allowed")).count(), 0, "{text}");
    assert!(!serde_json::to_string(&decision).unwrap().contains("x\nallowed"));
}

#[test]
fn an_explanation_has_a_bound_whatever_is_sent() {
    let condition = json!({"StringEquals": {"kms:EncryptionContext:a": vec!["v".repeat(30); 200]}});
    let long = decrypt().context("a", &"w".repeat(8_192)).decide(&one(json!({"Condition": condition})));
    assert!(long.reason().chars().count() <= MAX_REASON + 1);
    assert!(long.to_string().len() < 4_000);
    assert!(long.to_string().contains("and 196 more"));
    assert!(long.to_string().contains("(8192 characters)"));
    let many = several(&vec![statement(json!({"Action": "kms:Encrypt"})); MAX_STATEMENTS]);
    let text = decrypt().decide(&many).to_string();
    assert!(text.lines().count() <= MAX_LINES + 6, "{}", text.lines().count());
    assert!(text.lines().last().unwrap().contains("more statements"));
}

#[test]
fn programs_get_the_same_as_json() {
    let decision =
        decrypt().decide(&one(json!({"Sid": "App", "Condition": {"StringEquals": {IMAGE: register('a')}}})));
    let expected = json!({
        "Allowed": false,
        "Reason": decision.reason(),
        "Statements": [{
            "Policy": "key",
            "Statement": 0,
            "Sid": "App",
            "Effect": "Allow",
            "Outcome": "unmatched",
            "Mismatches": [{
                "Element": format!("Condition StringEquals {IMAGE}"),
                "Expected": format!("\"{}\"", register('a')),
                "Presented": "not present: the request carried no attestation document",
            }],
        }],
    });
    assert_eq!(serde_json::to_value(&decision).unwrap(), expected);
}
