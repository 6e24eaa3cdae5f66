//! `enclave attest verify`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use attestation::certificate::Certificate;
use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use attestation::pcr::Pcr;
use attestation::verify::{ChainError, Policy, PolicyError, Step, VerifiedDocument, VerifyError, verify};
use serde::Serialize;

use crate::args::{AttestCommand, Bytes, Time, VerifyArgs};
use crate::certificate::CertificateReport;
use crate::error::{Failure, Result};
use crate::output::{self, Fields, printable};
use crate::{input, time};

pub(crate) fn attest(command: &AttestCommand) -> Result<()> {
    match command {
        AttestCommand::Verify(args) => verify_document(args),
    }
}

fn verify_document(args: &VerifyArgs) -> Result<()> {
    let root = input::root_certificate(&args.root)?;
    let document = input::document(&args.document)?;
    let policy = policy(args)?;
    let time = match args.at {
        None => SystemTime::now(),
        Some(Time::Fixed(timestamp)) => timestamp.into(),
        Some(Time::OfDocument) => time_of(&document)?,
    };
    let verified = verify(&document, &root, time, &policy).map_err(|error| refusal(&error, &root))?;
    let report = Report::new(&verified, time);
    if verified.debug {
        output::tell("warning: a debug enclave made this document: it proves nothing about the image");
    }
    output::print(args.output.format, &report, Report::text)
}

fn policy(args: &VerifyArgs) -> Result<Policy> {
    let mut pcrs = BTreeMap::new();
    for expected in &args.pcrs {
        let earlier = pcrs.insert(expected.index, expected.value);
        if earlier.is_some_and(|earlier| earlier != expected.value) {
            return Err(Failure::new(
                format_args!("--pcr gives two values for PCR {}", expected.index),
                "give one value for each register",
            ));
        }
    }
    let bytes = |option: &Option<Bytes>| option.as_ref().map(|bytes| bytes.0.clone());
    Ok(Policy {
        pcrs,
        nonce: bytes(&args.nonce),
        user_data: bytes(&args.user_data),
        public_key: bytes(&args.public_key),
        allow_debug: args.allow_debug,
    })
}

/// The time stamp that the document gives itself; the signature over it is checked afterwards.
fn time_of(document: &[u8]) -> Result<SystemTime> {
    let unreadable = |cause: String| {
        Failure::new(format_args!("the document is refused: structure: {cause}"), advice(Step::Structure))
    };
    let envelope = SignedPayload::from_bytes(document).map_err(|error| unreadable(error.to_string()))?;
    let document = AttestationDocument::from_payload(envelope.payload())
        .map_err(|error| unreadable(error.to_string()))?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(document.timestamp))
        .ok_or_else(|| unreadable("its time stamp is beyond every calendar".to_owned()))
}

fn refusal(error: &VerifyError, root: &Certificate) -> Failure {
    let next = match error {
        VerifyError::Chain(ChainError::OtherRoot) => {
            return Failure::new(
                format_args!("the document is refused: {error}"),
                format_args!(
                    "the root given is {}, SHA-256 {}: get the root of the host that made the document \
                     (`enclave pki export-root` there)",
                    root.subject(),
                    hex::encode(root.fingerprint()),
                ),
            );
        }
        VerifyError::Policy(PolicyError::Debug) => {
            "run the enclave without --debug; only for a test, accept it with --allow-debug"
        }
        VerifyError::Policy(PolicyError::Pcr(_) | PolicyError::NoSet(_) | PolicyError::Signer(_)) => {
            "another image, signer, role or host made it: compare with `enclave eif measure` and `enclave pki show`"
        }
        VerifyError::Policy(PolicyError::Nonce) => {
            "ask for a new document with your nonce: this one may be an old one played again"
        }
        other => advice(other.step()),
    };
    Failure::new(format_args!("the document is refused: {error}"), next)
}

const fn advice(step: Step) -> &'static str {
    match step {
        Step::Structure => "check that the whole document arrived, and nothing else",
        Step::Chain => "check that --root is the root of the host that made the document",
        Step::Dates => {
            "ask for a new document (they last about 3 hours), set the clock, or judge an old one at its own \
             time with --at"
        }
        Step::Signature => "do not trust it: ask for a new document and compare how it travels",
        Step::Age => "ask for a new document, or set the clock",
        Step::Policy => "do not trust the enclave until what it says is what you expect",
    }
}

/// What a verified document says, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    verified: bool,
    #[serde(rename = "ModuleID")]
    module_id: String,
    debug: bool,
    timestamp: String,
    #[serde(rename = "TimestampMs")]
    timestamp_ms: u64,
    verified_at: String,
    #[serde(rename = "PCRs")]
    pcrs: BTreeMap<u8, Pcr>,
    #[serde(serialize_with = "hexadecimal")]
    nonce: Option<Vec<u8>>,
    #[serde(serialize_with = "hexadecimal")]
    user_data: Option<Vec<u8>>,
    #[serde(serialize_with = "hexadecimal")]
    public_key: Option<Vec<u8>>,
    certificates: Vec<CertificateReport>,
}

fn hexadecimal<S: serde::Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> core::result::Result<S::Ok, S::Error> {
    bytes.as_ref().map(hex::encode).serialize(serializer)
}

impl Report {
    fn new(verified: &VerifiedDocument, time: SystemTime) -> Self {
        let document = &verified.document;
        Self {
            verified: true,
            module_id: document.module_id.clone(),
            debug: verified.debug,
            timestamp: time::milliseconds(document.timestamp),
            timestamp_ms: document.timestamp,
            verified_at: time::text(time),
            pcrs: document.pcrs.iter().map(|(index, value)| (index.get(), *value)).collect(),
            nonce: document.nonce.clone(),
            user_data: document.user_data.clone(),
            public_key: document.public_key.clone(),
            certificates: verified.certificates.iter().map(CertificateReport::new).collect(),
        }
    }

    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Module", printable(&self.module_id)).add("Made at", &self.timestamp);
        for (index, value) in &self.pcrs {
            if !value.is_zero() || (*index < 3 && self.debug) {
                fields.add(format!("PCR{index}"), value);
            }
        }
        for (label, bytes) in
            [("Nonce", &self.nonce), ("User data", &self.user_data), ("Public key", &self.public_key)]
        {
            if let Some(bytes) = bytes {
                fields.add(label, hex::encode(bytes));
            }
        }
        for certificate in &self.certificates {
            fields.add("Certificate", printable(&certificate.subject));
        }
        format!(
            "Verified: structure, chain, dates (as of {}), signature and policy.\n{}\
             Registers not shown are zero.\n",
            self.verified_at,
            fields.render(2)
        )
    }
}
