//! Each limit, at its edge and one past it.

use kms::policy::{
    IdentityPolicy, MAX_CONDITIONS, MAX_IDENTITY_POLICY_BYTES, MAX_POLICY_BYTES, MAX_STATEMENTS, MAX_VALUES,
    Policy,
};
use serde_json::{Value, json};

use crate::support::{one, several, statement};

fn refusal(policy: &Value) -> Option<String> {
    Policy::parse(&policy.to_string()).err().map(|error| error.to_string())
}

#[test]
fn a_policy_of_32_kib_is_read_and_one_byte_more_is_refused() {
    let policy = one(json!({})).to_string();
    let padded = |length: usize| format!("{policy}{}", " ".repeat(length - policy.len()));
    assert_eq!(MAX_POLICY_BYTES, 32_768);
    assert!(Policy::parse(&padded(MAX_POLICY_BYTES)).is_ok());
    let refused = Policy::parse(&padded(MAX_POLICY_BYTES + 1)).unwrap_err().to_string();
    assert_eq!(refused, "policy: 32769 bytes; the policy of a key has at most 32768");
}

#[test]
fn a_callers_policy_of_10240_bytes_is_read_and_one_byte_more_is_refused() {
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}]}"#;
    let padded = |length: usize| format!("{policy}{}", " ".repeat(length - policy.len()));
    assert_eq!(MAX_IDENTITY_POLICY_BYTES, 10_240);
    assert!(IdentityPolicy::parse(&padded(MAX_IDENTITY_POLICY_BYTES)).is_ok());
    let refused = IdentityPolicy::parse(&padded(MAX_IDENTITY_POLICY_BYTES + 1)).unwrap_err().to_string();
    assert_eq!(refused, "policy: 10241 bytes; the policy of a caller has at most 10240");
}

#[test]
fn so_many_statements_are_read_and_one_more_is_refused() {
    let many = |count: usize| several(&vec![statement(json!({})); count]);
    assert_eq!(refusal(&many(MAX_STATEMENTS)), None);
    assert!(refusal(&many(MAX_STATEMENTS + 1)).unwrap().contains("more than 128 statements"));
}

#[test]
fn so_many_conditions_are_read_and_one_more_is_refused() {
    let many = |count: usize| {
        let keys: serde_json::Map<_, _> =
            (0..count).map(|number| (format!("kms:EncryptionContext:{number}"), json!("x"))).collect();
        one(json!({"Condition": {"StringEquals": keys}}))
    };
    assert_eq!(refusal(&many(MAX_CONDITIONS)), None);
    assert!(refusal(&many(MAX_CONDITIONS + 1)).unwrap().contains("more than 64 conditions"));
}

#[test]
fn so_many_values_are_read_and_one_more_is_refused() {
    for element in ["Action", "Resource", "Condition", "Principal"] {
        let many = |count: usize| {
            let value = match element {
                "Action" => json!(vec!["kms:*"; count]),
                "Resource" => json!(vec!["*"; count]),
                "Principal" => json!({"AWS": vec!["*"; count]}),
                _ => json!({"StringEquals": {"kms:EncryptionContext:a": vec!["b"; count]}}),
            };
            one(json!({ element: value }))
        };
        assert_eq!(refusal(&many(MAX_VALUES)), None, "{element}");
        assert!(refusal(&many(MAX_VALUES + 1)).unwrap().contains("more than 256 values"), "{element}");
    }
}
