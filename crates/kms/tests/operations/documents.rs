//! Enclaves and their documents: real ones from the security module, and those that an attacker would make.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use attestation::cose;
use attestation::document::AttestationDocument;
use attestation::identity::EnclaveId;
use attestation::pcr::{Measurements, Pcr, PcrIndex};
use attestation::pki::{EnclaveAuthority, HostAuthority, Leaf, RootAuthority};
use attestation::roots::Roots;
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use rand_core::UnwrapErr;
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePublicKey;

use crate::world::now;

const ENCLAVE: &str = "i-1234567890abcdef0-enc0123456789abcdef";

/// PCR 0 of the image that the enclave runs.
pub(crate) fn image() -> Pcr {
    Pcr::from_bytes([0xa0; 48])
}

/// The RSA key of the enclave, made once: that takes a while.
pub(crate) fn enclave_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap())
}

pub(crate) fn public_key_der() -> Vec<u8> {
    enclave_key().to_public_key().to_public_key_der().unwrap().into_vec()
}

/// A root with one host on which one enclave runs.
pub(crate) struct Host {
    pub(crate) root: RootAuthority,
    host: HostAuthority,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::made_at(now())
    }

    pub(crate) fn made_at(time: SystemTime) -> Self {
        let root = RootAuthority::generate(time, &mut SysRng).unwrap();
        let host = root.issue_host(enclave().instance(), time, &mut SysRng).unwrap();
        Self { root, host }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from(&self.root.chain()[0])
    }

    fn authority(&self, time: SystemTime) -> EnclaveAuthority {
        self.host.issue_enclave(&enclave(), time, &mut SysRng).unwrap()
    }

    /// What the security module of the enclave signs, for the enclave's key.
    pub(crate) fn document(&self) -> Vec<u8> {
        self.signed(Some(&measurements()), now())
    }

    pub(crate) fn document_at(&self, time: SystemTime) -> Vec<u8> {
        self.signed(Some(&measurements()), time)
    }

    /// The same of a debug enclave.
    pub(crate) fn debug_document(&self) -> Vec<u8> {
        self.signed(None, now())
    }

    fn signed(&self, measurements: Option<&Measurements>, time: SystemTime) -> Vec<u8> {
        let identity = Identity { enclave: enclave(), role: None, authority: self.authority(time) };
        let mut module = SecurityModule::new(identity);
        module.set_measurements(measurements).unwrap();
        let public_key = Some(public_key_der());
        let request = Request::Attestation { user_data: None, nonce: None, public_key };
        match Response::decode(&module.handle(&request.encode(), time)).unwrap() {
            Response::Attestation { document } => document,
            other => panic!("no document but {other:?}"),
        }
    }

    /// A document with a leaf of `leaf_time`, changed before it is signed: genuine, and not what a security module says.
    pub(crate) fn forged(
        &self,
        leaf_time: SystemTime,
        change: impl FnOnce(&mut AttestationDocument),
    ) -> Vec<u8> {
        let (mut document, leaf) = self.unsigned(leaf_time);
        change(&mut document);
        cose::sign(&document.to_payload(), &leaf.key).unwrap()
    }

    /// A document that is not signed yet, and the leaf that could sign it.
    pub(crate) fn unsigned(&self, leaf_time: SystemTime) -> (AttestationDocument, Leaf) {
        let authority = self.authority(leaf_time);
        let leaf = authority.issue_leaf(&enclave(), leaf_time, &mut SysRng).unwrap();
        let document = AttestationDocument {
            module_id: ENCLAVE.into(),
            timestamp: u64::try_from(now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap(),
            pcrs: PcrIndex::all().take(16).map(|index| (index, image())).collect(),
            certificate: leaf.certificate.as_der().to_vec(),
            cabundle: authority.chain().iter().map(|link| link.as_der().to_vec()).collect(),
            public_key: Some(public_key_der()),
            user_data: None,
            nonce: None,
        };
        (document, leaf)
    }
}

fn enclave() -> EnclaveId {
    ENCLAVE.parse().unwrap()
}

fn measurements() -> Measurements {
    let pcr = |byte| Pcr::from_bytes([byte; 48]);
    Measurements { pcr0: image(), pcr1: pcr(0xa1), pcr2: pcr(0xa2), pcr8: None }
}
