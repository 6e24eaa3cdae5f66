//! Decrypt with a Recipient, beside the cryptography that it cannot do without.
//!
//! Needs no guest: the document is one that the security module makes, of a chain that `enclave` makes.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use aes::Aes256;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use attestation::certificate::Certificate;
use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use attestation::identity::EnclaveId;
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use attestation::roots::Roots;
use attestation::verify::AgeLimit;
use base64ct::{Base64, Encoding as _};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use kms::audit::AuditLog;
use kms::operations::{Caller, Parts, Service};
use kms::policy::IdentityPolicy;
use kms::principal::Principal;
use kms::recipient::{DEFAULT_MAX_AGE, Verifier};
use kms::store::{MasterKey, Store};
use kms_protocol::cms::{Encoding, open};
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::statistics::{ROUNDS, median};
use crate::verification::{Checks, lengths};

/// Requests in one round.
const REQUESTS: usize = 100;
/// What is decrypted: a data key.
const SECRET: [u8; 32] = [0x5a; 32];
const ACCOUNT: &str = "000000000000";
const REGION: &str = "local-1";

pub(crate) fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let enclave = Enclave::new(now);
    let service = Running::new(folder.path(), &enclave);
    let floor = Floor::new(&enclave.document);
    assert_eq!(*enclave.secret(&service.decrypt(now)), SECRET);

    let mut requests = Vec::new();
    let mut rounds: [Vec<Duration>; 4] = Default::default();
    for round in 0..=ROUNDS {
        let (latencies, decrypt) = times(|| _ = black_box(service.decrypt(now)));
        let spent = [
            decrypt,
            times(|| floor.checks.run()).1,
            times(|| floor.encrypt_key()).1,
            times(|| floor.aes()).1,
        ];
        if round > 0 {
            requests.extend(latencies);
            for (series, spent) in rounds.iter_mut().zip(spent) {
                series.push(spent);
            }
        }
    }
    let each = rounds.map(|series| median(series) / u32::try_from(REQUESTS).unwrap());
    show(each, requests, floor.checks.0.len());
}

/// How long each of many calls takes, and all of them together.
fn times(mut call: impl FnMut()) -> (Vec<Duration>, Duration) {
    let began = Instant::now();
    let each = (0..REQUESTS).map(|_| {
        let began = Instant::now();
        call();
        began.elapsed()
    });
    (each.collect(), began.elapsed())
}

fn show(each: [Duration; 4], mut latencies: Vec<Duration>, checks: usize) {
    let [decrypt, signatures, rsa, aes] = each;
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let line = |name: &str, duration: Duration| {
        println!("| {name} | {:.0} | {:.3} ms |", 1.0 / duration.as_secs_f64(), milliseconds(duration));
    };
    println!("| on one core | a second | each |\n|---|---|---|");
    line(
        &format!("{checks} checks of P-384 signatures: the document and the chain below the root"),
        signatures,
    );
    line("RSA-2048: the public key read, RSAES-OAEP with SHA-256", rsa);
    line("AES-256-GCM of the ciphertext, AES-256-CBC of the answer", aes);
    let floor = signatures + rsa + aes;
    line("all of these: the cryptography that cannot be left out", floor);
    line("Decrypt with Recipient (`Service::handle`)", decrypt);
    latencies.sort_unstable();
    let percentile = |hundredths: usize| milliseconds(latencies[(latencies.len() - 1) * hundredths / 100]);
    println!("\nLatency: {:.2} ms (p50), {:.2} ms (p99)", percentile(50), percentile(99));
    let ratio = decrypt.as_secs_f64() / floor.as_secs_f64();
    println!("Decrypt takes {ratio:.2} times as long as its cryptography (goal: at most 1.3)");
}

/// An enclave with its key, and the document that the security module signs for it.
struct Enclave {
    key: RsaPrivateKey,
    root: Certificate,
    document: Vec<u8>,
}

impl Enclave {
    fn new(now: SystemTime) -> Self {
        let key = RsaPrivateKey::new(&mut UnwrapErr(SysRng), 2048).unwrap();
        let enclave: EnclaveId = "i-1234567890abcdef0-enc0123456789abcdef".parse().unwrap();
        let root = RootAuthority::generate(now, &mut SysRng).unwrap();
        let host = root.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
        let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
        let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
        let pcr = |byte| Pcr::from_bytes([byte; 48]);
        let measurements = Measurements { pcr0: pcr(1), pcr1: pcr(2), pcr2: pcr(3), pcr8: None };
        module.set_measurements(Some(&measurements)).unwrap();
        let public_key = key.to_public_key().to_public_key_der().unwrap().into_vec();
        let request = Request::Attestation { user_data: None, nonce: None, public_key: Some(public_key) };
        let response = Response::decode(&module.handle(&request.encode(), now)).unwrap();
        let Response::Attestation { document } = response else { panic!("no document but {response:?}") };
        Self { key, root: root.chain()[0].clone(), document }
    }

    /// What an answer holds.
    fn secret(&self, answer: &[u8]) -> Zeroizing<Vec<u8>> {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let sealed = Base64::decode_vec(answer["CiphertextForRecipient"].as_str().unwrap()).unwrap();
        open(&self.key, &sealed).unwrap()
    }
}

/// A service with one key, which only this enclave may use, and a request for it.
struct Running {
    service: Service,
    caller: Principal,
    request: Vec<u8>,
}

impl Running {
    fn new(folder: &Path, enclave: &Enclave) -> Self {
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
            arn: format!("arn:aws:iam::{ACCOUNT}:user/app"),
            access_key_id: "AKIDEXAMPLE".into(),
            secret: Zeroizing::new("secret".into()),
            session_token: None,
            identity_policy: Some(IdentityPolicy::parse(&everything.to_string()).unwrap()),
        };
        let mut running = Self { service, caller, request: Vec::new() };
        running.request = running.prepare(enclave).to_string().into_bytes();
        running
    }

    /// Makes the key and the ciphertext.
    fn prepare(&self, enclave: &Enclave) -> Value {
        let root = format!("arn:aws:iam::{ACCOUNT}:root");
        let pcr0 = Pcr::from_bytes([1; 48]).to_string();
        let condition = json!({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": pcr0}});
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": root}, "Resource": "*",
             "Action": ["kms:CreateKey", "kms:Encrypt", "kms:PutKeyPolicy"]},
            {"Effect": "Allow", "Principal": {"AWS": self.caller.arn}, "Resource": "*", "Action": "kms:Decrypt",
             "Condition": condition},
        ]});
        let ask = |operation: &str, body: &Value| -> Value {
            let answer = self.ask(operation, body.to_string().as_bytes(), SystemTime::now());
            serde_json::from_slice(&answer).unwrap()
        };
        let key = ask("CreateKey", &json!({"Policy": policy.to_string()}));
        let plaintext = Base64::encode_string(&SECRET);
        let sealed = ask("Encrypt", &json!({"KeyId": key["KeyMetadata"]["KeyId"], "Plaintext": plaintext}));
        json!({"CiphertextBlob": sealed["CiphertextBlob"], "Recipient": {
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": Base64::encode_string(&enclave.document),
        }})
    }

    fn ask(&self, operation: &str, body: &[u8], now: SystemTime) -> Zeroizing<Vec<u8>> {
        let caller = Caller { principal: &self.caller, request_id: "request", source: "bench" };
        self.service.handle(&caller, operation, body, now).unwrap()
    }

    fn decrypt(&self, now: SystemTime) -> Zeroizing<Vec<u8>> {
        self.ask("Decrypt", &self.request, now)
    }
}

/// The least work that answers the request, with the primitives of the same libraries and nothing else of ours.
struct Floor {
    checks: Checks,
    public_key: Vec<u8>,
}

impl Floor {
    fn new(document: &[u8]) -> Self {
        let envelope = SignedPayload::from_bytes(document).unwrap();
        let read = AttestationDocument::from_payload(envelope.payload()).unwrap();
        let checks = Checks::over(&lengths(&read, envelope.payload()));
        Self { checks, public_key: read.public_key.unwrap() }
    }

    fn encrypt_key(&self) {
        let key = RsaPublicKey::from_public_key_der(&self.public_key).unwrap();
        let encrypted = key.encrypt(&mut UnwrapErr(SysRng), Oaep::<Sha256>::new(), &[7; 32]);
        black_box(encrypted.unwrap());
    }

    fn aes(&self) {
        let mut bytes = SECRET;
        let cipher = Aes256Gcm::new((&[7; 32]).into());
        let tag = cipher.encrypt_inout_detached(&Nonce::from([7; 12]), &[0; 52], bytes.as_mut_slice().into());
        black_box(tag.unwrap());
        let cipher = cbc::Encryptor::<Aes256>::new((&[7; 32]).into(), (&[7; 16]).into());
        black_box(cipher.encrypt_padded_vec::<Pkcs7>(&bytes));
    }
}
