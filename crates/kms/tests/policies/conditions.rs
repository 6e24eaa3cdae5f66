//! What each operator does. IAM user guide, "IAM JSON policy elements: Condition operators", "Multivalued context keys"; KMS
//! developer guide, "AWS KMS condition keys", "AWS KMS condition keys for attested platforms".

use serde_json::{Value, json};

use crate::support::{APP, IMAGE, NOON, PCR0, PCR8, at, decrypt, one, register, several, statement};

#[test]
fn a_request_without_a_document_fails_every_positive_condition_on_it() {
    for operator in ["StringEquals", "StringEqualsIgnoreCase", "StringLike"] {
        for key in [IMAGE, PCR0, PCR8] {
            assert!(!decrypt().passes(json!({operator: {key: register('a')}})), "{operator} {key}");
        }
    }
    assert!(!decrypt().passes(json!({"StringLike": {PCR0: "*"}})));
    assert!(!decrypt().passes(json!({"Null": {PCR0: "false"}})));
}

#[test]
fn another_images_register_fails() {
    let other = decrypt().pcr(0, 'b');
    for operator in ["StringEquals", "StringEqualsIgnoreCase", "StringLike"] {
        assert!(!other.passes(json!({operator: {IMAGE: register('a')}})), "{operator}");
        assert!(!other.passes(json!({operator: {PCR0: [register('a'), register('c')]}})), "{operator}");
    }
}

#[test]
fn a_debug_enclaves_zeros_fail_unless_they_are_asked_for() {
    let debug = decrypt().pcr(0, '0');
    assert!(!debug.passes(json!({"StringEquals": {IMAGE: register('a')}})));
    assert!(debug.passes(json!({"StringEquals": {IMAGE: register('0')}})));
}

#[test]
fn a_register_that_the_document_lacks_fails() {
    assert!(!decrypt().pcr(0, 'a').passes(json!({"StringEquals": {PCR8: register('a')}})));
}

#[test]
fn one_condition_that_fails_fails_the_statement() {
    let right_image = decrypt().pcr(0, 'a').pcr(8, 'c');
    let both = |signer: char| json!({"StringEquals": {IMAGE: register('a')}, "StringLike": {PCR8: register(signer)}});
    assert!(right_image.passes(both('c')));
    assert!(!right_image.passes(both('d')));
}

#[test]
fn image_and_register_zero_are_one() {
    let enclave = decrypt().pcr(0, 'a');
    for key in [IMAGE, PCR0, "KMS:recipientattestation:IMAGESHA384", "kms:recipientAttestation:pcr0"] {
        assert!(enclave.passes(json!({"StringEquals": {key: register('a')}})), "{key}");
    }
}

#[test]
fn upper_case_digits_match_only_when_case_is_ignored() {
    let enclave = decrypt().pcr(0, 'a');
    assert!(!enclave.passes(json!({"StringEquals": {PCR0: register('A')}})));
    assert!(!enclave.passes(json!({"StringLike": {PCR0: "A*"}})));
    assert!(enclave.passes(json!({"StringEqualsIgnoreCase": {PCR0: register('A')}})));
}

#[test]
fn a_negated_operator_and_if_exists_hold_for_a_missing_key() {
    for operator in [
        "StringNotEquals",
        "StringNotEqualsIgnoreCase",
        "StringNotLike",
        "StringEqualsIfExists",
        "StringLikeIfExists",
        "StringNotEqualsIfExists",
    ] {
        assert!(decrypt().passes(json!({operator: {PCR0: register('a')}})), "{operator}");
    }
    assert!(decrypt().passes(json!({"Null": {PCR0: "true"}})));
    assert!(decrypt().passes(json!({"Null": {PCR0: true}})));
}

#[test]
fn a_negated_operator_fails_for_any_of_its_values() {
    let condition = json!({"StringNotEquals": {PCR0: [register('a'), register('b')]}});
    assert!(!decrypt().pcr(0, 'a').passes(condition.clone()));
    assert!(!decrypt().pcr(0, 'b').passes(condition.clone()));
    assert!(decrypt().pcr(0, 'c').passes(condition));
}

#[test]
fn if_exists_fails_for_another_value() {
    assert!(!decrypt().pcr(0, 'b').passes(json!({"StringEqualsIfExists": {PCR0: register('a')}})));
    assert!(!decrypt().pcr(0, 'a').passes(json!({"StringNotEqualsIfExists": {PCR0: register('a')}})));
}

#[test]
fn null_asks_whether_the_key_is_there() {
    assert!(!decrypt().pcr(0, 'a').passes(json!({"Null": {PCR0: "true"}})));
    assert!(decrypt().pcr(0, 'a').passes(json!({"Null": {PCR0: "false"}})));
    // A document that has other registers.
    assert!(decrypt().pcr(0, 'a').passes(json!({"Null": {PCR8: "true"}})));
}

#[test]
fn an_encryption_context_is_compared_by_value_and_its_key_in_any_case() {
    let payroll = decrypt().context("App", "payroll");
    assert!(payroll.passes(json!({"StringEquals": {"kms:EncryptionContext:App": "payroll"}})));
    assert!(payroll.passes(json!({"StringEquals": {"kms:EncryptionContext:aPP": "payroll"}})));
    assert!(!payroll.passes(json!({"StringEquals": {"kms:EncryptionContext:App": "Payroll"}})));
    assert!(payroll.passes(json!({"StringEqualsIgnoreCase": {"kms:EncryptionContext:App": "PAYROLL"}})));
    assert!(!payroll.passes(json!({"StringEquals": {"kms:EncryptionContext:Ap": "payroll"}})));
    assert!(!decrypt().passes(json!({"StringEquals": {"kms:EncryptionContext:App": "payroll"}})));
}

#[test]
fn two_context_keys_that_differ_in_case_cannot_get_past_an_allow_or_a_deny() {
    let both = decrypt().context("app", "payroll").context("APP", "other");
    let payroll = json!({"StringEquals": {"kms:EncryptionContext:app": "payroll"}});
    assert!(!both.passes(payroll.clone()), "an Allow took the value that it liked");
    let denied = several(&[statement(json!({})), statement(json!({"Effect": "Deny", "Condition": payroll}))]);
    assert!(!both.decide(&denied).allowed(), "a Deny missed the value that it names");
    let not_payroll = json!({"StringNotEquals": {"kms:EncryptionContext:app": "payroll"}});
    assert!(!both.passes(not_payroll.clone()));
    let denied =
        several(&[statement(json!({})), statement(json!({"Effect": "Deny", "Condition": not_payroll}))]);
    assert!(!both.decide(&denied).allowed());
}

#[test]
fn sets_of_context_keys_are_compared_one_by_one() {
    let keys = |operator: &str| json!({operator: {"kms:EncryptionContextKeys": ["app", "tenant"]}});
    let (one, two, more) = (
        decrypt().context("app", ""),
        decrypt().context("app", "").context("tenant", ""),
        decrypt().context("app", "").context("x", ""),
    );
    for (operator, expected) in [
        // none, one, two, one of them another
        ("ForAllValues:StringEquals", [true, true, true, false]),
        ("ForAnyValue:StringEquals", [false, true, true, true]),
        ("ForAllValues:StringNotEquals", [true, false, false, false]),
        ("ForAnyValue:StringNotEquals", [false, false, false, true]),
    ] {
        let results = [&decrypt(), &one, &two, &more].map(|asked| asked.passes(keys(operator)));
        assert_eq!(results, expected, "{operator}");
    }
    // Its names are compared with their case.
    assert!(!decrypt().context("APP", "").passes(keys("ForAnyValue:StringEquals")));
    assert!(decrypt().context("app", "").passes(json!({"Null": {"kms:EncryptionContextKeys": "false"}})));
}

#[test]
fn dates_are_compared_to_the_second() {
    let noon = "2026-11-22T12:00:00Z";
    for (operator, expected) in [
        // a second before, at, a second after
        ("DateEquals", [false, true, false]),
        ("DateNotEquals", [true, false, true]),
        ("DateLessThan", [true, false, false]),
        ("DateLessThanEquals", [true, true, false]),
        ("DateGreaterThan", [false, false, true]),
        ("DateGreaterThanEquals", [false, true, true]),
    ] {
        let results = [NOON - 1, NOON, NOON + 1].map(|seconds| {
            let mut asked = decrypt();
            asked.time = at(seconds) + std::time::Duration::from_millis(999);
            asked.passes(json!({operator: {"aws:CurrentTime": noon}}))
        });
        assert_eq!(results, expected, "{operator}");
    }
}

#[test]
fn a_time_is_written_in_several_forms() {
    for time in [
        json!("2026-11-22T13:00:00+01:00"),
        json!("2026-11-22T12:00:00.000Z"),
        json!("1795348800"),
        json!(NOON),
    ] {
        assert!(decrypt().passes(json!({"DateEquals": {"aws:CurrentTime": time}})), "{time}");
    }
    // A day is its beginning in UTC.
    assert!(decrypt().passes(json!({"DateGreaterThan": {"aws:CurrentTime": "2026-11-22"}})));
    assert!(decrypt().passes(json!({"DateLessThan": {"aws:EpochTime": "2026-11-23"}})));
}

#[test]
fn a_clock_before_1970_decides_nothing() {
    let mut asked = decrypt();
    asked.time = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1);
    assert!(!asked.decide(&one(json!({}))).allowed());
}

#[test]
fn the_caller_is_known_by_arn_and_account() {
    assert!(decrypt().passes(json!({"StringEquals": {"aws:PrincipalArn": APP}})));
    assert!(
        !decrypt().passes(json!({"StringEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/Ap"}}))
    );
    for key in ["aws:PrincipalAccount", "kms:CallerAccount"] {
        assert!(decrypt().passes(json!({"StringEquals": {key: "123456789012"}})));
        assert!(!decrypt().passes(json!({"StringEquals": {key: "210987654321"}})));
    }
    let session = decrypt().by("arn:aws:sts::123456789012:assumed-role/App/i-1");
    assert!(session.passes(json!({"StringEquals": {"aws:PrincipalArn": APP}})));
}

#[test]
fn the_key_is_known_by_specification_and_alias() {
    assert!(decrypt().passes(json!({"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}})));
    assert!(
        !decrypt().passes(json!({"StringEquals": {"kms:KeyUsage": "ENCRYPT_DECRYPT"}})),
        "the request said nothing of it"
    );
    let mut named = decrypt();
    assert!(!named.passes(json!({"StringEquals": {"kms:RequestAlias": "alias/app"}})));
    named.alias = Some("alias/app");
    assert!(named.passes(json!({"StringEquals": {"kms:RequestAlias": "alias/app"}})));
}

#[test]
fn what_only_aws_has_is_never_present() {
    assert!(!decrypt().passes(json!({"StringLike": {"kms:ViaService": "*"}})));
    assert!(!decrypt().passes(json!({"Bool": {"kms:GrantIsForAWSResource": true}})));
    assert!(!decrypt().passes(json!({"Bool": {"kms:GrantIsForAWSResource": "false"}})));
    assert!(decrypt().passes(json!({"BoolIfExists": {"kms:GrantIsForAWSResource": "false"}})));
}

#[test]
fn the_two_registers_of_an_upgrade_both_pass() {
    let condition: Value = json!({"StringEqualsIgnoreCase": {IMAGE: [register('a'), register('b')]}});
    assert!(decrypt().pcr(0, 'a').passes(condition.clone()));
    assert!(decrypt().pcr(0, 'b').passes(condition.clone()));
    assert!(!decrypt().pcr(0, 'c').passes(condition));
}
