//! A service with a store and a log of its own, and people who call it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::roots::Roots;
use attestation::verify::AgeLimit;
use base64ct::{Base64, Encoding as _};
use kms::audit::AuditLog;
use kms::error::{ErrorKind, KmsError};
use kms::operations::{Caller, Parts, Service};
use kms::policy::IdentityPolicy;
use kms::principal::Principal;
use kms::recipient::{DEFAULT_MAX_AGE, Verifier};
use kms::store::{MasterKey, Store};
use kms_protocol::cms::Encoding;
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) const ACCOUNT: &str = "000000000000";
pub(crate) const REGION: &str = "local-1";
/// A key that nobody made.
pub(crate) const NO_KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// A fixed time, so that a failure can be repeated: 2026-11-22 03:00:00 UTC.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_316_400)
}

pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) now: SystemTime,
    /// May do everything, where a key's policy leaves it to identity policies.
    pub(crate) admin: Principal,
    /// May do what key policies allow it by name.
    pub(crate) app: Principal,
    log: PathBuf,
    _folder: TempDir,
}

impl World {
    /// Trusts no root.
    pub(crate) fn new() -> Self {
        Self::trusting(Roots::new())
    }

    pub(crate) fn trusting(roots: Roots) -> Self {
        Self::encoding(roots, Encoding::Ber)
    }

    pub(crate) fn encoding(roots: Roots, encoding: Encoding) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        let master = MasterKey::generate().unwrap();
        let age = AgeLimit::new(DEFAULT_MAX_AGE);
        let service = Service::new(Parts {
            store: Store::create(&folder.path().join("keys.db"), &master).unwrap(),
            verifier: Verifier::new(roots, age, encoding),
            audit: AuditLog::open(&log).unwrap(),
            account: ACCOUNT.into(),
            region: REGION.into(),
        });
        let everything =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;
        Self {
            service,
            now: now(),
            admin: principal("admin", Some(everything)),
            app: principal("app", None),
            log,
            _folder: folder,
        }
    }

    pub(crate) fn call_as(&self, who: &Principal, operation: &str, body: &Value) -> Result<Value, KmsError> {
        let answer = self.call_bytes(who, operation, body.to_string().as_bytes())?;
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer).unwrap()) }
    }

    pub(crate) fn call_bytes(
        &self,
        who: &Principal,
        operation: &str,
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let caller = Caller { principal: who, request_id: "request-1", source: "test" };
        self.service.handle(&caller, operation, body, self.now)
    }

    /// As the administrator.
    pub(crate) fn call(&self, operation: &str, body: &Value) -> Result<Value, KmsError> {
        self.call_as(&self.admin, operation, body)
    }

    /// What the administrator is answered when it goes well.
    pub(crate) fn ok(&self, operation: &str, body: &Value) -> Value {
        self.call(operation, body).unwrap()
    }

    /// Why the administrator is refused.
    pub(crate) fn refusal(&self, operation: &str, body: &Value) -> ErrorKind {
        self.call(operation, body).unwrap_err().kind()
    }

    /// The id of a new symmetric key with AWS's default policy.
    pub(crate) fn key(&self) -> String {
        self.new_key(&json!({}))
    }

    pub(crate) fn new_key(&self, request: &Value) -> String {
        text(&self.ok("CreateKey", request)["KeyMetadata"]["KeyId"]).to_owned()
    }

    /// A key that this policy says everything about.
    pub(crate) fn key_with_policy(&self, policy: &Value) -> String {
        self.new_key(&json!({"Policy": policy.to_string(), "BypassPolicyLockoutSafetyCheck": true}))
    }

    /// A ciphertext of the administrator's, in base64.
    pub(crate) fn encrypted(&self, key: &str, plaintext: &[u8]) -> String {
        let answer = self.ok("Encrypt", &json!({"KeyId": key, "Plaintext": base64(plaintext)}));
        text(&answer["CiphertextBlob"]).to_owned()
    }

    /// Every line of the log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn last_logged(&self) -> Value {
        self.log().pop().unwrap()
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now += by;
    }
}

pub(crate) fn principal(name: &str, identity_policy: Option<&str>) -> Principal {
    Principal {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
        access_key_id: "AKIDEXAMPLE".into(),
        secret: Zeroizing::new("secret".into()),
        session_token: None,
        identity_policy: identity_policy.map(|text| IdentityPolicy::parse(text).unwrap()),
    }
}

pub(crate) fn key_arn(id: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}")
}

pub(crate) fn alias_arn(alias: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:{alias}")
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    Base64::decode_vec(text(value)).unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
