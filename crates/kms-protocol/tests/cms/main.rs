//! Envelopes: those of AWS KMS, those of OpenSSL, ours, and broken ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod form;
mod keys;
mod kms_answer;
mod openssl;
mod secrecy;

use std::sync::LazyLock;

use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use kms_protocol::cms::{CmsError, Encoding, RecipientKey, open, seal};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePublicKey;

const BOTH: [Encoding; 2] = [Encoding::Ber, Encoding::Der];
const SECRET: &[u8] = b"What only the enclave may know.";

/// A key of 2048 bits for all tests that do not need one of their own.
static KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| new_key(2048));

fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn new_key(bits: usize) -> RsaPrivateKey {
    RsaPrivateKey::new(&mut random(), bits).unwrap()
}

fn spki(key: &RsaPrivateKey) -> Vec<u8> {
    key.to_public_key().to_public_key_der().unwrap().into_vec()
}

fn recipient(key: &RsaPrivateKey) -> RecipientKey {
    RecipientKey::from_spki_der(&spki(key)).unwrap()
}

fn sealed(plaintext: &[u8], encoding: Encoding) -> Vec<u8> {
    seal(&recipient(&KEY), plaintext, encoding, &mut random()).unwrap()
}

fn opened(envelope: &[u8]) -> Result<Vec<u8>, CmsError> {
    open(&KEY, envelope).map(|plaintext| plaintext.to_vec())
}
