//! `enclave attest verify`.

mod expectations;

use std::time::SystemTime;

use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use attestation::report::{CertificateReport, Claims, Content, Examination, Report, Status, examine};
use attestation::verify::{ChainError, PolicyError, Step, VerifyError};

use self::expectations::Expectations;
use crate::args::{AttestCommand, Format, Time, VerifyArgs};
use crate::error::{Failure, Result};
use crate::input;
use crate::output::{self, Fields, printable};

/// The exit statuses of a document that is refused; 1 and 2 are those of every command. Also in docs/attestation.md and the help text.
mod status {
    pub(super) const STRUCTURE: u8 = 3;
    pub(super) const CHAIN: u8 = 4;
    pub(super) const DATES: u8 = 5;
    pub(super) const SIGNATURE: u8 = 6;
    pub(super) const AGE: u8 = 7;
    pub(super) const DEBUG: u8 = 8;
    pub(super) const POLICY: u8 = 9;
    pub(super) const NONCE: u8 = 10;
}

pub(crate) fn attest(command: &AttestCommand) -> Result<()> {
    match command {
        AttestCommand::Verify(args) => verify_document(args),
    }
}

fn verify_document(args: &VerifyArgs) -> Result<()> {
    let expected = Expectations::of(args)?;
    let document = input::document(&args.document)?;
    let time = time_to_judge(args.at, &document);
    let Examination { outcome, report } = examine(&document, &expected.roots, time, &expected.policy);
    if args.output.format == Format::Json {
        output::json(&report)?;
    }
    let verified = outcome.map_err(|error| refusal(&error, &expected))?;
    if verified.debug {
        output::tell("warning: a debug enclave made this document: it proves nothing about the image");
    } else if !expected.policy.restricts_images() {
        output::tell(
            "warning: nothing was asked of the image (PCR 0, 1, 2, 8 or a signer): another one may pass as well; use --pcr or --policy",
        );
    }
    match (args.output.format, report.content()) {
        (Format::Text, Content::Verified(claims)) => {
            output::write(text(&report, claims, verified.matched.as_deref()).as_bytes())
        }
        _ => Ok(()),
    }
}

/// The time of `--at`, at which a document is judged; now if none is given.
pub(super) fn time_to_judge(at: Option<Time>, document: &[u8]) -> SystemTime {
    match at {
        None => SystemTime::now(),
        Some(Time::Fixed(timestamp)) => timestamp.into(),
        // What cannot be read has no time, and is refused at any.
        Some(Time::OfDocument) => time_of(document).unwrap_or_else(SystemTime::now),
    }
}

/// The time stamp that the document gives itself; the signature over it is checked afterwards.
fn time_of(document: &[u8]) -> Option<SystemTime> {
    let envelope = SignedPayload::from_bytes(document).ok()?;
    AttestationDocument::from_payload(envelope.payload()).ok()?.made_at()
}

fn refusal(error: &VerifyError, expected: &Expectations) -> Failure {
    // It may name sets of the policy.
    let cause = printable(&format!("the document is refused: {error}"));
    let next = match error {
        VerifyError::Chain(ChainError::OtherRoot) => format!(
            "the roots you trust are {}: get the root of the host that made the document (`enclave pki export-root` there)",
            expected.root_names.join(", ")
        ),
        VerifyError::Policy(error) => policy_advice(error).to_owned(),
        other => advice(other.step()).to_owned(),
    };
    Failure::new(cause, next).with_status(exit_status(error))
}

const fn exit_status(error: &VerifyError) -> u8 {
    match error {
        VerifyError::Structure(_) => status::STRUCTURE,
        VerifyError::Chain(_) => status::CHAIN,
        VerifyError::Dates(_) => status::DATES,
        VerifyError::Signature => status::SIGNATURE,
        VerifyError::Age(_) => status::AGE,
        VerifyError::Policy(PolicyError::Debug) => status::DEBUG,
        VerifyError::Policy(PolicyError::Nonce) => status::NONCE,
        VerifyError::Policy(_) => status::POLICY,
    }
}

const fn policy_advice(error: &PolicyError) -> &'static str {
    match error {
        PolicyError::Debug => {
            "run the enclave without --debug; only for a test, accept it with --allow-debug"
        }
        PolicyError::Pcr(_) | PolicyError::NoSet(_) | PolicyError::Signer(_) => {
            "another image, signer, role or host made it: compare with `enclave eif measure` and `enclave pki show`"
        }
        PolicyError::Nonce => {
            "ask for a new document with your nonce: this one may be an old one played again"
        }
        PolicyError::UserData | PolicyError::PublicKey => advice(Step::Policy),
    }
}

const fn advice(step: Step) -> &'static str {
    match step {
        Step::Structure => {
            "check that the whole document arrived, and nothing else: raw bytes, hexadecimal or base64"
        }
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

/// A verified document, for people.
fn text(report: &Report, claims: &Claims, matched: Option<&str>) -> String {
    let mut fields = Fields::default();
    fields.add("Module", printable(&claims.module_id)).add("Made at", &claims.timestamp);
    if let Some(set) = matched {
        fields.add("Accepted as", printable(set));
    }
    for (index, value) in &claims.pcrs {
        if !value.is_zero() || (*index < 3 && claims.debug) {
            fields.add(format!("PCR{index}"), value);
        }
    }
    for (label, bytes) in
        [("Nonce", &claims.nonce), ("User data", &claims.user_data), ("Public key", &claims.public_key)]
    {
        if let Some(bytes) = bytes {
            fields.add(label, bytes);
        }
    }
    for certificate in &claims.certificates {
        if let CertificateReport::Readable(certificate) = certificate {
            fields.add("Certificate", printable(&certificate.subject));
        }
    }
    format!(
        "Verified: {}.\n{}Registers not shown are zero or not locked.\n",
        steps_made(report),
        fields.render(2)
    )
}

/// The steps of a verified document in words; those that nobody asked for are none.
fn steps_made(report: &Report) -> String {
    let steps = report.steps();
    let dates = format!("dates (as of {})", report.verified_at());
    let all = [
        (steps.structure.status, "structure"),
        (steps.chain.status, "chain"),
        (steps.dates.status, &dates),
        (steps.signature.status, "signature"),
        (steps.age.status, "age"),
        (steps.policy.status, "policy"),
    ];
    let mut made: Vec<&str> =
        all.into_iter().filter(|(status, _)| *status == Status::Passed).map(|(_, step)| step).collect();
    let last = made.pop().unwrap_or_default();
    format!("{} and {last}", made.join(", "))
}
