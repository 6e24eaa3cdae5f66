//! A security module, in this process, of a host with a hierarchy of its own.

use std::sync::Mutex;
use std::time::SystemTime;

use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use getrandom::SysRng;
use guest::nsm::NsmError;
use kms_client::attester::Attester;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};

/// The security module of an enclave, measured and locked.
pub(crate) struct Module(Mutex<SecurityModule>);

impl Module {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
        let enclave: EnclaveId = "i-1234567890abcdef0-enc0123456789abcdef".parse().unwrap();
        let root = RootAuthority::generate(now, &mut SysRng).unwrap();
        let host = root.issue_host(&instance, now, &mut SysRng).unwrap();
        let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
        let pcr = |byte| Pcr::from_bytes([byte; 48]);
        let measured = Measurements { pcr0: pcr(0xa0), pcr1: pcr(0xa1), pcr2: pcr(0xa2), pcr8: None };
        module.set_measurements(Some(&measured)).unwrap();
        Self(Mutex::new(module))
    }
}

impl Attester for Module {
    fn attest(&self, public_key: Vec<u8>) -> Result<Vec<u8>, NsmError> {
        let request = Request::Attestation { user_data: None, nonce: None, public_key: Some(public_key) };
        let answer = self.0.lock().unwrap().handle(&request.encode(), SystemTime::now());
        match Response::decode(&answer)? {
            Response::Attestation { document } => Ok(document),
            Response::Error(code) => Err(NsmError::Refused(code)),
            _ => Err(NsmError::Unexpected),
        }
    }
}
