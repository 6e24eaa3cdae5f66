//! A host with an enclave on it, for tests of its security module.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::certificate::Certificate;
use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::{EnclaveAuthority, HostAuthority, RootAuthority};
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};

/// What the enclave's id becomes in documents.
pub(crate) const MODULE_ID: &str = "i-1234567890abcdef0-enc0123456789abcdef";
/// AWS user guide, "Where to get an enclave's measurements", for the role below.
pub(crate) const PCR3_OF_THE_USER_GUIDE: &str =
    "78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6";
/// The same, for the instance below.
pub(crate) const PCR4_OF_THE_USER_GUIDE: &str =
    "08f996b5d43e047a9eb51e7f548bfee7e164fd7dc8f65541f2ac09d6545ac812719327281c401a67a10fcba87ae79ce0";
const ROLE: &str = "arn:aws:iam::123456789012:role/Webserver";
const INSTANCE: &str = "i-1234567890abcdef0";

/// A fixed time, so that a failure can be repeated: 2026-11-22 03:00:00 UTC.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_316_400)
}

/// A host's part of the hierarchy.
pub(crate) struct Host {
    authority: HostAuthority,
}

impl Host {
    pub(crate) fn new(now: SystemTime) -> Self {
        let instance: InstanceId = INSTANCE.parse().unwrap();
        let root = RootAuthority::generate(now, &mut SysRng).unwrap();
        Self { authority: root.issue_host(&instance, now, &mut SysRng).unwrap() }
    }

    pub(crate) fn root(&self) -> &Certificate {
        &self.authority.chain()[0]
    }

    pub(crate) fn enclave(&self, now: SystemTime) -> (EnclaveId, EnclaveAuthority) {
        let enclave: EnclaveId = MODULE_ID.parse().unwrap();
        let authority = self.authority.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        (enclave, authority)
    }

    /// A module that has not been told what was measured.
    pub(crate) fn module(&self, now: SystemTime) -> SecurityModule {
        let (enclave, authority) = self.enclave(now);
        SecurityModule::new(Identity { enclave, role: Some(ROLE.parse().unwrap()), authority })
    }
}

/// Measurements of an image that does not exist.
pub(crate) fn measurements() -> Measurements {
    let pcr = |byte| Pcr::from_bytes([byte; 48]);
    Measurements { pcr0: pcr(0xa0), pcr1: pcr(0xa1), pcr2: pcr(0xa2), pcr8: Some(pcr(0xa8)) }
}

/// Sends a request and reads the answer.
pub(crate) fn ask(module: &mut SecurityModule, request: &Request, now: SystemTime) -> Response {
    Response::decode(&module.handle(&request.encode(), now)).unwrap()
}

/// Asks for a document with a nonce.
pub(crate) fn attest(module: &mut SecurityModule, now: SystemTime, nonce: &[u8]) -> Vec<u8> {
    let request = Request::Attestation { user_data: None, nonce: Some(nonce.to_vec()), public_key: None };
    match ask(module, &request, now) {
        Response::Attestation { document } => document,
        other => panic!("no document but {other:?}"),
    }
}
