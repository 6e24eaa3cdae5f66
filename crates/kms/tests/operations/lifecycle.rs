//! Keys that are disabled, wait for their end, and are gone.

use std::time::{Duration, UNIX_EPOCH};

use kms::error::ErrorKind;
use serde_json::{Value, json};

use crate::world::{NO_KEY, World, bytes, key_arn, now};

const DAY: Duration = Duration::from_secs(86400);

/// Every use of the key's material.
fn uses(key: &str, blob: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        ("ReEncrypt", json!({"CiphertextBlob": blob, "DestinationKeyId": key})),
        ("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyPair", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("GenerateDataKeyPairWithoutPlaintext", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
    ]
}

fn state(world: &World, key: &str) -> Value {
    world.ok("DescribeKey", &json!({"KeyId": key}))["KeyMetadata"]["KeyState"].clone()
}

#[test]
fn a_disabled_key_does_nothing_until_it_is_enabled() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    assert!(world.ok("DisableKey", &json!({"KeyId": key})).is_null());
    assert_eq!(state(&world, &key), "Disabled");
    for (operation, request) in uses(&key, &blob) {
        assert_eq!(world.refusal(operation, &request), ErrorKind::Disabled, "{operation}");
    }
    assert!(world.ok("EnableKey", &json!({"KeyId": key})).is_null());
    for (operation, request) in uses(&key, &blob) {
        world.ok(operation, &request);
    }
}

#[test]
fn a_disabled_key_for_agreement_does_nothing() {
    let world = World::new();
    let key = world.new_key(&json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}));
    let public = world.ok("GetPublicKey", &json!({"KeyId": key}))["PublicKey"].clone();
    world.ok("DisableKey", &json!({"KeyId": key}));
    let derive = json!({"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public});
    assert_eq!(world.refusal("DeriveSharedSecret", &derive), ErrorKind::Disabled);
    assert_eq!(world.refusal("GetPublicKey", &json!({"KeyId": key})), ErrorKind::Disabled);
}

#[test]
fn a_key_that_waits_for_its_end_does_nothing() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    world.ok("ScheduleKeyDeletion", &json!({"KeyId": key}));
    let mut refused = uses(&key, &blob);
    refused.push(("EnableKey", json!({"KeyId": key})));
    refused.push(("DisableKey", json!({"KeyId": key})));
    refused.push(("ScheduleKeyDeletion", json!({"KeyId": key})));
    refused.push(("UpdateKeyDescription", json!({"KeyId": key, "Description": "d"})));
    refused.push(("CreateAlias", json!({"AliasName": "alias/a", "TargetKeyId": key})));
    for (operation, request) in refused {
        assert_eq!(world.refusal(operation, &request), ErrorKind::KmsInvalidState, "{operation}");
    }
}

#[test]
fn the_waiting_period_is_7_to_30_days() {
    let world = World::new();
    for (days, waits) in [(json!(7), 7), (json!(30), 30), (Value::Null, 30)] {
        let key = world.key();
        let answer = world.ok("ScheduleKeyDeletion", &json!({"KeyId": key, "PendingWindowInDays": days}));
        let end = (now() + DAY * waits).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expected = json!({"KeyId": key_arn(&key), "DeletionDate": end, "KeyState": "PendingDeletion",
            "PendingWindowInDays": waits});
        assert_eq!(answer, expected);
        let described = world.ok("DescribeKey", &json!({"KeyId": key}));
        assert_eq!(described["KeyMetadata"]["DeletionDate"], end);
        assert_eq!(described["KeyMetadata"]["Enabled"], false);
    }
    let key = world.key();
    for days in [0, 6, 31] {
        let request = json!({"KeyId": key, "PendingWindowInDays": days});
        assert_eq!(world.refusal("ScheduleKeyDeletion", &request), ErrorKind::Validation, "{days} days");
    }
    assert_eq!(state(&world, &key), "Enabled");
}

#[test]
fn a_deletion_that_is_called_off_leaves_the_key_disabled() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    world.ok("ScheduleKeyDeletion", &json!({"KeyId": key}));
    let answer = world.ok("CancelKeyDeletion", &json!({"KeyId": key}));
    assert_eq!(answer, json!({"KeyId": key_arn(&key)}));
    assert_eq!(state(&world, &key), "Disabled");
    world.ok("EnableKey", &json!({"KeyId": key}));
    assert_eq!(bytes(&world.ok("Decrypt", &json!({"CiphertextBlob": blob}))["Plaintext"]), b"secret");
}

#[test]
fn a_deletion_that_nobody_asked_for_is_not_called_off() {
    let world = World::new();
    let key = world.key();
    assert_eq!(world.refusal("CancelKeyDeletion", &json!({"KeyId": key})), ErrorKind::KmsInvalidState);
}

#[test]
fn when_its_time_has_come_a_key_is_gone_for_whoever_asks_first() {
    let mut world = World::new();
    let (key, other) = (world.key(), world.key());
    let blob = world.encrypted(&key, b"secret");
    world.ok("CreateAlias", &json!({"AliasName": "alias/doomed", "TargetKeyId": key}));
    world.ok("ScheduleKeyDeletion", &json!({"KeyId": key, "PendingWindowInDays": 7}));
    world.later(DAY * 7 - Duration::from_secs(1));
    assert_eq!(state(&world, &key), "PendingDeletion");
    world.later(Duration::from_secs(1));
    assert_eq!(world.refusal("CancelKeyDeletion", &json!({"KeyId": key})), ErrorKind::NotFound);
    assert_eq!(world.refusal("DescribeKey", &json!({"KeyId": key})), ErrorKind::NotFound);
    assert_eq!(world.refusal("DescribeKey", &json!({"KeyId": "alias/doomed"})), ErrorKind::NotFound);
    assert_eq!(world.refusal("Decrypt", &json!({"CiphertextBlob": blob})), ErrorKind::AccessDenied);
    let left = &world.ok("ListKeys", &json!({}))["Keys"];
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["KeyId"], other);
}

#[test]
fn housekeeping_destroys_what_is_due_and_nothing_else() {
    let mut world = World::new();
    let (first, second, third) = (world.key(), world.key(), world.key());
    world.ok("ScheduleKeyDeletion", &json!({"KeyId": first, "PendingWindowInDays": 7}));
    world.ok("ScheduleKeyDeletion", &json!({"KeyId": second, "PendingWindowInDays": 8}));
    world.later(DAY * 7);
    world.service.housekeeping(world.now).unwrap();
    let listed = world.ok("ListKeys", &json!({}))["Keys"].to_string();
    assert!(!listed.contains(&first), "{listed}");
    assert!(listed.contains(&second) && listed.contains(&third), "{listed}");
}

#[test]
fn what_is_done_to_keys_takes_no_alias() {
    let world = World::new();
    let key = world.key();
    world.ok("CreateAlias", &json!({"AliasName": "alias/mine", "TargetKeyId": key}));
    for operation in ["EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"] {
        assert_eq!(
            world.refusal(operation, &json!({"KeyId": "alias/mine"})),
            ErrorKind::NotFound,
            "{operation}"
        );
        assert_eq!(world.refusal(operation, &json!({"KeyId": NO_KEY})), ErrorKind::NotFound, "{operation}");
    }
}
