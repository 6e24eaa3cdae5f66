//! Requests that are not requests.

use kms::error::ErrorKind;
use serde_json::json;

use crate::world::World;

fn refusal(world: &World, operation: &str, body: &[u8]) -> ErrorKind {
    world.call_bytes(&world.admin, operation, body).unwrap_err().kind()
}

#[test]
fn an_operation_that_we_do_not_have_is_not_supported() {
    let world = World::new();
    for operation in
        ["Sign", "Verify", "CreateGrant", "TagResource", "ImportKeyMaterial", "", "encrypt", "kms:Encrypt"]
    {
        assert_eq!(refusal(&world, operation, b"{}"), ErrorKind::UnsupportedOperation, "{operation}");
    }
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let world = World::new();
    for body in [&b""[..], b"{", b"{\"KeyId\":\"a\"}{}", b"\xff", b"{\"KeyId\":", b"nul"] {
        assert_eq!(refusal(&world, "DescribeKey", body), ErrorKind::Serialization);
    }
}

#[test]
fn json_of_another_shape_is_refused() {
    let world = World::new();
    let body = |text: &str| refusal(&world, "DescribeKey", text.as_bytes());
    for text in ["null", "7", "\"a\"", "{}", r#"{"KeyId":7}"#, r#"{"KeyId":["a"]}"#] {
        assert_eq!(body(text), ErrorKind::Validation, "{text}");
    }
    assert_eq!(body(r#"{"KeyId":"a","KeyId":"b"}"#), ErrorKind::Validation);
}

#[test]
fn json_that_nests_deep_is_refused() {
    let world = World::new();
    let deep = format!("{{\"KeyId\":{}", "[".repeat(100_000));
    assert!(world.call_bytes(&world.admin, "DescribeKey", deep.as_bytes()).is_err());
}

#[test]
fn a_member_that_we_do_not_know_is_refused() {
    let world = World::new();
    let key = world.key();
    for (operation, request) in [
        ("DescribeKey", json!({"KeyId": key, "Colour": "red"})),
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA", "encryptioncontext": {}})),
        ("ListKeys", json!({"limit": 1})),
    ] {
        assert_eq!(world.refusal(operation, &request), ErrorKind::Validation, "{request}");
    }
}

#[test]
fn bytes_that_are_not_base64_are_refused() {
    let world = World::new();
    let key = world.key();
    for text in ["A", "AA", "AAA", "AA=A", "AAAA=", "A A=", "AAA-", "AAAA\n", "AB=="] {
        let request = json!({"KeyId": key, "Plaintext": text});
        assert_eq!(world.refusal("Encrypt", &request), ErrorKind::Validation, "{text:?}");
    }
}

#[test]
fn grant_tokens_are_refused_because_there_are_no_grants() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    for (operation, mut request) in [
        ("DescribeKey", json!({"KeyId": key})),
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        ("ReEncrypt", json!({"CiphertextBlob": blob, "DestinationKeyId": key})),
        ("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyPair", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("GenerateDataKeyPairWithoutPlaintext", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("DeriveSharedSecret", json!({"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "AAAA"})),
        ("GetPublicKey", json!({"KeyId": key})),
    ] {
        request["GrantTokens"] = json!(["token"]);
        assert_eq!(world.refusal(operation, &request), ErrorKind::InvalidGrantToken, "{operation}");
    }
    world.ok("DescribeKey", &json!({"KeyId": key, "GrantTokens": []}));
}

#[test]
fn modifiers_of_dry_runs_are_not_supported() {
    let world = World::new();
    let blob = world.encrypted(&world.key(), b"secret");
    let request = json!({"CiphertextBlob": blob, "DryRun": true, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]});
    assert_eq!(world.refusal("Decrypt", &request), ErrorKind::UnsupportedOperation);
}

#[test]
fn a_recipient_where_there_is_none_is_refused() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    for (operation, mut request) in [
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA"})),
        ("ReEncrypt", json!({"CiphertextBlob": blob, "DestinationKeyId": key})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256"})),
        ("GenerateDataKeyPairWithoutPlaintext", json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P256"})),
        ("DescribeKey", json!({"KeyId": key})),
        ("CreateKey", json!({})),
    ] {
        request["Recipient"] =
            json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "AAAA"});
        assert_eq!(world.refusal(operation, &request), ErrorKind::Validation, "{operation}");
    }
}
