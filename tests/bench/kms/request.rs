//! The request that is measured: a data key, under a key that one image may use.

use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use super::enclave::Enclave;

/// What is decrypted: a data key.
pub(super) const SECRET: [u8; 32] = [0x5a; 32];
pub(super) const ACCOUNT: &str = "000000000000";
pub(super) const REGION: &str = "local-1";
/// Who asks: the user that a new service has.
pub(super) const CALLER: &str = "arn:aws:iam::000000000000:user/administrator";

/// Has a service make the key and the ciphertext, and returns the body of a Decrypt with Recipient.
pub(super) fn prepare(enclave: &Enclave, mut ask: impl FnMut(&str, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut ask = |operation: &str, body: &Value| -> Value {
        serde_json::from_slice(&ask(operation, body.to_string().as_bytes())).unwrap()
    };
    let key = ask("CreateKey", &json!({"Policy": policy().to_string()}));
    let plaintext = Base64::encode_string(&SECRET);
    let sealed = ask("Encrypt", &json!({"KeyId": key["KeyMetadata"]["KeyId"], "Plaintext": plaintext}));
    let request = json!({"CiphertextBlob": sealed["CiphertextBlob"], "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        "AttestationDocument": Base64::encode_string(&enclave.document),
    }});
    request.to_string().into_bytes()
}

/// The caller may use the key only for the enclave's image.
fn policy() -> Value {
    let condition =
        json!({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": Enclave::image()}});
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")}, "Resource": "*",
         "Action": ["kms:CreateKey", "kms:Encrypt", "kms:PutKeyPolicy"]},
        {"Effect": "Allow", "Principal": {"AWS": CALLER}, "Resource": "*", "Action": "kms:Decrypt",
         "Condition": condition},
    ]})
}
