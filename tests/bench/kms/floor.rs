//! The least work that answers the request, with the primitives of the same libraries and nothing else of ours.

use std::hint::black_box;

use aes::Aes256;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use rsa::pkcs8::DecodePublicKey;
use rsa::{Oaep, RsaPublicKey};
use sha2::Sha256;

use super::request::SECRET;
use crate::verification::{Checks, lengths};

pub(super) struct Floor {
    checks: Checks,
    public_key: Vec<u8>,
}

impl Floor {
    pub(super) fn new(document: &[u8]) -> Self {
        let envelope = SignedPayload::from_bytes(document).unwrap();
        let read = AttestationDocument::from_payload(envelope.payload()).unwrap();
        let checks = Checks::over(&lengths(&read, envelope.payload()));
        Self { checks, public_key: read.public_key.unwrap() }
    }

    /// How many signatures it checks.
    pub(super) fn checks(&self) -> usize {
        self.checks.0.len()
    }

    /// The signatures of the document and of the chain below the root.
    pub(super) fn check_signatures(&self) {
        self.checks.run();
    }

    /// Reads the recipient's key and seals a content key for it.
    pub(super) fn encrypt_key(&self) {
        let key = RsaPublicKey::from_public_key_der(&self.public_key).unwrap();
        let encrypted = key.encrypt(&mut UnwrapErr(SysRng), Oaep::<Sha256>::new(), &[7; 32]);
        black_box(encrypted.unwrap());
    }

    /// Opens the ciphertext and encrypts the answer's content.
    pub(super) fn aes(&self) {
        let mut bytes = SECRET;
        let cipher = Aes256Gcm::new((&[7; 32]).into());
        let tag = cipher.encrypt_inout_detached(&Nonce::from([7; 12]), &[0; 52], bytes.as_mut_slice().into());
        black_box(tag.unwrap());
        let cipher = cbc::Encryptor::<Aes256>::new((&[7; 32]).into(), (&[7; 16]).into());
        black_box(cipher.encrypt_padded_vec::<Pkcs7>(&bytes));
    }
}
