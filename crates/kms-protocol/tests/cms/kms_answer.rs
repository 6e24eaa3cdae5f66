//! A `CiphertextForRecipient` of AWS KMS that AWS published, with the private key that opens it.
//!
//! Both are in `aws-samples/nitro-enclave-blockchain-wallet-on-eks` (MIT-0, as its README says), in the test
//! `applications/ethereum-signer/internal/keymanagement/kms_test.go` at commit 5c2c2f5e929948ccf54ee4e48427b754ab3e8fc9, with the secret
//! that must come out. The key is PKCS#1 there and PKCS#8 here.

use rsa::pkcs8::DecodePrivateKey;

use super::*;

const ANSWER: &[u8] = include_bytes!("data/kms-answer.ber");
const PRIVATE_KEY: &[u8] = include_bytes!("data/kms-answer.key.der");
const PLAINTEXT: &str = concat!(
    r#"{"secret":"9779d2b8f0bc495b1691ce1a2baf800453e18a58d4eea8bf1fe996a0ab291dba","#,
    r#""eth_key":"25e82557e8d2d154503f8e371a36b27b067c5c60793737e76313de1a431e8099"}"#
);
/// Where the parts of the answer begin that are random; the encrypted key is of 256 bytes, the vector of 16.
const ENCRYPTED_KEY: usize = 131;
const VECTOR: usize = 415;
const CONTENT: usize = 436;

fn key() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_der(PRIVATE_KEY).unwrap()
}

#[test]
fn an_answer_of_aws_kms_opens() {
    assert_eq!(open(&key(), ANSWER).unwrap().as_slice(), PLAINTEXT.as_bytes());
}

#[test]
fn what_we_seal_for_the_same_key_differs_from_it_only_where_it_must() {
    let mut ours = seal(&recipient(&key()), PLAINTEXT.as_bytes(), Encoding::Ber, &mut random()).unwrap();
    assert_eq!(ours.len(), ANSWER.len());
    for random in [ENCRYPTED_KEY..ENCRYPTED_KEY + 256, VECTOR..VECTOR + 16, CONTENT..CONTENT + 160] {
        assert_ne!(ours[random.clone()], ANSWER[random.clone()]);
        ours[random.clone()].copy_from_slice(&ANSWER[random]);
    }
    assert_eq!(hex::encode(ours), hex::encode(ANSWER));
}

#[test]
fn every_truncation_of_it_is_refused() {
    let key = key();
    for length in 0..ANSWER.len() {
        assert!(matches!(open(&key, &ANSWER[..length]), Err(CmsError::Structure(_))), "{length}");
    }
}

#[test]
fn bytes_after_it_are_refused() {
    for rest in [&b"\0"[..], b"\0\0", ANSWER] {
        let longer = [ANSWER, rest].concat();
        assert_eq!(open(&key(), &longer), Err(CmsError::Structure("something follows the ContentInfo")));
    }
}
