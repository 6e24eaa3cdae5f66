//! DeriveSharedSecret and GetPublicKey. What both sides share is computed by openssl.

use std::process::Command;

use kms::error::ErrorKind;
use serde_json::{Value, json};

use crate::world::{World, base64, bytes, key_arn};

/// Runs openssl in a folder.
fn openssl(folder: &std::path::Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn agreement_key(world: &World, spec: &str) -> String {
    world.new_key(&json!({"KeySpec": spec, "KeyUsage": "KEY_AGREEMENT"}))
}

fn derive(key: &str, public_key: &[u8]) -> Value {
    json!({"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": base64(public_key)})
}

/// The service and openssl agree on a secret, each with the other's public key.
fn both_sides_agree(spec: &str, curve: &str) {
    let world = World::new();
    let key = agreement_key(&world, spec);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let curve_option = format!("ec_paramgen_curve:{curve}");
    openssl(path, &["genpkey", "-algorithm", "EC", "-pkeyopt", &curve_option, "-out", "peer.pem"]);
    openssl(path, &["pkey", "-in", "peer.pem", "-pubout", "-outform", "DER", "-out", "peer.der"]);
    let ours = world.ok("GetPublicKey", &json!({"KeyId": key}));
    assert_eq!(ours["KeyId"], key_arn(&key));
    assert_eq!(ours["KeySpec"], spec);
    assert_eq!(ours["CustomerMasterKeySpec"], spec);
    assert_eq!(ours["KeyUsage"], "KEY_AGREEMENT");
    assert_eq!(ours["KeyAgreementAlgorithms"], json!(["ECDH"]));
    std::fs::write(path.join("ours.der"), bytes(&ours["PublicKey"])).unwrap();
    openssl(path, &["pkey", "-pubin", "-inform", "DER", "-in", "ours.der", "-out", "ours.pem"]);
    openssl(path, &["pkeyutl", "-derive", "-inkey", "peer.pem", "-peerkey", "ours.pem", "-out", "secret"]);

    let peer = std::fs::read(path.join("peer.der")).unwrap();
    let answer = world.ok("DeriveSharedSecret", &derive(&key, &peer));
    assert_eq!(bytes(&answer["SharedSecret"]), std::fs::read(path.join("secret")).unwrap());
    assert_eq!(answer["KeyId"], key_arn(&key));
    assert_eq!(answer["KeyAgreementAlgorithm"], "ECDH");
    assert_eq!(answer["KeyOrigin"], "AWS_KMS");
}

#[test]
fn openssl_derives_the_same_secret_on_p256() {
    both_sides_agree("ECC_NIST_P256", "P-256");
}

#[test]
fn openssl_derives_the_same_secret_on_p384() {
    both_sides_agree("ECC_NIST_P384", "P-384");
}

#[test]
fn openssl_derives_the_same_secret_on_p521() {
    both_sides_agree("ECC_NIST_P521", "P-521");
}

#[test]
fn a_point_that_is_not_on_the_curve_is_refused() {
    let world = World::new();
    let (key, peer) = (agreement_key(&world, "ECC_NIST_P256"), agreement_key(&world, "ECC_NIST_P256"));
    let mut public = bytes(&world.ok("GetPublicKey", &json!({"KeyId": peer}))["PublicKey"]);
    world.ok("DeriveSharedSecret", &derive(&key, &public));
    *public.last_mut().unwrap() ^= 1;
    assert_eq!(world.refusal("DeriveSharedSecret", &derive(&key, &public)), ErrorKind::Validation);
}

#[test]
fn the_neutral_element_is_refused() {
    let world = World::new();
    let key = agreement_key(&world, "ECC_NIST_P256");
    // SubjectPublicKeyInfo of id-ecPublicKey on prime256v1 whose BIT STRING is the one byte 00: RFC 5480, SEC 1 section 2.3.4.
    let neutral = hex::decode("3019301306072a8648ce3d020106082a8648ce3d03010703020000").unwrap();
    assert_eq!(world.refusal("DeriveSharedSecret", &derive(&key, &neutral)), ErrorKind::Validation);
}

#[test]
fn a_key_on_another_curve_is_refused() {
    let world = World::new();
    let (key, peer) = (agreement_key(&world, "ECC_NIST_P256"), agreement_key(&world, "ECC_NIST_P384"));
    let public = bytes(&world.ok("GetPublicKey", &json!({"KeyId": peer}))["PublicKey"]);
    assert_eq!(world.refusal("DeriveSharedSecret", &derive(&key, &public)), ErrorKind::Validation);
}

#[test]
fn bytes_that_are_no_public_key_are_refused() {
    let world = World::new();
    let key = agreement_key(&world, "ECC_NIST_P256");
    let good = bytes(&world.ok("GetPublicKey", &json!({"KeyId": key}))["PublicKey"]);
    for bad in [&good[..good.len() - 1], &good[1..], &[0; 91], &[&good[..], &[0]].concat()] {
        assert_eq!(world.refusal("DeriveSharedSecret", &derive(&key, bad)), ErrorKind::Validation);
    }
}

#[test]
fn a_symmetric_key_agrees_on_nothing_and_has_no_public_half() {
    let world = World::new();
    let (key, peer) = (world.key(), agreement_key(&world, "ECC_NIST_P256"));
    let public = bytes(&world.ok("GetPublicKey", &json!({"KeyId": peer}))["PublicKey"]);
    assert_eq!(world.refusal("DeriveSharedSecret", &derive(&key, &public)), ErrorKind::InvalidKeyUsage);
    assert_eq!(world.refusal("GetPublicKey", &json!({"KeyId": key})), ErrorKind::UnsupportedOperation);
}

#[test]
fn another_algorithm_of_agreement_is_refused() {
    let world = World::new();
    let key = agreement_key(&world, "ECC_NIST_P256");
    let public = bytes(&world.ok("GetPublicKey", &json!({"KeyId": key}))["PublicKey"]);
    let mut request = derive(&key, &public);
    request["KeyAgreementAlgorithm"] = json!("SM2DSA");
    assert_eq!(world.refusal("DeriveSharedSecret", &request), ErrorKind::Validation);
}
