//! Encrypt, Decrypt, ReEncrypt.

use kms::error::ErrorKind;
use serde_json::json;

use crate::world::{NO_KEY, World, base64, bytes, key_arn, text};

#[test]
fn what_was_encrypted_is_decrypted_without_naming_the_key() {
    let world = World::new();
    let key = world.key();
    let encrypted = world.ok("Encrypt", &json!({"KeyId": key, "Plaintext": base64(b"attack at dawn")}));
    assert_eq!(encrypted["KeyId"], key_arn(&key));
    assert_eq!(encrypted["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    let decrypted = world.ok("Decrypt", &json!({"CiphertextBlob": encrypted["CiphertextBlob"]}));
    assert_eq!(bytes(&decrypted["Plaintext"]), b"attack at dawn");
    assert_eq!(decrypted["KeyId"], key_arn(&key));
    assert_eq!(decrypted["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert!(decrypted.get("CiphertextForRecipient").is_none());
}

#[test]
fn one_plaintext_never_has_one_ciphertext_twice() {
    let world = World::new();
    let key = world.key();
    assert_ne!(world.encrypted(&key, b"same"), world.encrypted(&key, b"same"));
}

#[test]
fn a_plaintext_has_4096_bytes_at_most() {
    let world = World::new();
    let key = world.key();
    let request = |length: usize| json!({"KeyId": key, "Plaintext": base64(&vec![7; length])});
    let answer = world.ok("Encrypt", &request(4096));
    let decrypted = world.ok("Decrypt", &json!({"CiphertextBlob": answer["CiphertextBlob"]}));
    assert_eq!(bytes(&decrypted["Plaintext"]), vec![7; 4096]);
    assert_eq!(world.refusal("Encrypt", &request(4097)), ErrorKind::Validation);
    assert_eq!(world.refusal("Encrypt", &request(0)), ErrorKind::Validation);
}

#[test]
fn every_changed_byte_of_a_ciphertext_is_noticed() {
    let world = World::new();
    let ciphertext = world.encrypted(&world.key(), b"secret");
    let good = bytes(&json!(ciphertext));
    for position in 0..good.len() {
        let mut changed = good.clone();
        changed[position] ^= 1;
        let refusal = world.refusal("Decrypt", &json!({"CiphertextBlob": base64(&changed)}));
        // The key's id stands behind the four bytes of the format.
        let expected =
            if (4..20).contains(&position) { ErrorKind::AccessDenied } else { ErrorKind::InvalidCiphertext };
        assert_eq!(refusal, expected, "byte {position}");
    }
}

#[test]
fn a_ciphertext_that_is_cut_off_is_refused() {
    let world = World::new();
    let good = bytes(&json!(world.encrypted(&world.key(), b"secret")));
    for length in 1..good.len() {
        let cut = json!({"CiphertextBlob": base64(&good[..length])});
        assert_eq!(world.refusal("Decrypt", &cut), ErrorKind::InvalidCiphertext, "{length} bytes");
    }
}

#[test]
fn a_ciphertext_of_aws_is_refused() {
    let world = World::new();
    let foreign = [&[1, 2, 2, 0, 0x78][..], &[9; 180]].concat();
    let refusal = world.refusal("Decrypt", &json!({"CiphertextBlob": base64(&foreign)}));
    assert_eq!(refusal, ErrorKind::InvalidCiphertext);
}

#[test]
fn the_encryption_context_must_be_the_same() {
    let world = World::new();
    let key = world.key();
    let context = json!({"tenant": "a", "purpose": "b"});
    let encrypted = world
        .ok("Encrypt", &json!({"KeyId": key, "Plaintext": base64(b"secret"), "EncryptionContext": context}));
    let blob = &encrypted["CiphertextBlob"];
    let reordered =
        format!(r#"{{"CiphertextBlob":{blob},"EncryptionContext":{{"purpose":"b","tenant":"a"}}}}"#);
    assert!(world.call_bytes(&world.admin, "Decrypt", reordered.as_bytes()).is_ok());
    for other in [
        json!({}),
        json!(null),
        json!({"tenant": "a"}),
        json!({"tenant": "b", "purpose": "b"}),
        json!({"Tenant": "a", "purpose": "b"}),
        json!({"tenant": "a", "purpose": "b", "more": ""}),
        // The same text in another pair of hands.
        json!({"tenan": "ta", "purpose": "b"}),
    ] {
        let request = json!({"CiphertextBlob": blob, "EncryptionContext": other});
        assert_eq!(world.refusal("Decrypt", &request), ErrorKind::InvalidCiphertext, "{other}");
    }
}

#[test]
fn an_empty_context_is_the_same_as_none() {
    let world = World::new();
    let blob = world.encrypted(&world.key(), b"secret");
    world.ok("Decrypt", &json!({"CiphertextBlob": blob, "EncryptionContext": {}}));
}

#[test]
fn an_encryption_context_has_8192_bytes_at_most() {
    let world = World::new();
    let key = world.key();
    let request = |length: usize| json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": {"k": "v".repeat(length - 1)}});
    world.ok("Encrypt", &request(8192));
    assert_eq!(world.refusal("Encrypt", &request(8193)), ErrorKind::Validation);
}

#[test]
fn an_encryption_context_has_each_name_once() {
    let world = World::new();
    let key = world.key();
    let body = format!(r#"{{"KeyId":"{key}","Plaintext":"AAAA","EncryptionContext":{{"a":"1","a":"2"}}}}"#);
    let refusal = world.call_bytes(&world.admin, "Encrypt", body.as_bytes()).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Validation);
}

#[test]
fn another_key_than_the_ciphertext_s_is_the_incorrect_key() {
    let world = World::new();
    let (key, other) = (world.key(), world.key());
    let blob = world.encrypted(&key, b"secret");
    world.ok("Decrypt", &json!({"CiphertextBlob": blob, "KeyId": key}));
    let request = json!({"CiphertextBlob": blob, "KeyId": other});
    assert_eq!(world.refusal("Decrypt", &request), ErrorKind::IncorrectKey);
    let request = json!({"CiphertextBlob": blob, "SourceKeyId": other, "DestinationKeyId": key});
    assert_eq!(world.refusal("ReEncrypt", &request), ErrorKind::IncorrectKey);
}

#[test]
fn a_ciphertext_moved_to_another_key_does_not_open() {
    let world = World::new();
    let (key, other) = (world.key(), world.key());
    let mut moved = bytes(&json!(world.encrypted(&key, b"secret")));
    let of_other = bytes(&json!(world.encrypted(&other, b"secret")));
    moved[4..20].copy_from_slice(&of_other[4..20]);
    let refusal = world.refusal("Decrypt", &json!({"CiphertextBlob": base64(&moved)}));
    assert_eq!(refusal, ErrorKind::InvalidCiphertext);
}

#[test]
fn a_key_is_named_in_four_ways() {
    let world = World::new();
    let key = world.key();
    world.ok("CreateAlias", &json!({"AliasName": "alias/mine", "TargetKeyId": key}));
    let arn = key_arn(&key);
    for name in [&key, &arn, "alias/mine", "arn:aws:kms:local-1:000000000000:alias/mine"] {
        let answer = world.ok("Encrypt", &json!({"KeyId": name, "Plaintext": "AAAA"}));
        assert_eq!(answer["KeyId"], arn);
    }
}

#[test]
fn names_of_keys_that_are_not_here_are_not_found() {
    let world = World::new();
    let key = world.key();
    for name in [
        NO_KEY,
        &key_arn(NO_KEY),
        "alias/none",
        "key",
        &key.to_uppercase(),
        &format!("key/{key}"),
        &format!("{{{key}}}"),
        &key.replace('-', ""),
        // Another region, another account, another service, another partition.
        &format!("arn:aws:kms:us-east-1:000000000000:key/{key}"),
        &format!("arn:aws:kms:local-1:111111111111:key/{key}"),
        &format!("arn:aws:s3:local-1:000000000000:key/{key}"),
        &format!("arn:aws-cn:kms:local-1:000000000000:key/{key}"),
        // An ARN without its kind.
        &format!("arn:aws:kms:local-1:000000000000:{key}"),
    ] {
        let refusal = world.refusal("Encrypt", &json!({"KeyId": name, "Plaintext": "AAAA"}));
        assert_eq!(refusal, ErrorKind::NotFound, "{name}");
    }
    let malformed = json!({"KeyId": "arn:aws:kms", "Plaintext": "AAAA"});
    assert_eq!(world.refusal("Encrypt", &malformed), ErrorKind::InvalidArn);
    for name in [String::new(), "k".repeat(2049)] {
        let refusal = world.refusal("Encrypt", &json!({"KeyId": name, "Plaintext": "AAAA"}));
        assert_eq!(refusal, ErrorKind::Validation);
    }
}

#[test]
fn other_algorithms_are_not_for_symmetric_keys() {
    let world = World::new();
    let key = world.key();
    let request = json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"});
    assert_eq!(world.refusal("Encrypt", &request), ErrorKind::InvalidKeyUsage);
    let request = json!({"KeyId": key, "Plaintext": "AAAA", "EncryptionAlgorithm": "ROT13"});
    assert_eq!(world.refusal("Encrypt", &request), ErrorKind::Validation);
}

#[test]
fn a_key_for_agreement_does_not_encrypt() {
    let world = World::new();
    let key = world.new_key(&json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}));
    let request = json!({"KeyId": key, "Plaintext": "AAAA"});
    assert_eq!(world.refusal("Encrypt", &request), ErrorKind::InvalidKeyUsage);
    let request = json!({"KeyId": key, "KeySpec": "AES_256"});
    assert_eq!(world.refusal("GenerateDataKey", &request), ErrorKind::InvalidKeyUsage);
}

#[test]
fn re_encrypting_moves_a_ciphertext_to_another_key_and_context() {
    let world = World::new();
    let (from, to) = (world.key(), world.key());
    let blob = world.encrypted(&from, b"secret");
    let moved = world.ok(
        "ReEncrypt",
        &json!({"CiphertextBlob": blob, "DestinationKeyId": to, "DestinationEncryptionContext": {"a": "b"}}),
    );
    assert_eq!(moved["SourceKeyId"], key_arn(&from));
    assert_eq!(moved["KeyId"], key_arn(&to));
    assert_eq!(moved["SourceEncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_eq!(moved["DestinationEncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert!(moved.get("Plaintext").is_none());
    let request =
        json!({"CiphertextBlob": moved["CiphertextBlob"], "KeyId": to, "EncryptionContext": {"a": "b"}});
    assert_eq!(bytes(&world.ok("Decrypt", &request)["Plaintext"]), b"secret");
}

#[test]
fn re_encrypting_with_the_wrong_source_context_is_refused() {
    let world = World::new();
    let (from, to) = (world.key(), world.key());
    let blob = world.encrypted(&from, b"secret");
    let request =
        json!({"CiphertextBlob": blob, "DestinationKeyId": to, "SourceEncryptionContext": {"a": "b"}});
    assert_eq!(world.refusal("ReEncrypt", &request), ErrorKind::InvalidCiphertext);
}

#[test]
fn a_dry_run_checks_everything_and_does_nothing() {
    let world = World::new();
    let key = world.key();
    let blob = world.encrypted(&key, b"secret");
    for (operation, request) in [
        ("Encrypt", json!({"KeyId": key, "Plaintext": "AAAA", "DryRun": true})),
        ("Decrypt", json!({"CiphertextBlob": blob, "DryRun": true})),
        ("ReEncrypt", json!({"CiphertextBlob": blob, "DestinationKeyId": key, "DryRun": true})),
        ("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_256", "DryRun": true})),
        ("GenerateDataKeyWithoutPlaintext", json!({"KeyId": key, "KeySpec": "AES_256", "DryRun": true})),
        ("GenerateDataKeyPair", json!({"KeyId": key, "KeyPairSpec": "RSA_4096", "DryRun": true})),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            json!({"KeyId": key, "KeyPairSpec": "RSA_4096", "DryRun": true}),
        ),
    ] {
        assert_eq!(world.refusal(operation, &request), ErrorKind::DryRunOperation, "{operation}");
    }
    let wrong = json!({"CiphertextBlob": blob, "EncryptionContext": {"a": "b"}, "DryRun": true});
    assert_eq!(world.refusal("Decrypt", &wrong), ErrorKind::InvalidCiphertext);
    world.ok("Encrypt", &json!({"KeyId": key, "Plaintext": "AAAA", "DryRun": false}));
}

#[test]
fn a_dry_run_of_what_is_denied_is_denied() {
    let world = World::new();
    let key = world.key();
    let request = json!({"KeyId": key, "Plaintext": "AAAA", "DryRun": true});
    let refusal = world.call_as(&world.app, "Encrypt", &request).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::AccessDenied);
}

#[test]
fn escaped_slashes_in_base64_are_read() {
    // PHP's json_encode writes them so.
    let world = World::new();
    let key = world.key();
    let body = format!(r#"{{"KeyId":"{key}","Plaintext":"\/\/\/\/"}}"#);
    let answer = world.call_bytes(&world.admin, "Encrypt", body.as_bytes()).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let decrypted = world.ok("Decrypt", &json!({"CiphertextBlob": text(&answer["CiphertextBlob"])}));
    assert_eq!(bytes(&decrypted["Plaintext"]), [0xff; 3]);
}
