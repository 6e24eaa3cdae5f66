//! Verification of attestation documents beside the signature checks that it cannot do without.

use std::time::{Duration, Instant, UNIX_EPOCH};

use attestation::certificate::Certificate;
use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use attestation::verify::{Policy, verify};
use p384::ecdsa::signature::{Signer, Verifier};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};

use crate::statistics::median;

/// Verifications of each document: odd, so that the median is one of them.
const TURNS: u32 = 301;

/// A document that was signed, and its root.
struct Signed {
    name: &'static str,
    root: &'static [u8],
    document: &'static [u8],
}

const DOCUMENTS: [Signed; 2] = [
    Signed {
        name: "AWS's, five certificates",
        root: include_bytes!("../../fuzz/corpus/document/aws-root"),
        document: include_bytes!("../../fuzz/corpus/document/aws-production"),
    },
    Signed {
        name: "ours, four certificates",
        root: include_bytes!("../../fuzz/corpus/document/our-root"),
        document: include_bytes!("../../fuzz/corpus/document/our-document"),
    },
];

pub(crate) fn measure() {
    println!("| document | signature checks alone | verification | of the checks |\n|---|---|---|---|");
    for signed in DOCUMENTS {
        let root = Certificate::from_der(signed.root).expect("a root");
        let envelope = SignedPayload::from_bytes(signed.document).expect("an envelope");
        let document = AttestationDocument::from_payload(envelope.payload()).expect("a document");
        let time = UNIX_EPOCH + Duration::from_millis(document.timestamp);
        // Our document has a PCR 0 of zeros.
        let policy = Policy { allow_debug: true, ..Policy::default() };
        let verification = || {
            let verified = verify(signed.document, &root, time, &policy).expect("it verifies");
            std::hint::black_box(verified);
        };
        let checks = Checks::over(&lengths(&document, envelope.payload()));
        // In turns, so that both meet the same machine; the first fills the caches.
        let _ = (spent(|| checks.run()), spent(verification));
        let turns = (0..TURNS).map(|_| (spent(|| checks.run()), spent(verification)));
        let (alone, whole): (Vec<_>, Vec<_>) = turns.unzip();
        // Of each turn: a machine that others use as well changes its speed between turns.
        let permille =
            alone.iter().zip(&whole).map(|(alone, whole)| whole.as_nanos() * 1000 / alone.as_nanos());
        let permille = u32::try_from(median(permille.collect())).expect("a small number");
        let microseconds = |values: &[Duration]| median(values.to_vec()).as_secs_f64() * 1e6;
        let (alone, whole) = (microseconds(&alone), microseconds(&whole));
        println!("| {} | {alone:.0} µs | {whole:.0} µs | {:.2} |", signed.name, f64::from(permille) / 1e3);
    }
}

/// How many bytes each signature of a document is over: its own, and that of every certificate but the pinned root's.
pub(crate) fn lengths(document: &AttestationDocument, payload: &[u8]) -> Vec<usize> {
    let certificates = document.cabundle.iter().skip(1).chain([&document.certificate]);
    certificates.map(Vec::len).chain([payload.len()]).collect()
}

/// Signatures over as many bytes, made with another key each.
pub(crate) struct Checks(pub(crate) Vec<(VerifyingKey, Vec<u8>, Signature)>);

impl Checks {
    pub(crate) fn over(lengths: &[usize]) -> Self {
        let checks = lengths.iter().zip(1_u8..).map(|(length, number)| {
            let key = SigningKey::from_slice(&[number; 48]).expect("a scalar below the order");
            let message = vec![number; *length];
            let signature = key.sign(&message);
            (*key.verifying_key(), message, signature)
        });
        Self(checks.collect())
    }

    pub(crate) fn run(&self) {
        for (key, message, signature) in &self.0 {
            key.verify(message, signature).expect("it was signed");
        }
    }
}

fn spent(work: impl Fn()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
