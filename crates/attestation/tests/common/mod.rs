//! A hierarchy to test with, and certificates that break its rules.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod forge;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::certificate::Certificate;
use attestation::cose;
use attestation::document::AttestationDocument;
use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Pcr, PcrIndex};
use attestation::pki::{EnclaveAuthority, HostAuthority, Leaf, RootAuthority};
use getrandom::SysRng;

/// A fixed time, so that a failure can be repeated: 2026-11-22 03:00:00 UTC.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_316_400)
}

pub(crate) fn instance() -> InstanceId {
    "i-1234567890abcdef0".parse().unwrap()
}

pub(crate) fn enclave() -> EnclaveId {
    "i-1234567890abcdef0-enc0123456789abcdef".parse().unwrap()
}

/// Every level of a hierarchy, made at one time.
pub(crate) struct Hierarchy {
    pub(crate) root: RootAuthority,
    pub(crate) host: HostAuthority,
    pub(crate) enclave: EnclaveAuthority,
    pub(crate) leaf: Leaf,
}

impl Hierarchy {
    pub(crate) fn new(time: SystemTime) -> Self {
        let root = RootAuthority::generate(time, &mut SysRng).unwrap();
        let host = root.issue_host(&instance(), time, &mut SysRng).unwrap();
        let authority = host.issue_enclave(&enclave(), time, &mut SysRng).unwrap();
        let leaf = authority.issue_leaf(&enclave(), time, &mut SysRng).unwrap();
        Self { root, host, enclave: authority, leaf }
    }

    pub(crate) fn root_certificate(&self) -> &Certificate {
        &self.root.chain()[0]
    }

    /// A document with every field, of a production enclave, made by this leaf.
    pub(crate) fn document(&self, time: SystemTime) -> AttestationDocument {
        let pcr = |index| Pcr::from_bytes([0x40 + index; 48]);
        AttestationDocument {
            module_id: enclave().module_id(),
            timestamp: u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap(),
            pcrs: PcrIndex::all().take(16).map(|index| (index, pcr(index.get()))).collect::<BTreeMap<_, _>>(),
            certificate: self.leaf.certificate.as_der().to_vec(),
            cabundle: self.enclave.chain().iter().map(|link| link.as_der().to_vec()).collect(),
            public_key: Some(b"public key".to_vec()),
            user_data: Some(b"user data".to_vec()),
            nonce: Some(b"nonce".to_vec()),
        }
    }

    pub(crate) fn sign(&self, document: &AttestationDocument) -> Vec<u8> {
        cose::sign(&document.to_payload(), &self.leaf.key).unwrap()
    }
}
