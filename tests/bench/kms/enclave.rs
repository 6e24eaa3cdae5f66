//! An enclave without a guest: a key, and the document that the security module signs for it.

use std::time::SystemTime;

use attestation::certificate::Certificate;
use attestation::identity::EnclaveId;
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use base64ct::{Base64, Encoding as _};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use kms_protocol::cms::open;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePublicKey;
use serde_json::Value;
use zeroize::Zeroizing;

/// Each byte of its PCR 0.
const PCR0: u8 = 1;

pub(super) struct Enclave {
    key: RsaPrivateKey,
    pub(super) root: Certificate,
    pub(super) document: Vec<u8>,
}

impl Enclave {
    pub(super) fn new(now: SystemTime) -> Self {
        let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
        let enclave: EnclaveId = "i-1234567890abcdef0-enc0123456789abcdef".parse().unwrap();
        let root = RootAuthority::generate(now, &mut SysRng).unwrap();
        let host = root.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
        let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
        let pcr = |byte| Pcr::from_bytes([byte; 48]);
        let measurements = Measurements { pcr0: pcr(PCR0), pcr1: pcr(2), pcr2: pcr(3), pcr8: None };
        module.set_measurements(Some(&measurements)).unwrap();
        let public_key = key.to_public_key().to_public_key_der().unwrap().into_vec();
        let request = Request::Attestation { user_data: None, nonce: None, public_key: Some(public_key) };
        let response = Response::decode(&module.handle(&request.encode(), now)).unwrap();
        let Response::Attestation { document } = response else { panic!("no document but {response:?}") };
        Self { key, root: root.chain()[0].clone(), document }
    }

    /// As policies name it.
    pub(super) fn image() -> String {
        Pcr::from_bytes([PCR0; 48]).to_string()
    }

    /// What an answer holds.
    pub(super) fn secret(&self, answer: &[u8]) -> Zeroizing<Vec<u8>> {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let sealed = Base64::decode_vec(answer["CiphertextForRecipient"].as_str().unwrap()).unwrap();
        open(&self.key, &sealed).unwrap()
    }
}
