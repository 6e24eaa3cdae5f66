//! The service without network, TLS and signatures: `Service::handle`, called.

use std::path::Path;
use std::time::SystemTime;

use attestation::roots::Roots;
use attestation::verify::AgeLimit;
use kms::audit::AuditLog;
use kms::operations::{Caller, Parts, Service};
use kms::policy::IdentityPolicy;
use kms::principal::Principal;
use kms::recipient::{DEFAULT_MAX_AGE, Verifier};
use kms::store::{MasterKey, Store};
use kms_protocol::cms::Encoding;
use serde_json::json;
use zeroize::Zeroizing;

use super::enclave::Enclave;
use super::request::{ACCOUNT, CALLER, REGION, prepare};

/// A service with one key, which only this enclave may use, and a request for it.
pub(super) struct InProcess {
    service: Service,
    caller: Principal,
    request: Vec<u8>,
}

impl InProcess {
    pub(super) fn new(folder: &Path, enclave: &Enclave) -> Self {
        let age = AgeLimit::new(DEFAULT_MAX_AGE);
        let service = Service::new(Parts {
            store: Store::create(&folder.join("keys.db"), &MasterKey::generate().unwrap()).unwrap(),
            verifier: Verifier::new(Roots::from(&enclave.root), age, Encoding::Ber),
            audit: AuditLog::open(&folder.join("audit.log")).unwrap(),
            account: ACCOUNT.into(),
            region: REGION.into(),
        });
        let everything = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
        });
        let caller = Principal {
            arn: CALLER.into(),
            access_key_id: "AKIDEXAMPLE".into(),
            secret: Zeroizing::new("secret".into()),
            session_token: None,
            identity_policy: Some(IdentityPolicy::parse(&everything.to_string()).unwrap()),
        };
        let mut made = Self { service, caller, request: Vec::new() };
        made.request = prepare(enclave, |operation, body| made.ask(operation, body).to_vec());
        made
    }

    /// Decrypt with Recipient.
    pub(super) fn decrypt(&self) -> Zeroizing<Vec<u8>> {
        self.ask("Decrypt", &self.request)
    }

    fn ask(&self, operation: &str, body: &[u8]) -> Zeroizing<Vec<u8>> {
        let caller = Caller { principal: &self.caller, request_id: "request", source: "bench" };
        self.service.handle(&caller, operation, body, SystemTime::now()).unwrap()
    }
}
