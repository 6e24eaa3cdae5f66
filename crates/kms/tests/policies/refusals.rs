//! What is not known is refused when the policy is put, and the message says where.

use kms::policy::{IdentityPolicy, Policy};
use serde_json::{Value, json};

use crate::support::{IMAGE, PCR0, one, register, several, statement};

fn refusal(policy: &Value) -> String {
    Policy::parse(&policy.to_string()).expect_err(&policy.to_string()).to_string()
}

fn condition_refusal(condition: Value) -> String {
    refusal(&one(json!({"Condition": condition})))
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let twice = r#"{"Statement": {"Effect": "Deny", "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}"#;
    assert!(Policy::parse(twice).unwrap_err().to_string().contains("\"Effect\" stands here twice"));
}

#[test]
fn an_unknown_element_is_refused_with_the_one_that_was_meant() {
    assert_eq!(
        refusal(&one(json!({"Conditions": {}}))),
        "Statement[0]: the element \"Conditions\" is not known here; did you mean Condition?"
    );
    assert!(refusal(&json!({"Statment": []})).contains("did you mean Statement?"));
    // Case counts in the names of elements.
    assert!(refusal(&one(json!({"effect": "Deny"}))).contains("did you mean Effect?"));
}

#[test]
fn a_policy_of_another_form_is_refused() {
    for text in [
        "[]",
        "\"x\"",
        "null",
        "{}",
        r#"{"Statement": []}"#,
        r#"{"Statement": "x"}"#,
        r#"{"Statement": [[]]}"#,
    ] {
        assert!(Policy::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_unknown_version_is_refused() {
    for version in [json!("2012-10-18"), json!(""), json!(20_121_017), json!(null)] {
        assert!(
            Policy::parse(&json!({"Version": version, "Statement": statement(json!({}))}).to_string())
                .is_err()
        );
    }
}

#[test]
fn an_effect_in_other_words_is_refused() {
    for effect in [json!("allow"), json!("Permit"), json!(true), json!(["Allow"])] {
        assert!(refusal(&one(json!({"Effect": effect}))).starts_with("Statement[0].Effect"));
    }
    assert!(refusal(&one(json!({"Effect": null}))).contains("there is no Effect"));
}

#[test]
fn a_statement_that_lacks_an_element_is_refused() {
    for (name, member) in [("Action", "Action"), ("Resource", "Resource"), ("Principal", "Principal")] {
        assert!(refusal(&one(json!({ member: null }))).contains(&format!("there is no {name}")), "{name}");
    }
}

#[test]
fn an_element_beside_its_negation_is_refused() {
    assert!(refusal(&one(json!({"NotAction": "kms:Encrypt"}))).contains("both Action and NotAction"));
    assert!(refusal(&one(json!({"NotResource": "*"}))).contains("both Resource and NotResource"));
}

#[test]
fn not_principal_is_refused_with_what_says_the_same() {
    assert!(refusal(&one(json!({"NotPrincipal": "*"}))).contains("StringNotEquals on aws:PrincipalArn"));
}

#[test]
fn principals_that_sign_nothing_here_are_refused() {
    for kind in ["Service", "Federated", "CanonicalUser"] {
        assert!(refusal(&one(json!({"Principal": {kind: "x"}}))).contains(kind));
    }
    for principal in [
        json!({}),
        json!([]),
        json!("arn:aws:iam::123456789012:root"),
        json!({"AWS": []}),
        json!({"aws": "*"}),
    ] {
        assert!(Policy::parse(&one(json!({"Principal": principal})).to_string()).is_err(), "{principal}");
    }
}

#[test]
fn a_callers_policy_with_a_principal_is_refused() {
    let with = one(json!({})).to_string();
    assert!(IdentityPolicy::parse(&with).unwrap_err().to_string().contains("leave it out"));
    assert!(IdentityPolicy::parse(&one(json!({"Principal": null})).to_string()).is_ok());
}

#[test]
fn an_empty_list_is_refused() {
    assert!(refusal(&one(json!({"Action": []}))).contains("empty"));
    assert!(refusal(&one(json!({"Resource": []}))).contains("empty"));
    assert!(condition_refusal(json!({})).contains("empty"));
    assert!(condition_refusal(json!({"StringEquals": {}})).contains("empty"));
    assert!(condition_refusal(json!({"StringEquals": {PCR0: []}})).contains("empty"));
}

#[test]
fn two_statements_of_one_name_are_refused() {
    let same = statement(json!({"Sid": "A"}));
    assert!(refusal(&several(&[same.clone(), same])).contains("Statement[1].Sid"));
}

#[test]
fn a_mistyped_action_is_refused() {
    assert!(
        refusal(&one(json!({"Action": ["kms:Encrypt", "kms:Decypt"]}))).contains("did you mean kms:Decrypt?")
    );
    assert!(
        refusal(&one(json!({"Action": null, "NotAction": "kms:Decypt"})))
            .starts_with("Statement[0].NotAction")
    );
}

#[test]
fn a_resource_that_is_no_key_is_refused() {
    for resource in [
        "",
        "key/*",
        "arn:aws:s3:::bucket",
        "arn:aws:kms:local-1:123456789012:grant/x",
        "arn:aws:kms",
        "**",
        "arn:gcp:kms:local-1:123456789012:key/*",
    ] {
        assert!(refusal(&one(json!({ "Resource": resource }))).contains("is neither"), "{resource}");
    }
}

#[test]
fn a_policy_variable_is_refused_and_not_taken_literally() {
    for version in ["2012-10-17", "2008-10-17"] {
        let resource = json!({"Version": version, "Statement": statement(json!({"Resource": "arn:aws:kms:*:*:key/${aws:username}"}))});
        assert!(refusal(&resource).contains("policy variable"));
        let value = json!({"StringEquals": {"kms:EncryptionContext:user": "${aws:PrincipalArn}"}});
        let condition = json!({"Version": version, "Statement": statement(json!({"Condition": value}))});
        assert!(refusal(&condition).contains("policy variable"));
    }
}

#[test]
fn an_unknown_operator_or_key_is_refused() {
    assert!(
        condition_refusal(json!({"StringEqual": {PCR0: register('a')}}))
            .contains("did you mean StringEquals?")
    );
    assert!(
        condition_refusal(json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})).contains("is not known here")
    );
    assert!(
        condition_refusal(json!({"Bool": {"aws:SecureTransport": "true"}})).contains("is not known here")
    );
    assert!(
        condition_refusal(json!({"StringEquals": {"kms:RecipientAttestation:PCR32": register('a')}}))
            .contains("names no register")
    );
}

#[test]
fn a_value_that_no_register_can_have_is_refused() {
    for value in [
        register('a')[..95].to_owned(),
        register('a') + "a",
        register('g'),
        String::new(),
        "a".repeat(64),
        " ".to_owned() + &register('a')[..95],
    ] {
        for operator in ["StringEquals", "StringNotEqualsIgnoreCase", "StringLike"] {
            assert!(
                condition_refusal(json!({operator: {IMAGE: value}})).contains("96 hexadecimal digits"),
                "{operator} {value}"
            );
        }
    }
}

#[test]
fn a_pattern_that_no_register_can_match_is_refused() {
    for pattern in [
        "g*".to_owned(),
        format!("{}*a", register('a')),
        "?".repeat(95),
        "?".repeat(97),
        "sha384:*".to_owned(),
    ] {
        assert!(
            condition_refusal(json!({"StringLike": {PCR0: pattern}})).contains("96 hexadecimal digits"),
            "{pattern}"
        );
    }
    for pattern in ["*".to_owned(), register('a') + "*", "?".repeat(96), "ab*cd".to_owned()] {
        assert!(
            Policy::parse(&one(json!({"Condition": {"StringLike": {PCR0: pattern}}})).to_string()).is_ok(),
            "{pattern}"
        );
    }
}

#[test]
fn an_operator_that_does_not_fit_its_key_is_refused() {
    assert!(
        condition_refusal(json!({"Bool": {PCR0: "true"}}))
            .contains("does not fit this key; the String operators do")
    );
    assert!(condition_refusal(json!({"DateEquals": {PCR0: "2026-11-22"}})).contains("does not fit"));
    assert!(
        condition_refusal(json!({"StringEquals": {"aws:CurrentTime": "2026-11-22"}}))
            .contains("the Date operators do")
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    assert!(
        condition_refusal(json!({"StringEquals": {"kms:EncryptionContext:a": 1}}))
            .contains("here is a number")
    );
    assert!(
        condition_refusal(json!({"StringEquals": {"kms:EncryptionContext:a": true}}))
            .contains("here is true or false")
    );
    assert!(condition_refusal(json!({"Null": {PCR0: "yes"}})).contains("\"true\" or \"false\""));
    assert!(condition_refusal(json!({"Null": {PCR0: ["true", "false"]}})).contains("one value"));
    assert!(condition_refusal(json!({"DateEquals": {"aws:CurrentTime": 1.5}})).contains("times"));
}

#[test]
fn a_time_that_says_too_little_is_refused() {
    for time in [
        "",
        "2026",
        "yesterday",
        "2026-11-22T12:00:00",
        "2026-11-22 12:00",
        "2026-13-01",
        "2026-02-30",
        "12:00",
        "99999999999999",
    ] {
        assert!(
            condition_refusal(json!({"DateLessThan": {"aws:CurrentTime": time}})).contains("is no time"),
            "{time}"
        );
    }
}

#[test]
fn set_operators_are_refused_on_a_key_with_one_value_and_required_on_the_one_with_several() {
    assert!(
        condition_refusal(json!({"ForAnyValue:StringEquals": {"kms:EncryptionContext:a": "b"}}))
            .contains("this key has one value")
    );
    assert!(
        condition_refusal(json!({"StringEquals": {"kms:EncryptionContextKeys": "a"}}))
            .contains("write ForAnyValue:StringEquals")
    );
}

#[test]
fn one_key_in_two_spellings_is_refused() {
    let twice =
        json!({"StringEquals": {PCR0: register('a'), "KMS:recipientattestation:pcr0": register('b')}});
    assert!(condition_refusal(twice).contains("upper and lower case are one"));
}

#[test]
fn what_a_refusal_repeats_cannot_forge_a_line_of_a_log() {
    let refused = refusal(&one(json!({"Action": "kms:\nallowed: everything\u{1b}[2J"})));
    assert!(!refused.contains(['\n', '\u{1b}']), "{refused:?}");
    let long = refusal(&one(json!({"Action": "x".repeat(10_000)})));
    assert!(long.len() < 500, "{}", long.len());
}
