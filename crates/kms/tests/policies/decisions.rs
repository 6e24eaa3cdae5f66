//! How statements and policies work together. IAM user guide, "Policy evaluation logic"; KMS developer guide, "Default key policy".

use kms::policy::{Policy, check_lockout, decide, default_key_policy};
use serde_json::json;

use crate::support::{
    ACCOUNT, ADMIN, APP, IMAGE, STRANGER, decrypt, one, policy, register, several, statement,
};

#[test]
fn nothing_that_matches_is_a_denial() {
    assert!(!decrypt().decide_both(None, None).allowed());
    assert!(!decrypt().decide(&one(json!({"Action": "kms:Encrypt"}))).allowed());
    assert!(!decrypt().decide(&one(json!({"Principal": {"AWS": ADMIN}}))).allowed());
    assert!(!decrypt().decide(&one(json!({"Resource": "arn:aws:kms:*:*:key/2*"}))).allowed());
}

#[test]
fn a_deny_wins_wherever_it_stands() {
    let allow = statement(json!({}));
    let deny = statement(json!({"Effect": "Deny", "Action": "kms:*"}));
    assert!(!decrypt().decide(&several(&[allow.clone(), deny.clone()])).allowed());
    assert!(!decrypt().decide(&several(&[deny, allow.clone()])).allowed());
    let denied = one(json!({"Effect": "Deny", "Principal": null}));
    assert!(!decrypt().decide_both(Some(&several(&[allow])), Some(&denied)).allowed());
}

#[test]
fn a_deny_for_the_account_is_for_each_of_its_callers() {
    let deny = statement(json!({"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}));
    assert!(!decrypt().decide(&several(&[statement(json!({})), deny])).allowed());
}

#[test]
fn an_account_leaves_it_to_the_callers_policy() {
    let key: serde_json::Value = serde_json::from_str(&default_key_policy(ACCOUNT)).unwrap();
    let grants = one(json!({"Principal": null}));
    let others = one(json!({"Principal": null, "Action": "kms:Encrypt"}));
    assert!(!decrypt().decide_both(Some(&key), None).allowed());
    assert!(!decrypt().decide_both(Some(&key), Some(&others)).allowed());
    assert!(decrypt().decide_both(Some(&key), Some(&grants)).allowed());
    assert!(decrypt().by("arn:aws:iam::123456789012:root").decide_both(Some(&key), None).allowed());
}

#[test]
fn a_callers_policy_alone_opens_no_key() {
    let key = one(json!({"Principal": {"AWS": ADMIN}}));
    assert!(!decrypt().decide_both(Some(&key), Some(&one(json!({"Principal": null})))).allowed());
}

#[test]
fn a_condition_of_the_account_s_statement_counts() {
    let root = json!({"AWS": "123456789012"});
    let key = one(json!({"Principal": root, "Condition": {"StringEquals": {IMAGE: register('a')}}}));
    let identity = one(json!({"Principal": null}));
    assert!(!decrypt().decide_both(Some(&key), Some(&identity)).allowed());
    assert!(decrypt().pcr(0, 'a').decide_both(Some(&key), Some(&identity)).allowed());
}

#[test]
fn a_caller_of_another_account_needs_both_policies() {
    let key = one(json!({"Principal": {"AWS": STRANGER}}));
    let identity = one(json!({"Principal": null}));
    let stranger = decrypt().by(STRANGER);
    assert!(!stranger.decide_both(Some(&key), None).allowed());
    assert!(
        !stranger.decide_both(Some(&one(json!({"Principal": {"AWS": ADMIN}}))), Some(&identity)).allowed()
    );
    assert!(stranger.decide_both(Some(&key), Some(&identity)).allowed());
}

#[test]
fn an_operation_without_a_key_is_decided_by_the_callers_policy_alone() {
    let mut asked = decrypt().action("kms:GenerateRandom");
    asked.resource = "*";
    assert!(!asked.decide_both(None, None).allowed());
    let grants = one(json!({"Principal": null, "Action": "kms:GenerateRandom"}));
    assert!(asked.decide_both(None, Some(&grants)).allowed());
    // A policy for one key's ARN is not about them.
    let keyed = one(json!({"Principal": null, "Action": "kms:*", "Resource": "arn:aws:kms:*:*:key/*"}));
    assert!(!asked.decide_both(None, Some(&keyed)).allowed());
}

#[test]
fn not_action_is_everything_else() {
    let all_but = one(json!({"Action": null, "NotAction": ["kms:Encrypt", "kms:Put*"]}));
    assert!(decrypt().decide(&all_but).allowed());
    assert!(!decrypt().action("kms:PutKeyPolicy").decide(&all_but).allowed());
}

#[test]
fn a_caller_without_an_arn_is_denied() {
    assert!(!decrypt().by("root").decide(&one(json!({}))).allowed());
}

#[test]
fn the_default_policy_is_as_on_aws() {
    let default: serde_json::Value = serde_json::from_str(&default_key_policy(ACCOUNT)).unwrap();
    // KMS developer guide, "Default key policy".
    let expected = json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    assert_eq!(default, expected);
    assert!(Policy::parse(&default.to_string()).is_ok());
}

#[test]
fn a_policy_that_locks_its_author_out_is_told() {
    let locked_out = |json: &serde_json::Value| {
        decrypt()
            .by(ADMIN)
            .action("kms:CreateKey")
            .with(|request| check_lockout(&policy(json), request).is_err())
    };
    assert!(locked_out(&one(json!({}))), "only Decrypt is allowed");
    assert!(
        locked_out(&one(json!({"Principal": {"AWS": APP}, "Action": "kms:*"}))),
        "another caller is allowed"
    );
    let allow = statement(json!({"Principal": {"AWS": ADMIN}, "Action": "kms:*"}));
    let deny = |condition| statement(json!({"Effect": "Deny", "Action": "kms:*", "Condition": condition}));
    assert!(!locked_out(&several(&[allow.clone()])));
    // What denies requests without the right document denies PutKeyPolicy, which has none.
    let other_images = json!({"StringNotEquals": {IMAGE: register('a')}});
    assert!(locked_out(&several(&[allow.clone(), deny(other_images)])));
    let debug = json!({"StringEquals": {IMAGE: register('0')}});
    assert!(!locked_out(&several(&[allow, deny(debug)])));
    let default = serde_json::from_str(&default_key_policy(ACCOUNT)).unwrap();
    assert!(!locked_out(&default), "the account may");
}

#[test]
fn a_lockout_is_judged_without_the_document_of_the_request() {
    let attested = one(json!({"Action": "kms:*", "Condition": {"StringEquals": {IMAGE: register('a')}}}));
    let asked = decrypt().pcr(0, 'a');
    assert!(asked.with(|request| check_lockout(&policy(&attested), request)).is_err());
    assert!(asked.with(|request| decide(Some(&policy(&attested)), None, request)).allowed());
}
