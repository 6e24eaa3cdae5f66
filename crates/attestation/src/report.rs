//! The account of a verification, step by step: for people and programs that want to see how far a document got.
//!
//! A report decides nothing. [`examine`] asks [`verify_against`] for the verdict, and describes what it was given. What a
//! document says of itself stands in [`Content::Verified`] only if every step passed. Serialised, the claims of a verified document
//! are members of the report itself, those of a refused one are below `Unproven`: whoever reads `PCRs` reads proven ones or none.

use std::collections::BTreeMap;
use std::time::SystemTime;

use der::DateTime;
use serde::{Serialize, Serializer};

use crate::certificate::Certificate;
use crate::cose::SignedPayload;
use crate::document::AttestationDocument;
use crate::pcr::Pcr;
use crate::policy::{self, Age, AgeLimit, Comparison, Policy};
use crate::roots::Roots;
use crate::verify::{Step, VerifiedDocument, VerifyError, verify_against};

/// What is written for a time that no calendar reaches.
const UNKNOWN_TIME: &str = "unknown";

/// A verification and its account.
#[derive(Debug)]
pub struct Examination {
    /// The verdict.
    pub outcome: Result<VerifiedDocument, VerifyError>,
    /// How it came to it.
    pub report: Report,
}

/// Verifies as [`verify_against`] does, and reports on every step.
#[must_use]
pub fn examine(signed: &[u8], roots: &Roots, time: SystemTime, policy: &Policy) -> Examination {
    let outcome = verify_against(signed, roots, time, policy);
    let report = Report::new(signed, roots, time, policy, &outcome);
    Examination { outcome, report }
}

/// The account of one verification.
#[derive(Debug, Clone)]
pub struct Report {
    verified_at: String,
    failure: Option<Failure>,
    steps: Steps,
    content: Content,
}

/// What a document says, and whether that is to be believed.
#[derive(Debug, Clone)]
pub enum Content {
    /// Every step passed.
    Verified(Claims),
    /// A step refused the document: what it says may be anybody's invention, and is shown to find the mistake.
    Unproven(Claims),
    /// It could not be read.
    Unreadable,
}

/// What a document says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Claims {
    /// The enclave.
    #[serde(rename = "ModuleID")]
    pub module_id: String,
    /// True if PCR 0 is all zeros or missing.
    pub debug: bool,
    /// When the document was made, RFC 3339.
    pub timestamp: String,
    /// The same in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Every locked register by its number.
    #[serde(rename = "PCRs")]
    pub pcrs: BTreeMap<u8, Pcr>,
    /// The nonce, hexadecimal.
    pub nonce: Option<String>,
    /// The user data, hexadecimal.
    pub user_data: Option<String>,
    /// The public key, hexadecimal.
    pub public_key: Option<String>,
    /// The certificates, root first.
    pub certificates: Vec<CertificateReport>,
}

/// One certificate of the chain.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum CertificateReport {
    /// One that meets the profile.
    Readable(ReadableCertificate),
    /// One that does not.
    #[serde(rename_all = "PascalCase")]
    Unreadable {
        /// Position, counted from the root, 0.
        position: usize,
        /// Its length in bytes.
        length: usize,
        /// What is wrong.
        error: String,
    },
}

/// What people compare of a certificate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReadableCertificate {
    /// Position, counted from the root, 0.
    pub position: usize,
    /// Its length in bytes.
    pub length: usize,
    /// The subject's name, RFC 4514.
    pub subject: String,
    /// The issuer's name, RFC 4514.
    pub issuer: String,
    /// First moment of validity, RFC 3339.
    pub not_before: String,
    /// Last moment of validity, RFC 3339.
    pub not_after: String,
    /// The P-384 key as a point of SEC 1, hexadecimal.
    pub key: String,
    /// SHA-256 of the DER.
    #[serde(rename = "SHA256")]
    pub sha256: String,
}

/// The step that refused the document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// Why.
    pub reason: String,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// It was made, and found nothing wrong.
    #[serde(rename = "passed")]
    Passed,
    /// It refused the document.
    #[serde(rename = "failed")]
    Failed,
    /// An earlier step refused the document.
    #[serde(rename = "not reached")]
    NotReached,
    /// Nobody asked for it.
    #[serde(rename = "not asked")]
    NotAsked,
}

/// The six steps in their order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Steps {
    /// Reading the document.
    pub structure: StepReport<StructureDetails>,
    /// Following the certificates to a trusted root.
    pub chain: StepReport<ChainDetails>,
    /// The certificates' dates.
    pub dates: StepReport<DatesDetails>,
    /// The document's signature.
    pub signature: StepReport<SignatureDetails>,
    /// The document's age.
    pub age: StepReport<AgeDetails>,
    /// The relying party's expectations.
    pub policy: StepReport<PolicyDetails>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepReport<T> {
    /// What became of it.
    pub status: Status,
    /// What it compared with what; `None` before it is reached.
    pub details: Option<T>,
}

/// Of the structure.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StructureDetails {
    /// The signed document's length in bytes.
    pub length: usize,
}

/// Of the chain.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChainDetails {
    /// SHA-256 of every trusted root.
    pub trusted_roots: Vec<String>,
    /// SHA-256 of what the document gives for its root.
    pub root: Option<String>,
}

/// Of the dates.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DatesDetails {
    /// The time as of which they are judged, RFC 3339.
    pub at: String,
}

/// Of the signature.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignatureDetails {
    /// Always ES384: ECDSA on P-384 over SHA-384.
    pub algorithm: &'static str,
}

/// Of the age.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgeDetails {
    /// Seconds from the time stamp to the time of judgement, rounded down; negative for one in the future.
    pub age_seconds: i64,
    /// The greatest that is accepted.
    pub max_age_seconds: Option<u64>,
    /// How far the future may reach.
    pub max_future_seconds: Option<u64>,
}

/// Of the policy.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDetails {
    /// True if the document is a debug enclave's.
    pub debug: bool,
    /// True if that is accepted.
    pub allow_debug: bool,
    /// Registers that must match in any case.
    pub registers: Vec<RegisterReport>,
    /// Sets of which one must match.
    pub sets: Vec<SetReport>,
    /// The accepted signers.
    pub signer: Option<SignerReport>,
    /// The nonce.
    pub nonce: Option<BytesReport>,
    /// The user data.
    pub user_data: Option<BytesReport>,
    /// The public key.
    pub public_key: Option<BytesReport>,
}

/// One register, expected and found.
#[derive(Debug, Clone, Serialize)]
pub struct RegisterReport {
    /// Its number.
    #[serde(rename = "PCR")]
    pub index: u8,
    /// The policy's value.
    #[serde(rename = "Expected")]
    pub expected: Pcr,
    /// The document's value, if it has one.
    #[serde(rename = "Found")]
    pub found: Option<Pcr>,
    /// True if they are the same.
    #[serde(rename = "Matches")]
    pub matches: bool,
}

/// One acceptable set.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetReport {
    /// Its name.
    pub name: String,
    /// True if every register matches.
    pub matches: bool,
    /// Each register.
    pub registers: Vec<RegisterReport>,
}

/// Accepted values of PCR 8.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignerReport {
    /// Those of the policy.
    pub accepted: Vec<Pcr>,
    /// The document's.
    pub found: Option<Pcr>,
    /// True if it is one of them.
    pub matches: bool,
}

/// Bytes expected and found, hexadecimal.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BytesReport {
    /// The policy's.
    pub expected: String,
    /// The document's, if it has any.
    pub found: Option<String>,
    /// True if they are the same.
    pub matches: bool,
}

impl Report {
    /// What the document says, and whether that is to be believed.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The time as of which the document was judged, RFC 3339.
    #[must_use]
    pub fn verified_at(&self) -> &str {
        &self.verified_at
    }

    /// The step that refused the document, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Every step.
    #[must_use]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    fn new(
        signed: &[u8],
        roots: &Roots,
        time: SystemTime,
        policy: &Policy,
        outcome: &Result<VerifiedDocument, VerifyError>,
    ) -> Self {
        let refused;
        let document = match outcome {
            Ok(verified) => Some(&verified.document),
            Err(_) => {
                refused = read(signed);
                refused.as_ref()
            }
        };
        let failure = outcome.as_ref().err();
        let content = match (document, failure) {
            (Some(document), None) => Content::Verified(Claims::new(document)),
            (Some(document), Some(_)) => Content::Unproven(Claims::new(document)),
            (None, _) => Content::Unreadable,
        };
        let verdict = Verdict(failure.map(VerifyError::step));
        let age_limit = policy.age;
        let age = verdict.step(Step::Age, || AgeDetails::new(document?, time, age_limit));
        let expectations = verdict.step(Step::Policy, || Some(PolicyDetails::new(document?, policy)));
        let steps = Steps {
            structure: verdict.step(Step::Structure, || Some(StructureDetails { length: signed.len() })),
            chain: verdict.step(Step::Chain, || Some(ChainDetails::new(document?, roots))),
            dates: verdict.step(Step::Dates, || Some(DatesDetails { at: text(time) })),
            signature: verdict.step(Step::Signature, || Some(SignatureDetails { algorithm: "ES384" })),
            age: age.unless(age_limit.is_none()),
            policy: expectations.unless(policy.demands_nothing()),
        };
        let failure = failure.map(|error| Failure { step: error.step(), reason: error.to_string() });
        Self { verified_at: text(time), failure, steps, content }
    }
}

/// The document of an envelope, believed or not.
fn read(signed: &[u8]) -> Option<AttestationDocument> {
    let envelope = SignedPayload::from_bytes(signed).ok()?;
    AttestationDocument::from_payload(envelope.payload()).ok()
}

/// The step that refused, from which follows what became of the others.
struct Verdict(Option<Step>);

impl Verdict {
    fn status(&self, step: Step) -> Status {
        match self.0 {
            Some(failed) if step == failed => Status::Failed,
            Some(failed) if step > failed => Status::NotReached,
            _ => Status::Passed,
        }
    }

    fn step<T>(&self, step: Step, details: impl FnOnce() -> Option<T>) -> StepReport<T> {
        let status = self.status(step);
        StepReport { status, details: if status == Status::NotReached { None } else { details() } }
    }
}

impl<T> StepReport<T> {
    /// The same, but not asked for if nobody did: what passed then is nothing.
    fn unless(mut self, unasked: bool) -> Self {
        if unasked && self.status == Status::Passed {
            self.status = Status::NotAsked;
        }
        self
    }
}

impl Claims {
    fn new(document: &AttestationDocument) -> Self {
        let certificates = document.cabundle.iter().chain([&document.certificate]).enumerate();
        Self {
            module_id: document.module_id.clone(),
            debug: policy::is_debug(document),
            timestamp: document.made_at().map_or_else(|| UNKNOWN_TIME.to_owned(), text),
            timestamp_ms: document.timestamp,
            pcrs: document.pcrs.iter().map(|(index, pcr)| (index.get(), *pcr)).collect(),
            nonce: document.nonce.as_ref().map(hex::encode),
            user_data: document.user_data.as_ref().map(hex::encode),
            public_key: document.public_key.as_ref().map(hex::encode),
            certificates: certificates.map(|(position, der)| CertificateReport::new(position, der)).collect(),
        }
    }
}

impl CertificateReport {
    fn new(position: usize, der: &[u8]) -> Self {
        let length = der.len();
        match Certificate::from_der(der) {
            Ok(certificate) => Self::Readable(ReadableCertificate {
                position,
                length,
                subject: certificate.subject(),
                issuer: certificate.issuer(),
                not_before: text(certificate.not_before()),
                not_after: text(certificate.not_after()),
                key: hex::encode(certificate.public_key().to_sec1_point(false).as_bytes()),
                sha256: hex::encode(certificate.fingerprint()),
            }),
            Err(error) => Self::Unreadable { position, length, error: error.to_string() },
        }
    }
}

impl ChainDetails {
    fn new(document: &AttestationDocument, roots: &Roots) -> Self {
        let root = document.cabundle.first().and_then(|der| Certificate::from_der(der).ok());
        Self {
            trusted_roots: roots.fingerprints().map(hex::encode).collect(),
            root: root.map(|root| hex::encode(root.fingerprint())),
        }
    }
}

impl AgeDetails {
    fn new(document: &AttestationDocument, time: SystemTime, limit: Option<AgeLimit>) -> Option<Self> {
        let age_seconds = match policy::age(document.timestamp, time) {
            Age::Past(age) => i64::try_from(age.as_secs()).ok()?,
            Age::Future(ahead) => i64::try_from(ahead.as_secs()).ok()?.checked_neg()?,
        };
        Some(Self {
            age_seconds,
            max_age_seconds: limit.map(|limit| limit.max_age.as_secs()),
            max_future_seconds: limit.map(|limit| limit.max_future.as_secs()),
        })
    }
}

impl PolicyDetails {
    fn new(document: &AttestationDocument, policy: &Policy) -> Self {
        let registers = |expected| policy::compare(expected, document).map(RegisterReport::new).collect();
        let sets = policy.accept.iter().map(|set| {
            let registers: Vec<RegisterReport> = registers(set.pcrs());
            let matches = registers.iter().all(|register| register.matches);
            SetReport { name: set.name().to_owned(), matches, registers }
        });
        let found = policy::register(document, Policy::SIGNER_PCR).copied();
        let signer = (!policy.signers.is_empty()).then(|| SignerReport {
            accepted: policy.signers.iter().copied().collect(),
            found,
            matches: found.is_some_and(|found| policy.signers.contains(&found)),
        });
        Self {
            debug: policy::is_debug(document),
            allow_debug: policy.allow_debug,
            registers: registers(&policy.pcrs),
            sets: sets.collect(),
            signer,
            nonce: BytesReport::new(policy.nonce.as_deref(), document.nonce.as_deref()),
            user_data: BytesReport::new(policy.user_data.as_deref(), document.user_data.as_deref()),
            public_key: BytesReport::new(policy.public_key.as_deref(), document.public_key.as_deref()),
        }
    }
}

impl RegisterReport {
    fn new(comparison: Comparison) -> Self {
        Self {
            index: comparison.index.get(),
            expected: comparison.expected,
            found: comparison.found,
            matches: comparison.matches(),
        }
    }
}

impl BytesReport {
    fn new(expected: Option<&[u8]>, found: Option<&[u8]>) -> Option<Self> {
        expected.map(|bytes| Self {
            expected: hex::encode(bytes),
            found: found.map(hex::encode),
            matches: expected == found,
        })
    }
}

/// RFC 3339 in UTC, whole seconds.
fn text(time: SystemTime) -> String {
    DateTime::from_system_time(time).map_or_else(|_| UNKNOWN_TIME.to_owned(), |time| time.to_string())
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shape<'a> {
            verified: bool,
            verified_at: &'a str,
            #[serde(flatten)]
            claims: Option<&'a Claims>,
            failure: Option<&'a Failure>,
            steps: &'a Steps,
            unproven: Option<&'a Claims>,
        }
        let (claims, unproven) = match &self.content {
            Content::Verified(claims) => (Some(claims), None),
            Content::Unproven(claims) => (None, Some(claims)),
            Content::Unreadable => (None, None),
        };
        Shape {
            verified: claims.is_some(),
            verified_at: &self.verified_at,
            claims,
            failure: self.failure.as_ref(),
            steps: &self.steps,
            unproven,
        }
        .serialize(serializer)
    }
}
