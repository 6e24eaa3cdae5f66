//! What the fuzz target and the test that replays its corpus both run: any bytes as a signed document, and as a
//! certificate.
//!
//! And as a policy, and as a document to report on.
//!
//! What holds: only a genuine document verifies, whatever it is wrapped in; a report agrees with the verdict; a policy that is accepted
//! demands something. The genuine ones and the two roots are in
//! the corpus: AWS's, as the packages `aws-nitro-enclaves-attestation` (Apache-2.0) and `nitro_attest` (MIT) publish them, and
//! ours.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

#[cfg(test)]
mod tests;

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use crate::certificate::Certificate;
use crate::cose::SignedPayload;
use crate::document::AttestationDocument;
use crate::path::{check_authorities, check_path};
use crate::policy::file::PolicyFile;
use crate::policy::{AgeLimit, PcrSet};
use crate::report::{Content, Examination, examine};
use crate::roots::Roots;
use crate::verify::{Policy, verify};

const ROOTS: [&[u8]; 2] = [
    include_bytes!("../../../fuzz/corpus/document/aws-root"),
    include_bytes!("../../../fuzz/corpus/document/our-root"),
];
const GENUINE: [&[u8]; 4] = [
    include_bytes!("../../../fuzz/corpus/document/aws-production"),
    include_bytes!("../../../fuzz/corpus/document/aws-debug"),
    include_bytes!("../../../fuzz/corpus/document/our-document"),
    include_bytes!("../../../fuzz/corpus/document/our-document-indefinite"),
];

struct Known {
    roots: Vec<Certificate>,
    /// Every payload that one of the roots vouches for.
    payloads: Vec<Vec<u8>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let payload = |signed: &&[u8]| SignedPayload::from_bytes(signed).expect("an envelope").payload().to_vec();
    Known {
        roots: ROOTS.iter().map(|der| Certificate::from_der(der).expect("a root")).collect(),
        payloads: GENUINE.iter().map(payload).collect(),
    }
});

/// Takes bytes for a document and for a certificate. True if they are a document that one of the roots vouches for.
///
/// # Panics
/// It verifies although nobody signed it, or something reads back as something else.
pub fn document(bytes: &[u8]) -> bool {
    certificate(bytes);
    policy_file(bytes);
    report(bytes);
    let Ok(envelope) = SignedPayload::from_bytes(bytes) else {
        for root in &KNOWN.roots {
            assert!(
                verify(bytes, root, UNIX_EPOCH, &Policy::default()).is_err(),
                "no envelope, but verified"
            );
        }
        return false;
    };
    let Ok(document) = AttestationDocument::from_payload(envelope.payload()) else { return false };
    let again = AttestationDocument::from_payload(&document.to_payload());
    assert_eq!(again.as_ref(), Ok(&document), "the document reads back as another");
    for der in document.cabundle.iter().chain([&document.certificate]) {
        certificate(der);
    }
    // The time that the document would like best.
    let time = document.made_at().unwrap_or(UNIX_EPOCH);
    let policy = Policy { allow_debug: true, ..Policy::default() };
    let verified = KNOWN.roots.iter().find_map(|root| verify(bytes, root, time, &policy).ok());
    let Some(verified) = verified else { return false };
    assert!(
        KNOWN.payloads.iter().any(|payload| payload == envelope.payload()),
        "a document verifies that nobody signed"
    );
    assert_eq!(verified.document, document);
    true
}

/// Reports on bytes as a document, under a policy of every kind of demand that it meets if it is one.
fn report(bytes: &[u8]) {
    let read = SignedPayload::from_bytes(bytes).ok();
    let document = read.and_then(|envelope| AttestationDocument::from_payload(envelope.payload()).ok());
    let time = document.as_ref().and_then(AttestationDocument::made_at).unwrap_or(UNIX_EPOCH);
    let policy = document.map_or_else(Policy::default, |document| Policy {
        accept: PcrSet::new("all", document.pcrs.clone()).into_iter().collect(),
        pcrs: document.pcrs,
        age: Some(AgeLimit::new(Duration::ZERO)),
        nonce: document.nonce,
        user_data: document.user_data,
        public_key: document.public_key,
        allow_debug: true,
        ..Policy::default()
    });
    let roots = Roots::from_iter(&KNOWN.roots);
    let Examination { outcome, report } = examine(bytes, &roots, time, &policy);
    assert_eq!(
        outcome.is_ok(),
        matches!(report.content(), Content::Verified(_)),
        "a report says something else"
    );
    assert_eq!(outcome.is_err(), report.failure().is_some(), "a report says something else");
    ciborium::into_writer(&report, std::io::sink()).expect("every report can be written");
}

/// Takes bytes for a policy, in CBOR: its form is serde's affair. True if they are one.
///
/// # Panics
/// The policy accepts what no policy may.
pub fn policy_file(bytes: &[u8]) -> bool {
    let Ok(file) = ciborium::from_reader::<PolicyFile, _>(bytes) else { return false };
    let Ok(checked) = file.check() else { return false };
    let policy = checked.with_nonce(Some(vec![0])).expect("a nonce is there");
    assert!(!policy.accept.is_empty() || !policy.signers.is_empty(), "a policy accepts every image");
    let measures = |set: &PcrSet| set.pcrs().values().any(|pcr| !pcr.is_zero());
    assert!(
        policy.allow_debug || policy.accept.iter().all(measures),
        "a policy accepts what measures nothing"
    );
    true
}

/// Takes bytes for a certificate. True if they are one of the profile.
///
/// # Panics
/// It reads back as another one, or may issue what it may not.
pub fn certificate(bytes: &[u8]) -> bool {
    let text = core::str::from_utf8(bytes).ok();
    let pem = text.and_then(|text| Certificate::from_pem(text).ok());
    let Some(certificate) = pem.or_else(|| Certificate::from_der(bytes).ok()) else { return false };
    assert_eq!(Certificate::from_der(certificate.as_der()).as_ref(), Ok(&certificate));
    let pem = certificate.to_pem().expect("every certificate has a PEM text");
    assert_eq!(Certificate::from_pem(&pem).as_ref(), Ok(&certificate));
    // For people: any name can be shown, any date be compared.
    let _ =
        (certificate.subject(), certificate.issuer(), format!("{certificate:?}"), certificate.fingerprint());
    let _ = (certificate.not_before(), certificate.not_after());
    let alone = core::slice::from_ref(&certificate);
    if check_authorities(alone).is_ok() {
        assert!(certificate.is_authority() && certificate.may_sign_certificates());
        assert!(check_path(alone, &certificate).is_err(), "an authority signs documents");
    }
    true
}
