//! GenerateDataKey, GenerateDataKeyPair, their forms without plaintext, GenerateRandom.

use kms::error::ErrorKind;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::RsaPrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};

use crate::world::{World, bytes, key_arn};

/// What the ciphertext of an answer decrypts to.
fn decrypted(world: &World, blob: &Value) -> Vec<u8> {
    bytes(
        &world.ok("Decrypt", &json!({"CiphertextBlob": blob, "EncryptionContext": {"a": "b"}}))["Plaintext"],
    )
}

#[test]
fn a_data_key_comes_in_plain_and_encrypted() {
    let world = World::new();
    let key = world.key();
    for (how, value, length) in [
        ("KeySpec", json!("AES_256"), 32),
        ("KeySpec", json!("AES_128"), 16),
        ("NumberOfBytes", json!(1), 1),
        ("NumberOfBytes", json!(1024), 1024),
    ] {
        let answer =
            world.ok("GenerateDataKey", &json!({"KeyId": key, how: value, "EncryptionContext": {"a": "b"}}));
        let plaintext = bytes(&answer["Plaintext"]);
        assert_eq!(plaintext.len(), length);
        assert_eq!(decrypted(&world, &answer["CiphertextBlob"]), plaintext);
        assert_eq!(answer["KeyId"], key_arn(&key));
    }
}

#[test]
fn two_data_keys_differ() {
    let world = World::new();
    let request = json!({"KeyId": world.key(), "KeySpec": "AES_256"});
    assert_ne!(
        world.ok("GenerateDataKey", &request)["Plaintext"],
        world.ok("GenerateDataKey", &request)["Plaintext"]
    );
}

#[test]
fn a_data_key_without_plaintext_has_none() {
    let world = World::new();
    let key = world.key();
    let request = json!({"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": {"a": "b"}});
    let answer = world.ok("GenerateDataKeyWithoutPlaintext", &request);
    assert!(answer.get("Plaintext").is_none());
    assert_eq!(answer["KeyId"], key_arn(&key));
    assert_eq!(decrypted(&world, &answer["CiphertextBlob"]).len(), 32);
}

#[test]
fn the_length_of_a_data_key_is_said_in_one_way() {
    let world = World::new();
    let key = world.key();
    for request in [
        json!({"KeyId": key}),
        json!({"KeyId": key, "KeySpec": "AES_256", "NumberOfBytes": 32}),
        json!({"KeyId": key, "KeySpec": "AES_512"}),
        json!({"KeyId": key, "NumberOfBytes": 0}),
        json!({"KeyId": key, "NumberOfBytes": 1025}),
        json!({"KeyId": key, "NumberOfBytes": -1}),
        json!({"KeyId": key, "NumberOfBytes": 1.5}),
    ] {
        assert_eq!(world.refusal("GenerateDataKey", &request), ErrorKind::Validation, "{request}");
        assert_eq!(
            world.refusal("GenerateDataKeyWithoutPlaintext", &request),
            ErrorKind::Validation,
            "{request}"
        );
    }
}

/// One pair of this kind: private half, public half, as the service answers them.
fn pair(spec: &str) -> (Vec<u8>, Vec<u8>) {
    let world = World::new();
    let key = world.key();
    let request = json!({"KeyId": key, "KeyPairSpec": spec, "EncryptionContext": {"a": "b"}});
    let answer = world.ok("GenerateDataKeyPair", &request);
    assert_eq!(answer["KeyPairSpec"], spec);
    assert_eq!(answer["KeyId"], key_arn(&key));
    let private = bytes(&answer["PrivateKeyPlaintext"]);
    assert_eq!(decrypted(&world, &answer["PrivateKeyCiphertextBlob"]), private);
    (private, bytes(&answer["PublicKey"]))
}

#[test]
fn a_pair_of_rsa_2048_belongs_together() {
    let (private, public) = pair("RSA_2048");
    let private = RsaPrivateKey::from_pkcs8_der(&private).unwrap();
    private.validate().unwrap();
    assert_eq!(private.n().bits(), 2048);
    assert_eq!(rsa::RsaPublicKey::from_public_key_der(&public).unwrap(), private.to_public_key());
}

#[test]
fn a_pair_on_p256_belongs_together() {
    let (private, public) = pair("ECC_NIST_P256");
    let private = p256::SecretKey::from_pkcs8_der(&private).unwrap();
    assert_eq!(p256::PublicKey::from_public_key_der(&public).unwrap(), private.public_key());
}

#[test]
fn a_pair_on_p384_belongs_together() {
    let (private, public) = pair("ECC_NIST_P384");
    let private = p384::SecretKey::from_pkcs8_der(&private).unwrap();
    assert_eq!(p384::PublicKey::from_public_key_der(&public).unwrap(), private.public_key());
}

#[test]
fn a_pair_on_p521_belongs_together() {
    let (private, public) = pair("ECC_NIST_P521");
    let private = p521::SecretKey::from_pkcs8_der(&private).unwrap();
    assert_eq!(p521::PublicKey::from_public_key_der(&public).unwrap(), private.public_key());
}

#[test]
fn a_pair_without_plaintext_has_none() {
    let world = World::new();
    let request =
        json!({"KeyId": world.key(), "KeyPairSpec": "ECC_NIST_P256", "EncryptionContext": {"a": "b"}});
    let answer = world.ok("GenerateDataKeyPairWithoutPlaintext", &request);
    assert!(answer.get("PrivateKeyPlaintext").is_none());
    let private = decrypted(&world, &answer["PrivateKeyCiphertextBlob"]);
    let private = p256::SecretKey::from_pkcs8_der(&private).unwrap();
    let public = p256::PublicKey::from_public_key_der(&bytes(&answer["PublicKey"])).unwrap();
    assert_eq!(public, private.public_key());
}

#[test]
fn kinds_of_pairs_that_we_do_not_make_are_refused() {
    let world = World::new();
    let key = world.key();
    for spec in ["ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "SM2", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"]
    {
        let request = json!({"KeyId": key, "KeyPairSpec": spec});
        assert_eq!(world.refusal("GenerateDataKeyPair", &request), ErrorKind::UnsupportedOperation, "{spec}");
    }
    let request = json!({"KeyId": key, "KeyPairSpec": "RSA_1024"});
    assert_eq!(world.refusal("GenerateDataKeyPair", &request), ErrorKind::Validation);
}

#[test]
fn random_bytes_are_1_to_1024() {
    let world = World::new();
    for length in [1, 32, 1024] {
        let answer = world.ok("GenerateRandom", &json!({"NumberOfBytes": length}));
        assert_eq!(bytes(&answer["Plaintext"]).len(), length);
    }
    for request in [json!({"NumberOfBytes": 0}), json!({"NumberOfBytes": 1025}), json!({})] {
        assert_eq!(world.refusal("GenerateRandom", &request), ErrorKind::Validation, "{request}");
    }
    let store = json!({"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1"});
    assert_eq!(world.refusal("GenerateRandom", &store), ErrorKind::UnsupportedOperation);
}

#[test]
fn random_bytes_are_not_twice_the_same() {
    let world = World::new();
    let request = json!({"NumberOfBytes": 32});
    assert_ne!(world.ok("GenerateRandom", &request), world.ok("GenerateRandom", &request));
}
