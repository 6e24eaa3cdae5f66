//! Who may do what, what a denial says, and what the log says of it.

use kms::error::ErrorKind;
use serde_json::{Value, json};

use crate::world::{ACCOUNT, NO_KEY, World, base64, key_arn, text};

/// Gives the app these permissions under this condition, if there is one, and nobody anything else.
fn app_policy(actions: &Value, condition: Option<&Value>) -> Value {
    let mut statement = json!({"Sid": "TheApp", "Effect": "Allow", "Action": actions, "Resource": "*",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/app")}});
    if let Some(condition) = condition {
        statement["Condition"] = condition.clone();
    }
    json!({"Version": "2012-10-17", "Statement": [statement]})
}

#[test]
fn every_operation_needs_its_permission() {
    let world = World::new();
    let key = world.key();
    let agreement = world.new_key(&json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}));
    let public = world.ok("GetPublicKey", &json!({"KeyId": agreement}))["PublicKey"].clone();
    let blob = world.encrypted(&key, b"secret");
    world.ok("CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": key}));
    let policy = text(&world.ok("GetKeyPolicy", &json!({"KeyId": key}))["Policy"]).to_owned();
    let requests = [
        ("CancelKeyDeletion", json!({"KeyId": key})),
        ("CreateAlias", json!({"AliasName": "alias/b", "TargetKeyId": key})),
        ("CreateKey", json!({})),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        ("DeleteAlias", json!({"AliasName": "alias/a"})),
        (
            "DeriveSharedSecret",
            json!({"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public}),
        ),
        ("DescribeKey", json!({"KeyId": key})),
        ("DisableKey", json!({"KeyId": key})),
        ("EnableKey", json!({"KeyId": key})),
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})),
        ("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyPair", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("GenerateDataKeyPairWithoutPlaintext", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateRandom", json!({"NumberOfBytes": 1})),
        ("GetKeyPolicy", json!({"KeyId": key})),
        ("GetPublicKey", json!({"KeyId": agreement})),
        ("ListAliases", json!({})),
        ("ListKeyPolicies", json!({"KeyId": key})),
        ("ListKeys", json!({})),
        ("PutKeyPolicy", json!({"KeyId": key, "Policy": policy})),
        ("ReEncrypt", json!({"CiphertextBlob": blob, "DestinationKeyId": key})),
        ("ScheduleKeyDeletion", json!({"KeyId": key})),
        ("UpdateAlias", json!({"AliasName": "alias/a", "TargetKeyId": key})),
        ("UpdateKeyDescription", json!({"KeyId": key, "Description": "d"})),
    ];
    let before = world.ok("DescribeKey", &json!({"KeyId": key}));
    for (operation, request) in &requests {
        let refusal = world.call_as(&world.app, operation, request).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::AccessDenied, "{operation}");
        let logged = world.last_logged();
        assert_eq!(logged["allowed"], false, "{operation}");
        assert_eq!(logged["principal"], world.app.arn.as_str(), "{operation}");
    }
    assert_eq!(world.ok("DescribeKey", &json!({"KeyId": key})), before);
    assert_eq!(world.ok("ListKeys", &json!({}))["Keys"].as_array().unwrap().len(), 2);
}

#[test]
fn the_caller_learns_that_it_was_denied_and_not_why() {
    let world = World::new();
    let condition = json!({"StringEquals": {"kms:EncryptionContext:tenant": "expected-tenant"}});
    let key = world.key_with_policy(&app_policy(&json!("kms:Encrypt"), Some(&condition)));
    let request =
        json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": {"tenant": "presented-tenant"}});
    let refusal = world.call_as(&world.app, "Encrypt", &request).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::AccessDenied);
    let expected = format!(
        "User: arn:aws:iam::{ACCOUNT}:user/app is not authorized to perform: kms:Encrypt on resource: {}",
        key_arn(&key)
    );
    assert_eq!(refusal.message(), expected);
}

#[test]
fn the_log_says_which_statement_and_condition_denied_with_both_values() {
    let world = World::new();
    let condition = json!({"StringEquals": {"kms:EncryptionContext:tenant": "expected-tenant"}});
    let key = world.key_with_policy(&app_policy(&json!("kms:Encrypt"), Some(&condition)));
    let request =
        json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": {"tenant": "presented-tenant"}});
    assert!(world.call_as(&world.app, "Encrypt", &request).is_err());
    let logged = world.last_logged();
    assert_eq!(logged["operation"], "kms:Encrypt");
    assert_eq!(logged["key"], key_arn(&key));
    assert_eq!(logged["requestId"], "request-1");
    assert_eq!(logged["source"], "test");
    let reason = text(&logged["reason"]);
    for part in ["TheApp", "kms:EncryptionContext:tenant", "expected-tenant", "presented-tenant"] {
        assert!(reason.contains(part), "{part} is not in {reason}");
    }
}

#[test]
fn what_is_allowed_is_in_the_log_too() {
    let world = World::new();
    let key = world.key();
    world.encrypted(&key, b"secret");
    let logged = world.last_logged();
    assert_eq!(logged["allowed"], true);
    assert_eq!(logged["operation"], "kms:Encrypt");
    assert_eq!(logged["key"], key_arn(&key));
}

#[test]
fn the_log_holds_no_plaintext() {
    let world = World::new();
    let key = world.key();
    let secret = b"a secret that is long enough to be found";
    let blob = world.encrypted(&key, secret);
    world.ok("Decrypt", &json!({"CiphertextBlob": blob}));
    let log = format!("{:?}", world.log());
    assert!(!log.contains("a secret that is") && !log.contains(&base64(secret)));
}

#[test]
fn an_encryption_context_decides_where_a_policy_asks_for_it() {
    let world = World::new();
    let condition = json!({"StringEquals": {"kms:EncryptionContext:tenant": "a"}});
    let key = world.key_with_policy(&app_policy(&json!(["kms:Encrypt", "kms:Decrypt"]), Some(&condition)));
    let encrypt = |context: Value| {
        world.call_as(
            &world.app,
            "Encrypt",
            &json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": context}),
        )
    };
    let blob = encrypt(json!({"tenant": "a"})).unwrap()["CiphertextBlob"].clone();
    assert_eq!(encrypt(json!({"tenant": "b"})).unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(encrypt(json!({})).unwrap_err().kind(), ErrorKind::AccessDenied);
    let decrypt = json!({"CiphertextBlob": blob, "EncryptionContext": {"tenant": "a"}});
    world.call_as(&world.app, "Decrypt", &decrypt).unwrap();
}

#[test]
fn a_ciphertext_alone_does_not_tell_whether_its_key_exists() {
    let world = World::new();
    let blob = world.encrypted(&world.key(), b"secret");
    let mut unknown = crate::world::bytes(&json!(blob));
    unknown[4] ^= 1;
    let ask =
        |blob: &str| world.call_as(&world.app, "Decrypt", &json!({"CiphertextBlob": blob})).unwrap_err();
    let of_a_key = ask(&blob);
    assert_eq!(world.last_logged()["allowed"], false);
    let of_no_key = ask(&base64(&unknown));
    assert_eq!(world.last_logged()["allowed"], false);
    assert_eq!(of_a_key, of_no_key);
    assert_eq!(of_a_key.kind(), ErrorKind::AccessDenied);
}

#[test]
fn a_key_that_is_named_and_does_not_exist_is_not_found_as_on_aws() {
    let world = World::new();
    let refusal = world.call_as(&world.app, "DescribeKey", &json!({"KeyId": NO_KEY})).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotFound);
}

#[test]
fn re_encrypting_needs_both_permissions() {
    let world = World::new();
    let from_only = world.key_with_policy(&app_policy(&json!(["kms:Encrypt", "kms:ReEncryptFrom"]), None));
    let to_only = world.key_with_policy(&app_policy(&json!(["kms:Encrypt", "kms:ReEncryptTo"]), None));
    let blob = |key: &str| {
        let request = json!({"KeyId": key, "Plaintext": "AAAA"});
        world.call_as(&world.app, "Encrypt", &request).unwrap()["CiphertextBlob"].clone()
    };
    let move_to = |blob: Value, key: &str| {
        world.call_as(&world.app, "ReEncrypt", &json!({"CiphertextBlob": blob, "DestinationKeyId": key}))
    };
    move_to(blob(&from_only), &to_only).unwrap();
    assert_eq!(move_to(blob(&from_only), &from_only).unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(move_to(blob(&to_only), &to_only).unwrap_err().kind(), ErrorKind::AccessDenied);
}

#[test]
fn the_alias_by_which_a_key_is_named_can_decide() {
    let world = World::new();
    let condition = json!({"StringEquals": {"kms:RequestAlias": "alias/a"}});
    let mut policy = app_policy(&json!("kms:Encrypt"), Some(&condition));
    let naming = json!({"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": "*",
        "Principal": {"AWS": world.admin.arn}});
    policy["Statement"].as_array_mut().unwrap().push(naming);
    let key = world.key_with_policy(&policy);
    for alias in ["alias/a", "alias/b"] {
        world.ok("CreateAlias", &json!({"AliasName": alias, "TargetKeyId": key}));
    }
    let encrypt =
        |name: &str| world.call_as(&world.app, "Encrypt", &json!({"KeyId": name, "Plaintext": "AAAA"}));
    encrypt("alias/a").unwrap();
    for other in ["alias/b", &key] {
        assert_eq!(encrypt(other).unwrap_err().kind(), ErrorKind::AccessDenied, "{other}");
    }
}

#[test]
fn a_service_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<kms::operations::Service>();
}
