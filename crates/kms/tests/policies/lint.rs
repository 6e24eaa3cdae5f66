//! Each finding, and the policy that looks like it but is right.

use kms::policy::lint::{Severity, lint, lint_identity};
use serde_json::{Value, json};

use crate::support::{ADMIN, APP, IMAGE, PCR8, identity_policy, policy, register, several, statement};

const PCR1: &str = "kms:RecipientAttestation:PCR1";
const PCR2: &str = "kms:RecipientAttestation:PCR2";

fn admin() -> Value {
    statement(
        json!({"Sid": "Admin", "Principal": {"AWS": ADMIN}, "Action": ["kms:PutKeyPolicy", "kms:Encrypt"]}),
    )
}

fn app(changes: Value) -> Value {
    let mut members = json!({"Principal": {"AWS": APP}});
    members.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    statement(members)
}

/// An attested Allow with this condition beside the context's.
fn attested(condition: Value) -> Value {
    let mut all = json!({"StringLike": {"kms:EncryptionContext:app": "payroll"}});
    all.as_object_mut().unwrap().extend(condition.as_object().unwrap().clone());
    app(json!({"Condition": all}))
}

fn right() -> Value {
    attested(json!({"StringEqualsIgnoreCase": {IMAGE: register('a')}}))
}

/// Findings as (severity, statement, beginning or part of the text).
fn findings(statements: &[Value]) -> Vec<(Severity, Option<usize>, String)> {
    lint(&policy(&several(statements)))
        .into_iter()
        .map(|one| (one.severity, one.statement, one.what))
        .collect()
}

#[track_caller]
fn finds(statements: &[Value], severity: Severity, statement: Option<usize>, part: &str) {
    let found = findings(statements);
    assert!(
        found.iter().any(|(one, index, what)| *one == severity && *index == statement && what.contains(part)),
        "{found:#?}"
    );
}

#[track_caller]
fn finds_nothing(statements: &[Value]) {
    assert_eq!(findings(statements), []);
}

#[test]
fn a_right_policy_has_no_findings() {
    finds_nothing(&[admin(), right()]);
}

#[test]
fn an_open_allow_beside_an_attested_one_is_found() {
    let open = app(json!({"Action": ["kms:Decrypt", "kms:Encrypt"]}));
    finds(
        &[admin(), right(), open.clone()],
        Severity::Error,
        Some(2),
        "allows kms:Decrypt without a document, beside Statement[1]",
    );
    let everyone = statement(json!({"Condition": {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}}}));
    finds(&[admin(), right(), everyone], Severity::Error, Some(2), "without a document");
    let session = app(json!({"Principal": {"AWS": "arn:aws:sts::123456789012:assumed-role/App/i-1"}}));
    finds(&[admin(), right(), session], Severity::Error, Some(2), "without a document");
}

#[test]
fn an_open_allow_of_something_else_or_to_others_is_not() {
    finds_nothing(&[admin(), right(), app(json!({"Action": "kms:Encrypt"}))]);
    finds_nothing(&[admin(), right(), app(json!({"Principal": {"AWS": ADMIN}}))]);
}

#[test]
fn an_open_allow_behind_a_deny_of_every_other_image_is_not() {
    let deny = statement(
        json!({"Effect": "Deny", "Condition": {"StringNotEqualsIgnoreCase": {IMAGE: register('a')}}}),
    );
    let open = app(json!({}));
    finds_nothing(&[admin(), right(), open.clone(), deny.clone()]);
    // One that asks for more leaves requests over.
    let narrower = statement(json!({"Effect": "Deny", "Condition": {
        "StringNotEqualsIgnoreCase": {IMAGE: register('a')}, "StringEquals": {"kms:EncryptionContext:a": "b"}}}));
    finds(&[admin(), right(), open.clone(), narrower], Severity::Error, Some(2), "without a document");
    let others = statement(
        json!({"Effect": "Deny", "Principal": {"AWS": ADMIN}, "Condition": {"Null": {IMAGE: "true"}}}),
    );
    finds(&[admin(), right(), open, others], Severity::Error, Some(2), "without a document");
}

#[test]
fn an_account_that_may_do_everything_beside_an_attested_allow_is_found() {
    let root = statement(json!({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*"}));
    finds(&[root, right()], Severity::Warning, Some(0), "to the account's identity policies");
}

#[test]
fn moving_a_ciphertext_to_another_key_is_found() {
    finds(
        &[admin(), right(), app(json!({"Action": "kms:ReEncrypt*"}))],
        Severity::Warning,
        Some(2),
        "kms:ReEncryptFrom without a document",
    );
    finds_nothing(&[admin(), right(), app(json!({"Action": "kms:ReEncryptTo"}))]);
}

#[test]
fn zeros_in_a_measured_register_are_found() {
    for key in [IMAGE, PCR1, PCR2] {
        let zeros = attested(json!({"StringEqualsIgnoreCase": {key: [register('a'), register('0')]}}));
        finds(&[admin(), zeros], Severity::Error, Some(1), "all zeros is the value of every debug enclave");
    }
    let unsigned = attested(json!({"StringEquals": {PCR8: register('0')}}));
    finds(&[admin(), unsigned], Severity::Warning, Some(1), "that nobody signed");
}

#[test]
fn zeros_in_a_deny_or_in_a_register_of_the_applications_own_are_not() {
    let debug = statement(json!({"Effect": "Deny", "Condition": {"StringEquals": {IMAGE: register('0')}}}));
    finds_nothing(&[admin(), right(), debug]);
    let own =
        json!({"StringEquals": {IMAGE: register('a'), "kms:RecipientAttestation:PCR16": register('0')}});
    finds_nothing(&[admin(), attested(own)]);
}

#[test]
fn an_allow_that_a_caller_without_a_document_passes_is_found() {
    for condition in [
        json!({"StringEqualsIfExists": {IMAGE: register('a')}}),
        json!({"StringNotEquals": {IMAGE: register('a')}}),
        json!({"StringNotEqualsIgnoreCase": {IMAGE: register('a')}}),
        json!({"StringNotLike": {IMAGE: "a*"}}),
        json!({"Null": {IMAGE: "true"}}),
    ] {
        finds(
            &[admin(), attested(condition)],
            Severity::Error,
            Some(1),
            "a caller without any document passes",
        );
    }
}

#[test]
fn the_same_in_a_deny_is_right() {
    let deny = statement(
        json!({"Effect": "Deny", "Condition": {"StringNotEqualsIfExists": {IMAGE: register('a')}}}),
    );
    finds_nothing(&[admin(), right(), deny]);
}

#[test]
fn a_document_of_any_enclave_is_found() {
    finds(
        &[admin(), attested(json!({"Null": {IMAGE: "false"}}))],
        Severity::Warning,
        Some(1),
        "every enclave passes",
    );
}

#[test]
fn a_wildcard_in_a_register_is_found() {
    finds(
        &[
            admin(),
            attested(json!({"StringLike": {IMAGE: "ab*"}, "StringEquals": {"kms:EncryptionContext:a": "b"}})),
        ],
        Severity::Warning,
        Some(1),
        "a wildcard",
    );
}

#[test]
fn an_upper_case_digit_that_never_matches_is_found() {
    for operator in ["StringEquals", "StringLike"] {
        let condition = json!({operator: {IMAGE: register('A'), "kms:EncryptionContext:a": "B"}});
        finds(&[admin(), attested(condition)], Severity::Error, Some(1), "never matches");
    }
    finds_nothing(&[admin(), attested(json!({"StringEqualsIgnoreCase": {IMAGE: register('A')}}))]);
}

#[test]
fn a_part_of_the_image_alone_is_found() {
    for key in [PCR1, PCR2, "kms:RecipientAttestation:PCR3", "kms:RecipientAttestation:PCR4"] {
        finds(
            &[admin(), attested(json!({"StringEquals": {key: register('a')}}))],
            Severity::Warning,
            Some(1),
            "without PCR0",
        );
    }
    finds_nothing(&[admin(), attested(json!({"StringEquals": {PCR1: register('a'), PCR2: register('b')}}))]);
}

#[test]
fn a_signer_alone_is_noted() {
    finds(
        &[admin(), attested(json!({"StringEquals": {PCR8: register('c')}}))],
        Severity::Note,
        Some(1),
        "old versions too",
    );
}

#[test]
fn decrypt_without_an_encryption_context_is_noted() {
    let unbound = app(json!({"Condition": {"StringEquals": {IMAGE: register('a')}}}));
    finds(&[admin(), unbound], Severity::Note, Some(1), "not bound to an encryption context");
}

#[test]
fn a_set_that_holds_for_nothing_is_found() {
    let keys = |more: Value| {
        let mut condition = json!({"StringEquals": {IMAGE: register('a')}, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": "app"}});
        condition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app(json!({"Condition": condition}))
    };
    finds(&[admin(), keys(json!({}))], Severity::Warning, Some(1), "no value at all");
    finds_nothing(&[admin(), keys(json!({"Null": {"kms:EncryptionContextKeys": "false"}}))]);
}

#[test]
fn a_condition_that_its_action_cannot_meet_is_found() {
    let encrypt = app(json!({"Action": ["kms:Decrypt", "kms:Encrypt"], "Condition": {
        "StringEquals": {IMAGE: register('a'), "kms:EncryptionContext:a": "b"}}}));
    finds(&[admin(), encrypt], Severity::Warning, Some(1), "kms:Encrypt: such requests carry no document");
}

#[test]
fn everyone_without_a_condition_is_found() {
    finds(&[admin(), statement(json!({"Action": "kms:Encrypt"}))], Severity::Error, Some(1), "every caller");
    finds(
        &[admin(), statement(json!({"Action": "kms:Encrypt", "Principal": {"AWS": "*"}}))],
        Severity::Error,
        Some(1),
        "every caller",
    );
}

#[test]
fn an_allow_of_everything_else_is_found() {
    finds(
        &[admin(), app(json!({"Action": null, "NotAction": "kms:Decrypt"}))],
        Severity::Warning,
        Some(1),
        "NotAction",
    );
}

#[test]
fn an_alias_in_place_of_a_key_is_found() {
    let alias =
        app(json!({"Action": "kms:Encrypt", "Resource": "arn:aws:kms:local-1:123456789012:alias/app"}));
    finds(&[admin(), alias], Severity::Warning, Some(1), "names an alias");
}

#[test]
fn a_policy_that_nobody_can_change_is_found() {
    finds(&[right()], Severity::Error, None, "nobody may call kms:PutKeyPolicy");
    let deny = statement(
        json!({"Effect": "Deny", "Action": "kms:*", "Condition": {"StringNotEquals": {IMAGE: register('a')}}}),
    );
    finds(&[admin(), right(), deny], Severity::Error, None, "nobody may call kms:PutKeyPolicy");
}

#[test]
fn a_callers_policy_is_judged_by_itself() {
    let statements = [
        json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringEquals": {IMAGE: register('a'), "kms:EncryptionContext:a": "b"}}}),
        json!({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}),
    ];
    let found = lint_identity(&identity_policy(&several(&statements)));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].what.contains("allows kms:Decrypt without a document"));
    // Other keys are other matters.
    let apart = ["1", "2"].map(|id| {
        let mut one = statements[if id == "1" { 0 } else { 1 }].clone();
        one["Resource"] = json!(format!("arn:aws:kms:local-1:123456789012:key/{id}"));
        one
    });
    assert_eq!(lint_identity(&identity_policy(&several(&apart))), []);
}
