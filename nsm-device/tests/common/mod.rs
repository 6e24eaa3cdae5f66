//! A host with an enclave on it, for tests of its security module.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

use std::time::SystemTime;

use attestation::certificate::Certificate;
use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::{EnclaveAuthority, HostAuthority, RootAuthority};
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};

/// A host's part of the hierarchy.
pub(crate) struct Host {
    authority: HostAuthority,
    instance: InstanceId,
}

impl Host {
    pub(crate) fn new(now: SystemTime) -> Self {
        let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
        let root = RootAuthority::generate(now, &mut SysRng).unwrap();
        let authority = root.issue_host(&instance, now, &mut SysRng).unwrap();
        Self { authority, instance }
    }

    pub(crate) fn root(&self) -> &Certificate {
        &self.authority.chain()[0]
    }

    pub(crate) fn enclave(&self, now: SystemTime) -> (EnclaveId, EnclaveAuthority) {
        let enclave = EnclaveId::generate(self.instance.clone(), now, &mut SysRng).unwrap();
        let authority = self.authority.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        (enclave, authority)
    }

    pub(crate) fn module(&self, now: SystemTime) -> SecurityModule {
        let (enclave, authority) = self.enclave(now);
        let role = Some("arn:aws:iam::123456789012:role/Webserver".parse().unwrap());
        SecurityModule::new(Identity { enclave, role, authority })
    }
}

/// Measurements of an image that does not exist.
pub(crate) fn measurements() -> Measurements {
    let pcr = |byte| Pcr::from_bytes([byte; 48]);
    Measurements { pcr0: pcr(0xa0), pcr1: pcr(0xa1), pcr2: pcr(0xa2), pcr8: Some(pcr(0xa8)) }
}

/// Asks for a document with a nonce.
pub(crate) fn attest(module: &mut SecurityModule, now: SystemTime, nonce: &[u8]) -> Vec<u8> {
    let request = Request::Attestation { user_data: None, nonce: Some(nonce.to_vec()), public_key: None };
    match Response::decode(&module.handle(&request.encode(), now)) {
        Ok(Response::Attestation { document }) => document,
        other => panic!("no document but {other:?}"),
    }
}
