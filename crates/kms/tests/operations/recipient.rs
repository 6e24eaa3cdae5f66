//! `Recipient`: to whom answers are sealed, and whose documents are refused.

use std::time::Duration;

use attestation::cbor::Writer;
use attestation::cose;
use attestation::pcr::Pcr;
use attestation::pki::LEAF_LIFETIME;
use attestation::roots::Roots;
use attestation::verify::AgeLimit;
use getrandom::SysRng;
use kms::error::{ErrorKind, KmsError};
use kms::recipient::{DEFAULT_MAX_AGE, Verifier};
use kms_protocol::cms::{self, Encoding};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use rand_core::UnwrapErr;
use rsa::RsaPrivateKey;
use serde_json::{Value, json};

use crate::documents::{Host, enclave_key, image, public_key_der};
use crate::world::{ACCOUNT, World, base64, bytes, now, text};

/// Ten minutes.
const LATE: Duration = Duration::from_secs(600);

fn recipient(document: &[u8]) -> Value {
    json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": base64(document)})
}

/// What the enclave reads in an answer.
fn opened(answer: &Value) -> Vec<u8> {
    cms::open(enclave_key(), &bytes(&answer["CiphertextForRecipient"])).unwrap().to_vec()
}

/// A host, a service that trusts it, and a secret for the image of `documents::image`.
struct Case {
    host: Host,
    world: World,
    blob: String,
}

impl Case {
    fn new() -> Self {
        let host = Host::new();
        Self::with(World::trusting(host.roots()), host)
    }

    fn with(world: World, host: Host) -> Self {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "Administer", "Effect": "Allow", "Action": ["kms:Encrypt", "kms:PutKeyPolicy"], "Resource": "*",
             "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/admin")}},
            {"Sid": "TheImage", "Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*",
             "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/app")},
             "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": image().to_string()}}},
        ]});
        let key = world.key_with_policy(&policy);
        let blob = world.encrypted(&key, b"for the enclave");
        Self { host, world, blob }
    }

    fn decrypt(&self, document: &[u8]) -> Result<Value, KmsError> {
        let request = json!({"CiphertextBlob": self.blob, "Recipient": recipient(document)});
        self.world.call_as(&self.world.app, "Decrypt", &request)
    }

    /// The document is refused as such, and the log says why.
    fn refuses(&self, document: &[u8], why: &str) {
        let refusal = self.decrypt(document).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Validation);
        assert!(!refusal.message().contains(why), "the caller is told: {refusal}");
        let logged = self.world.last_logged();
        assert_eq!(logged["allowed"], false);
        assert_eq!(logged["operation"], "kms:Decrypt");
        let reason = text(&logged["reason"]);
        assert!(reason.contains(why), "{why:?} is not in {reason:?}");
    }
}

#[test]
fn the_right_image_is_given_the_secret_and_nobody_else_can_read_it() {
    let case = Case::new();
    let answer = case.decrypt(&case.host.document()).unwrap();
    assert!(answer.get("Plaintext").is_none());
    assert_eq!(opened(&answer), b"for the enclave");
    assert!(!answer.to_string().contains(&base64(b"for the enclave")));
}

#[test]
fn without_a_document_the_secret_is_denied() {
    let case = Case::new();
    let request = json!({"CiphertextBlob": case.blob});
    let refusal = case.world.call_as(&case.world.app, "Decrypt", &request).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::AccessDenied);
}

#[test]
fn another_image_is_denied_and_the_log_names_both_values() {
    let case = Case::new();
    let other = Pcr::from_bytes([0xbb; 48]);
    let document = case.host.forged(now(), |document| {
        document.pcrs.iter_mut().filter(|(index, _)| index.get() == 0).for_each(|(_, pcr)| *pcr = other);
    });
    assert_eq!(case.decrypt(&document).unwrap_err().kind(), ErrorKind::AccessDenied);
    let reason = text(&case.world.last_logged()["reason"]).to_owned();
    for part in ["TheImage", "kms:RecipientAttestation:ImageSha384", &image().to_string(), &other.to_string()]
    {
        assert!(reason.contains(part), "{part} is not in {reason}");
    }
}

#[test]
fn a_debug_enclave_passes_verification_and_is_denied_by_the_image_condition() {
    let case = Case::new();
    assert_eq!(case.decrypt(&case.host.debug_document()).unwrap_err().kind(), ErrorKind::AccessDenied);
    let reason = text(&case.world.last_logged()["reason"]).to_owned();
    assert!(reason.contains(&"0".repeat(96)), "{reason}");
}

#[test]
fn every_operation_that_has_a_recipient_seals_its_answer() {
    let host = Host::new();
    let world = World::trusting(host.roots());
    let key = world.key();
    let agreement = world.new_key(&json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}));
    let public = world.ok("GetPublicKey", &json!({"KeyId": agreement}))["PublicKey"].clone();
    let derive = json!({"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public});
    let shared = bytes(&world.ok("DeriveSharedSecret", &derive)["SharedSecret"]);
    let ask = |operation: &str, mut request: Value, plain: &str| {
        request["Recipient"] = recipient(&host.document());
        let answer = world.ok(operation, &request);
        assert!(answer.get(plain).is_none(), "{operation} answers {plain}");
        let secret = opened(&answer);
        (answer, secret)
    };
    let decrypted = |blob: &Value| bytes(&world.ok("Decrypt", &json!({"CiphertextBlob": blob}))["Plaintext"]);

    let (answer, secret) = ask("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_256"}), "Plaintext");
    assert_eq!(secret.len(), 32);
    assert_eq!(decrypted(&answer["CiphertextBlob"]), secret);
    let request = json!({"KeyId": key, "KeyPairSpec": "ECC_NIST_P521"});
    let (answer, secret) = ask("GenerateDataKeyPair", request, "PrivateKeyPlaintext");
    assert_eq!(decrypted(&answer["PrivateKeyCiphertextBlob"]), secret);
    assert!(answer.get("PublicKey").is_some());
    let (_, secret) = ask("GenerateRandom", json!({"NumberOfBytes": 1024}), "Plaintext");
    assert_eq!(secret.len(), 1024);
    let (_, secret) = ask("DeriveSharedSecret", derive.clone(), "SharedSecret");
    assert_eq!(secret, shared);
}

#[test]
fn the_answer_is_ber_unless_the_configuration_says_der() {
    let answer = |encoding| {
        let host = Host::new();
        let case = Case::with(World::encoding(host.roots(), encoding), host);
        let answer = case.decrypt(&case.host.document()).unwrap();
        assert_eq!(opened(&answer), b"for the enclave");
        bytes(&answer["CiphertextForRecipient"])
    };
    // A SEQUENCE of indefinite length begins 30 80.
    assert_eq!(answer(Encoding::Ber)[..2], [0x30, 0x80]);
    assert_eq!(answer(Encoding::Der)[..2], [0x30, 0x82]);
}

#[test]
fn one_of_several_roots_is_enough() {
    let (host, second) = (Host::new(), Host::new());
    let roots = Roots::from_iter([&second.root.chain()[0], &host.root.chain()[0]]);
    let case = Case::with(World::trusting(roots), host);
    case.decrypt(&case.host.document()).unwrap();
    case.decrypt(&second.document()).unwrap();
}

#[test]
fn a_document_under_another_root_is_refused() {
    let case = Case::new();
    case.refuses(&Host::new().document(), "another root");
}

#[test]
fn a_service_without_roots_refuses_every_document() {
    let case = Case::with(World::new(), Host::new());
    case.refuses(&case.host.document(), "another root");
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let host = Host::made_at(now() - LEAF_LIFETIME * 2);
    let case = Case::with(World::trusting(host.roots()), host);
    let long_ago = now() - LEAF_LIFETIME - Duration::from_secs(1);
    // The document itself is of this second.
    case.refuses(&case.host.forged(long_ago, |_| ()), "expired");
    case.decrypt(&case.host.forged(now() - LEAF_LIFETIME, |_| ())).unwrap();
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused() {
    let case = Case::new();
    // Certificates are backdated by five minutes.
    case.refuses(&case.host.forged(now() + LATE, |_| ()), "not valid yet");
}

#[test]
fn a_document_is_five_minutes_old_at_most() {
    let case = Case::new();
    let aged = |milliseconds: u64| case.host.forged(now(), |document| document.timestamp -= milliseconds);
    case.decrypt(&aged(300_000)).unwrap();
    case.refuses(&aged(300_001), "age");
}

#[test]
fn a_document_is_one_minute_ahead_at_most() {
    let case = Case::new();
    let ahead = |milliseconds: u64| case.host.forged(now(), |document| document.timestamp += milliseconds);
    case.decrypt(&ahead(60_000)).unwrap();
    case.refuses(&ahead(60_001), "age");
    let never = case.host.forged(now(), |document| document.timestamp = u64::MAX);
    case.refuses(&never, "age");
}

#[test]
fn an_old_document_of_a_real_enclave_is_refused() {
    let host = Host::made_at(now() - LATE);
    let case = Case::with(World::trusting(host.roots()), host);
    case.refuses(&case.host.document_at(now() - LATE), "age");
}

#[test]
fn a_chain_with_a_certificate_missing_is_refused() {
    let case = Case::new();
    for missing in 0..3 {
        let document = case.host.forged(now(), |document| {
            document.cabundle.remove(missing);
        });
        case.refuses(&document, "chain");
    }
}

#[test]
fn a_chain_with_two_certificates_swapped_is_refused() {
    let case = Case::new();
    let document = case.host.forged(now(), |document| document.cabundle.swap(1, 2));
    case.refuses(&document, "chain");
    let with_leaf = case.host.forged(now(), |document| {
        core::mem::swap(&mut document.certificate, &mut document.cabundle[2]);
    });
    case.refuses(&with_leaf, "chain");
}

#[test]
fn a_certificate_of_another_enclave_does_not_stand_for_the_signature() {
    let case = Case::new();
    let (mut document, _) = case.host.unsigned(now());
    let (other, leaf) = case.host.unsigned(now());
    document.cabundle = other.cabundle.clone();
    // The chain of one, the certificate and signature of the other.
    case.refuses(&cose::sign(&document.to_payload(), &leaf.key).unwrap(), "chain");
    let (document, _) = case.host.unsigned(now());
    case.refuses(&cose::sign(&document.to_payload(), &leaf.key).unwrap(), "signature");
}

#[test]
fn a_changed_byte_of_the_payload_is_noticed() {
    let case = Case::new();
    let (document, leaf) = case.host.unsigned(now());
    let payload = document.to_payload();
    let mut signed = cose::sign(&payload, &leaf.key).unwrap();
    let start = signed.windows(payload.len()).position(|window| window == payload).unwrap();
    // The last byte of PCR 0: a zero for a one, and another image.
    let position = start + payload.windows(48).position(|window| window == [0xa0; 48]).unwrap() + 47;
    signed[position] ^= 1;
    case.refuses(&signed, "signature");
}

#[test]
fn a_changed_byte_of_the_signature_is_noticed() {
    let case = Case::new();
    for from_end in [1, 48, 96] {
        let mut signed = case.host.document();
        let position = signed.len() - from_end;
        signed[position] ^= 1;
        case.refuses(&signed, "signature");
    }
}

#[test]
fn an_unsigned_payload_is_no_document() {
    let case = Case::new();
    let (document, _) = case.host.unsigned(now());
    case.refuses(&document.to_payload(), "structure");
    let mut zero = Writer::new();
    zero.array(4).bytes(&[0xa1, 0x01, 0x38, 0x22]).map(0).bytes(&document.to_payload()).bytes(&[0; 96]);
    case.refuses(&zero.finish(), "structure");
}

#[test]
fn cbor_with_something_behind_it_is_refused() {
    let case = Case::new();
    let signed = [&case.host.document()[..], &[0]].concat();
    case.refuses(&signed, "structure");
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let case = Case::new();
    let (document, leaf) = case.host.unsigned(now());
    let mut payload = document.to_payload();
    // Ten entries now, and the last is the nonce again.
    payload[0] += 1;
    let mut again = Writer::new();
    again.text("nonce").bytes(b"other");
    payload.extend(again.finish());
    case.refuses(&cose::sign(&payload, &leaf.key).unwrap(), "nonce");
}

#[test]
fn cbor_that_is_too_long_is_refused_before_it_is_read() {
    let case = Case::new();
    let (mut document, leaf) = case.host.unsigned(now());
    document.user_data = Some(vec![0; cose::MAX_SIGNED_LEN]);
    case.refuses(&cose::sign(&document.to_payload(), &leaf.key).unwrap(), "longer than");
    case.refuses(&vec![0x84; 262_144], "longer than");
    let refusal = case.decrypt(&vec![0x84; 262_145]).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Validation);
}

#[test]
fn cbor_that_promises_more_than_there_is_is_refused() {
    let case = Case::new();
    let promise =
        [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    case.refuses(&promise, "structure");
    case.refuses(&vec![0x84; 1000], "structure");
}

#[test]
fn registers_of_another_width_are_refused() {
    let case = Case::new();
    let (document, leaf) = case.host.unsigned(now());
    let payload = document.to_payload();
    // 58 30 begins a byte string of 48 bytes: the first is PCR 0's.
    let head = payload.windows(2).position(|window| window == [0x58, 0x30]).unwrap();
    for width in [32_u8, 64] {
        let bytes = vec![0xa0; usize::from(width)];
        let changed = [&payload[..head], &[0x58, width], &bytes, &payload[head + 50..]].concat();
        case.refuses(&cose::sign(&changed, &leaf.key).unwrap(), "pcrs");
    }
}

#[test]
fn a_document_without_a_public_key_is_refused() {
    let case = Case::new();
    case.refuses(&case.host.forged(now(), |document| document.public_key = None), "no public key");
}

#[test]
fn a_public_key_on_a_curve_is_refused() {
    let case = Case::new();
    let key = p256::SecretKey::try_generate_from_rng(&mut SysRng).unwrap().public_key();
    let der = key.to_public_key_der().unwrap().into_vec();
    case.refuses(&case.host.forged(now(), |document| document.public_key = Some(der)), "public key");
}

#[test]
fn an_rsa_key_of_1024_bits_is_refused() {
    let case = Case::new();
    let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), 1024).unwrap().to_public_key();
    let der = key.to_public_key_der().unwrap().into_vec();
    case.refuses(&case.host.forged(now(), |document| document.public_key = Some(der)), "public key");
}

#[test]
fn bytes_that_are_no_public_key_are_refused() {
    let case = Case::new();
    let mut cut = public_key_der();
    cut.pop();
    for bytes in [cut, Vec::new(), vec![0; 294]] {
        case.refuses(&case.host.forged(now(), |document| document.public_key = Some(bytes)), "public key");
    }
}

#[test]
fn another_key_encryption_algorithm_is_refused() {
    let case = Case::new();
    for algorithm in ["RSAES_OAEP_SHA_1", "NONE", ""] {
        let mut request = json!({"CiphertextBlob": case.blob, "Recipient": recipient(&case.host.document())});
        request["Recipient"]["KeyEncryptionAlgorithm"] = json!(algorithm);
        assert_eq!(case.world.refusal("Decrypt", &request), ErrorKind::Validation);
    }
}

#[test]
fn a_recipient_without_a_document_is_refused() {
    let case = Case::new();
    for recipient in [
        json!({}),
        json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}),
        json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": ""}),
    ] {
        let request = json!({"CiphertextBlob": case.blob, "Recipient": recipient});
        assert_eq!(case.world.refusal("Decrypt", &request), ErrorKind::Validation);
    }
}

#[test]
fn a_document_that_is_refused_is_refused_even_where_no_policy_asks_for_one() {
    let case = Case::new();
    let key = case.world.key();
    let request =
        json!({"KeyId": key, "KeySpec": "AES_256", "Recipient": recipient(&Host::new().document())});
    assert_eq!(case.world.refusal("GenerateDataKey", &request), ErrorKind::Validation);
    let request = json!({"NumberOfBytes": 16, "Recipient": recipient(&[0x84])});
    assert_eq!(case.world.refusal("GenerateRandom", &request), ErrorKind::Validation);
}

#[test]
fn a_bad_document_does_not_tell_whether_a_key_exists() {
    let case = Case::new();
    // The same ciphertext of a key that nobody made: its id stands behind the first four bytes.
    let mut unknown = bytes(&json!(case.blob));
    unknown[4] ^= 1;
    for document in [&b"none at all"[..], &Host::new().document()] {
        let answers = [case.blob.clone(), base64(&unknown)].map(|blob| {
            let request = json!({"CiphertextBlob": blob, "Recipient": recipient(document)});
            case.world.call_as(&case.world.app, "Decrypt", &request).unwrap_err()
        });
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].kind(), ErrorKind::Validation);
    }
}

#[test]
fn documents_are_verified_by_the_verifier_that_is_there_now() {
    let (host, other) = (Host::new(), Host::new());
    let case = Case::with(World::trusting(other.roots()), host);
    let document = case.host.document();
    assert_eq!(case.decrypt(&document).unwrap_err().kind(), ErrorKind::Validation);
    let age = AgeLimit::new(DEFAULT_MAX_AGE);
    case.world.service.replace_verifier(Verifier::new(case.host.roots(), age, Encoding::Ber));
    assert_eq!(opened(&case.decrypt(&document).unwrap()), b"for the enclave");
    case.world.service.replace_verifier(Verifier::new(other.roots(), age, Encoding::Ber));
    assert_eq!(case.decrypt(&document).unwrap_err().kind(), ErrorKind::Validation);
}
