//! The security module against any bytes in place of requests, beside a model that is simple enough to be read as a
//! statement of the rules. The model shares with the module how a request is *read*; registers, locks and answers it
//! has of its own, with `sha2` and `ciborium`.
//!
//! What holds after each request: the answer is short enough, is exactly what the rules say, and encoded as AWS's modules
//! encode it; what was locked before the guest ran is as it was. A document is signed with a key that the root vouches
//! for, shows every locked register with its value and no other, and echoes what it was given.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

#[cfg(test)]
mod tests;

use std::sync::{LazyLock, Mutex, PoisonError};

use attestation::certificate::Certificate;
use attestation::cose::SignedPayload;
use attestation::pki::RootAuthority;
use attestation::verify::{Policy, verify};
use ciborium::Value;
use sha2::{Digest, Sha384};

use super::*;
use crate::protocol::Response;

/// Requests of one input that are served.
const MOST_REQUESTS: usize = 64;
const MODULE_ID: &str = "i-1234567890abcdef0-enc0123456789abcdef";
const ROLE: &str = "arn:aws:iam::123456789012:role/Webserver";

/// What does not change from input to input: above all the keys, which take long to make.
struct Bench {
    module: SecurityModule,
    root: Certificate,
    /// A certificate of a signing key that was followed to the root.
    followed: Option<Certificate>,
}

static BENCH: LazyLock<Mutex<Bench>> = LazyLock::new(|| Mutex::new(Bench::new()));

/// 2026-11-22 03:00:00 UTC.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_316_400)
}

fn measurements() -> Measurements {
    let pcr = |byte| Pcr::from_bytes([byte; 48]);
    Measurements { pcr0: pcr(0xa0), pcr1: pcr(0xa1), pcr2: pcr(0xa2), pcr8: Some(pcr(0xa8)) }
}

/// Sends the packets of an input to a security module that was just told what was measured. Returns how many were
/// requests.
///
/// # Panics
/// One of the rules was broken.
pub fn nsm(data: &[u8]) -> usize {
    // After a failure, what is asked next starts anew as well.
    let mut bench = BENCH.lock().unwrap_or_else(PoisonError::into_inner);
    let mut model = bench.begin();
    let mut understood = 0;
    for packet in corpus::packets(data).take(MOST_REQUESTS) {
        let response = bench.module.handle(packet, now());
        assert!(response.len() <= MAX_RESPONSE_LEN, "the response is longer than a guest can take");
        understood += usize::from(bench.check(&mut model, packet, &response));
        read_as_guest(packet);
    }
    let shown: Vec<_> = bench.module.attested_pcrs().into_iter().collect();
    let boot: Vec<_> = shown.iter().take(usize::from(BOOT_LOCKED)).map(|(_, pcr)| *pcr).collect();
    assert_eq!(boot, model.boot, "what was locked before the guest ran has changed");
    understood
}

/// The guest's library reads what it takes for a response: what it accepts is what it would write.
fn read_as_guest(bytes: &[u8]) {
    if let Ok(response) = Response::decode(bytes) {
        assert_eq!(Response::decode(&response.encode()).as_ref(), Ok(&response));
    }
}

impl Bench {
    fn new() -> Self {
        let enclave: EnclaveId = MODULE_ID.parse().expect("a module's name");
        let root = RootAuthority::generate(now(), &mut SysRng).expect("a root");
        let host = root.issue_host(enclave.instance(), now(), &mut SysRng).expect("a host");
        let authority = host.issue_enclave(&enclave, now(), &mut SysRng).expect("an authority");
        let role = Some(ROLE.parse().expect("a role"));
        let module = SecurityModule::new(Identity { enclave, role, authority });
        Self { module, root: root.chain()[0].clone(), followed: None }
    }

    /// Forgets all but the keys, and has what was measured told again.
    fn begin(&mut self) -> Model {
        self.module.bank = PcrBank::default();
        self.module.measured = false;
        let early = self.module.handle(&Request::DescribeNsm.encode(), now());
        assert_eq!(read(&early), error(ErrorCode::InvalidOperation), "it served before it was measured");
        self.module.set_measurements(Some(&measurements())).expect("it was not measured before");
        assert!(self.module.set_measurements(None).is_err(), "it was measured twice");
        Model::new(&self.module.attested_pcrs())
    }

    /// Compares a response with what the rules say. True if `packet` was a request.
    fn check(&mut self, model: &mut Model, packet: &[u8], response: &[u8]) -> bool {
        let found = read(response);
        let request = match Request::decode(packet) {
            Ok(request) => request,
            Err(why) => {
                assert_eq!(found, error(why.error_code()));
                return false;
            }
        };
        assert_eq!(Request::decode(&request.encode()).as_ref(), Ok(&request), "it reads back as another");
        match &request {
            Request::GetRandom => {
                let random = field(&found, "GetRandom", "random").and_then(Value::as_bytes);
                assert_eq!(random.map(Vec::len), Some(RANDOM_LEN));
            }
            Request::Attestation { .. } => self.check_document(model, &request, &found),
            _ => assert_eq!(found, model.answer(&request), "{request:?}"),
        }
        true
    }

    fn check_document(&mut self, model: &Model, request: &Request, found: &Value) {
        let Request::Attestation { user_data, nonce, public_key } = request else { return };
        // The longest request with four certificates and all registers still fits into a response.
        let signed = field(found, "Attestation", "document").and_then(Value::as_bytes).expect("a document");
        let envelope = SignedPayload::from_bytes(signed).expect("an envelope");
        let document = AttestationDocument::from_payload(envelope.payload()).expect("a document");
        if self.followed.as_ref().map(Certificate::as_der) != Some(&document.certificate) {
            let policy = Policy { allow_debug: true, ..Policy::default() };
            let verified = verify(signed, &self.root, now(), &policy).expect("a document that verifies");
            self.followed = verified.certificates.last().cloned();
        }
        let leaf = self.followed.as_ref().expect("a certificate");
        assert!(envelope.is_signed_with(leaf.public_key()), "the signature is wrong");
        let shown: Vec<_> = document.pcrs.iter().map(|(index, pcr)| (index.get(), *pcr.as_bytes())).collect();
        assert_eq!(shown, model.locked(), "the document shows other registers");
        assert_eq!(document.module_id, MODULE_ID);
        assert_eq!((&document.user_data, &document.nonce), (user_data, nonce));
        assert_eq!(&document.public_key, public_key);
    }
}

/// The rules of registers and locks.
struct Model {
    registers: [([u8; 48], bool); PCR_COUNT as usize],
    /// Registers 0 to 15 at the start.
    boot: Vec<Pcr>,
}

impl Model {
    /// Of what the module shows at its start, only the two registers that follow from its names are believed.
    fn new(shown: &BTreeMap<PcrIndex, Pcr>) -> Self {
        let mut registers = [([0; 48], false); PCR_COUNT as usize];
        for (index, pcr) in shown {
            registers[usize::from(index.get())] = (*pcr.as_bytes(), true);
        }
        assert_eq!(shown.len(), usize::from(BOOT_LOCKED));
        for (index, byte) in [(0, 0xa0), (1, 0xa1), (2, 0xa2), (8, 0xa8), (5, 0), (15, 0)] {
            assert_eq!(registers[index], ([byte; 48], true), "PCR {index} is not what was measured");
        }
        Self { registers, boot: shown.values().copied().collect() }
    }

    fn locked(&self) -> Vec<(u8, [u8; 48])> {
        let numbered = (0..).zip(self.registers);
        numbered.filter(|(_, (_, locked))| *locked).map(|(index, (value, _))| (index, value)).collect()
    }

    fn answer(&mut self, request: &Request) -> Value {
        self.try_answer(request).unwrap_or_else(error)
    }

    fn try_answer(&mut self, request: &Request) -> Result<Value, ErrorCode> {
        match request {
            Request::DescribePcr { index } => {
                let (value, locked) = *self.register(*index)?;
                Ok(named("DescribePCR", vec![("lock", locked.into()), ("data", value.to_vec().into())]))
            }
            Request::ExtendPcr { index, data } => {
                let (value, _) = self.open_register(*index)?;
                *value = Sha384::new().chain_update(*value).chain_update(data).finalize().into();
                Ok(named("ExtendPCR", vec![("data", value.to_vec().into())]))
            }
            Request::LockPcr { index } => {
                self.open_register(*index)?.1 = true;
                Ok("LockPCR".into())
            }
            Request::LockPcrs { range } => {
                let below = self.registers.get_mut(..usize::from(*range)).ok_or(ErrorCode::InvalidIndex)?;
                below.iter_mut().for_each(|(_, locked)| *locked = true);
                Ok("LockPCRs".into())
            }
            Request::DescribeNsm => {
                let locked = self.locked().into_iter().map(|(index, _)| Value::from(index)).collect();
                Ok(named(
                    "DescribeNSM",
                    vec![
                        ("version_major", 1.into()),
                        ("version_minor", 0.into()),
                        ("version_patch", 0.into()),
                        ("module_id", MODULE_ID.into()),
                        ("max_pcrs", 32.into()),
                        ("locked_pcrs", Value::Array(locked)),
                        ("digest", "SHA384".into()),
                    ],
                ))
            }
            Request::Attestation { .. } | Request::GetRandom => Err(ErrorCode::InternalError),
        }
    }

    fn register(&mut self, index: u16) -> Result<&mut ([u8; 48], bool), ErrorCode> {
        self.registers.get_mut(usize::from(index)).ok_or(ErrorCode::InvalidIndex)
    }

    fn open_register(&mut self, index: u16) -> Result<&mut ([u8; 48], bool), ErrorCode> {
        let register = self.register(index)?;
        if register.1 { Err(ErrorCode::ReadOnlyIndex) } else { Ok(register) }
    }
}

/// A response as a CBOR value, if it is encoded in the shortest way and in definite lengths, as ciborium does it.
fn read(response: &[u8]) -> Value {
    let value: Value = ciborium::from_reader(response).expect("CBOR");
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).expect("CBOR can be written");
    assert_eq!(again, response, "the response is encoded in another way than AWS's");
    value
}

fn error(code: ErrorCode) -> Value {
    Value::Map(vec![("Error".into(), code.name().into())])
}

fn named(name: &str, fields: Vec<(&str, Value)>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Value::Map(vec![(name.into(), Value::Map(fields))])
}

/// The only field of a response of this name.
fn field<'v>(response: &'v Value, name: &str, field: &str) -> Option<&'v Value> {
    let [(found, Value::Map(fields))] = response.as_map()?.as_slice() else { return None };
    let [(only, value)] = fields.as_slice() else { return None };
    (found.as_text() == Some(name) && only.as_text() == Some(field)).then_some(value)
}
