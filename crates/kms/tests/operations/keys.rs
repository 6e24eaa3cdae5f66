//! CreateKey, DescribeKey, ListKeys, UpdateKeyDescription.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use kms::error::ErrorKind;
use serde_json::json;

use crate::world::{ACCOUNT, NO_KEY, World, key_arn, now, text};

#[test]
fn a_new_key_is_described_as_aws_describes_it() {
    let world = World::new();
    let created = world.ok("CreateKey", &json!({"Description": "for backups"}));
    let metadata = &created["KeyMetadata"];
    let id = text(&metadata["KeyId"]);
    let expected = json!({
        "AWSAccountId": ACCOUNT, "KeyId": id, "Arn": key_arn(id),
        "CreationDate": now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        "Enabled": true, "Description": "for backups", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled",
        "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": false,
    });
    assert_eq!(*metadata, expected);
    assert_eq!(world.ok("DescribeKey", &json!({"KeyId": id})), created);
}

#[test]
fn the_log_names_the_key_that_was_made_and_none_where_it_was_denied() {
    let world = World::new();
    let id = world.key();
    let logged = world.last_logged();
    assert_eq!((&logged["operation"], &logged["key"]), (&json!("kms:CreateKey"), &json!(key_arn(&id))));
    world.call_as(&world.app, "CreateKey", &json!({})).unwrap_err();
    let logged = world.last_logged();
    assert_eq!((&logged["operation"], &logged["key"]), (&json!("kms:CreateKey"), &json!(null)));
}

#[test]
fn keys_for_agreement_are_made_on_three_curves() {
    let world = World::new();
    for spec in ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"] {
        let created = world.ok("CreateKey", &json!({"KeySpec": spec, "KeyUsage": "KEY_AGREEMENT"}));
        let metadata = &created["KeyMetadata"];
        assert_eq!(metadata["KeySpec"], spec);
        assert_eq!(metadata["KeyUsage"], "KEY_AGREEMENT");
        assert_eq!(metadata["KeyAgreementAlgorithms"], json!(["ECDH"]));
        assert!(metadata.get("EncryptionAlgorithms").is_none());
    }
}

#[test]
fn the_old_name_of_key_spec_is_understood() {
    let world = World::new();
    let request = json!({"CustomerMasterKeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"});
    assert_eq!(world.ok("CreateKey", &request)["KeyMetadata"]["KeySpec"], "ECC_NIST_P256");
    let both = json!({"CustomerMasterKeySpec": "ECC_NIST_P256", "KeySpec": "SYMMETRIC_DEFAULT"});
    assert_eq!(world.refusal("CreateKey", &both), ErrorKind::Validation);
}

#[test]
fn what_we_do_not_have_is_refused_and_not_ignored() {
    let world = World::new();
    for request in [
        json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}),
        json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}),
        json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}),
        json!({"Origin": "EXTERNAL"}),
        json!({"Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-1"}),
        json!({"CustomKeyStoreId": "cks-1"}),
        json!({"XksKeyId": "key"}),
        json!({"MultiRegion": true}),
        json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
    ] {
        assert_eq!(world.refusal("CreateKey", &request), ErrorKind::UnsupportedOperation, "{request}");
    }
    assert!(world.ok("ListKeys", &json!({}))["Keys"].as_array().unwrap().is_empty());
}

#[test]
fn what_says_nothing_new_is_accepted() {
    let world = World::new();
    let request = json!({"Origin": "AWS_KMS", "MultiRegion": false, "Tags": [], "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"});
    world.ok("CreateKey", &request);
}

#[test]
fn usages_that_a_key_cannot_have_are_refused() {
    let world = World::new();
    for request in [
        json!({"KeyUsage": "KEY_AGREEMENT"}),
        json!({"KeyUsage": "SIGN_VERIFY"}),
        json!({"KeySpec": "ECC_NIST_P256"}),
        json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "ENCRYPT_DECRYPT"}),
    ] {
        assert_eq!(world.refusal("CreateKey", &request), ErrorKind::Validation, "{request}");
    }
}

#[test]
fn a_description_has_8192_characters_at_most() {
    let world = World::new();
    let key = world.key();
    for longest in ["d".repeat(8192), "\u{1f511}".repeat(8192)] {
        world.ok("CreateKey", &json!({"Description": longest}));
        world.ok("UpdateKeyDescription", &json!({"KeyId": key, "Description": longest}));
    }
    let longer = "d".repeat(8193);
    assert_eq!(world.refusal("CreateKey", &json!({"Description": longer})), ErrorKind::Validation);
    let update = json!({"KeyId": key, "Description": longer});
    assert_eq!(world.refusal("UpdateKeyDescription", &update), ErrorKind::Validation);
}

#[test]
fn a_new_description_replaces_the_old_one() {
    let world = World::new();
    let key = world.new_key(&json!({"Description": "old"}));
    let answer = world.ok("UpdateKeyDescription", &json!({"KeyId": key, "Description": "new"}));
    assert!(answer.is_null());
    assert_eq!(world.ok("DescribeKey", &json!({"KeyId": key}))["KeyMetadata"]["Description"], "new");
}

#[test]
fn a_description_of_no_key_is_not_kept() {
    let world = World::new();
    let request = json!({"KeyId": NO_KEY, "Description": "new"});
    assert_eq!(world.refusal("UpdateKeyDescription", &request), ErrorKind::NotFound);
}

#[test]
fn every_key_is_listed_once_page_by_page() {
    let world = World::new();
    let made: BTreeSet<String> = (0..5).map(|_| world.key()).collect();
    let mut found = Vec::new();
    let mut request = json!({"Limit": 2});
    loop {
        let page = world.ok("ListKeys", &request);
        for key in page["Keys"].as_array().unwrap() {
            let id = text(&key["KeyId"]);
            assert_eq!(key["KeyArn"], key_arn(id));
            found.push(id.to_owned());
        }
        if page["Truncated"] == false {
            assert!(page.get("NextMarker").is_none());
            break;
        }
        request["Marker"] = page["NextMarker"].clone();
    }
    assert_eq!(found.len(), 5);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), made);
}

#[test]
fn a_page_that_holds_everything_is_not_truncated() {
    let world = World::new();
    world.key();
    world.key();
    assert_eq!(world.ok("ListKeys", &json!({"Limit": 2}))["Truncated"], false);
}

#[test]
fn limits_and_markers_that_cannot_be_are_refused() {
    let world = World::new();
    world.ok("ListKeys", &json!({"Limit": 1000}));
    assert_eq!(world.refusal("ListKeys", &json!({"Limit": 0})), ErrorKind::Validation);
    assert_eq!(world.refusal("ListKeys", &json!({"Limit": 1001})), ErrorKind::Validation);
    assert_eq!(world.refusal("ListKeys", &json!({"Marker": "here"})), ErrorKind::InvalidMarker);
    world.ok("ListAliases", &json!({"Limit": 100}));
    assert_eq!(world.refusal("ListAliases", &json!({"Limit": 101})), ErrorKind::Validation);
    assert_eq!(world.refusal("ListAliases", &json!({"Marker": "here"})), ErrorKind::InvalidMarker);
    let other = json!({"ResourceOwners": ["OTHER_ACCOUNTS"]});
    assert_eq!(world.refusal("ListKeys", &other), ErrorKind::UnsupportedOperation);
}
