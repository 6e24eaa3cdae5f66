//! Verification of documents: what is accepted, and which step refuses what.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::time::Duration;

use attestation::certificate::CertificateError;
use attestation::cose::{self, CoseError, SignedPayload};
use attestation::document::{AttestationDocument, DocumentError};
use attestation::key::PrivateKey;
use attestation::path::{DatesError, PathError};
use attestation::pcr::{Pcr, PcrIndex};
use attestation::pki::LEAF_LIFETIME;
use attestation::policy::Comparison;
use attestation::verify::{
    ChainError, Policy, PolicyError, Step, StructureError, VerifiedDocument, VerifyError, verify,
};
use ciborium::Value;
use common::forge::Forgery;
use common::{Hierarchy, now};
use getrandom::SysRng;
use proptest::prelude::*;

fn index(number: u64) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

/// A hierarchy and a document of it.
struct Case {
    hierarchy: Hierarchy,
    document: AttestationDocument,
}

impl Case {
    fn new() -> Self {
        let hierarchy = Hierarchy::new(now());
        let document = hierarchy.document(now());
        Self { hierarchy, document }
    }

    fn verify(&self, policy: &Policy) -> Result<VerifiedDocument, VerifyError> {
        self.verify_bytes(&self.hierarchy.sign(&self.document), policy)
    }

    fn verify_bytes(&self, signed: &[u8], policy: &Policy) -> Result<VerifiedDocument, VerifyError> {
        verify(signed, self.hierarchy.root_certificate(), now(), policy)
    }

    /// The error of a document after a change that its signer made.
    fn refusal(mut self, change: impl FnOnce(&mut AttestationDocument)) -> VerifyError {
        change(&mut self.document);
        self.verify(&Policy::default()).unwrap_err()
    }
}

#[test]
fn a_document_is_accepted_and_returned_as_it_was_made() {
    let case = Case::new();
    let verified = case.verify(&Policy::default()).unwrap();
    assert_eq!(verified.document, case.document);
    assert!(!verified.debug);
    let certificates: Vec<_> = verified.certificates.iter().map(|link| link.as_der().to_vec()).collect();
    assert_eq!(certificates[..3], case.document.cabundle);
    assert_eq!(certificates[3], case.document.certificate);
}

#[test]
fn a_policy_that_fits_accepts() {
    let case = Case::new();
    let policy = Policy {
        pcrs: case.document.pcrs.clone(),
        nonce: Some(b"nonce".to_vec()),
        user_data: Some(b"user data".to_vec()),
        public_key: Some(b"public key".to_vec()),
        ..Policy::default()
    };
    assert!(case.verify(&policy).is_ok());
}

#[test]
fn each_part_of_a_policy_refuses_by_itself() {
    let case = Case::new();
    let refusal = |policy| match case.verify(&policy).unwrap_err() {
        VerifyError::Policy(error) => error,
        other => panic!("not the policy: {other}"),
    };
    let other = || Some(b"other".to_vec());
    assert_eq!(refusal(Policy { nonce: other(), ..Policy::default() }), PolicyError::Nonce);
    assert_eq!(refusal(Policy { user_data: other(), ..Policy::default() }), PolicyError::UserData);
    assert_eq!(refusal(Policy { public_key: other(), ..Policy::default() }), PolicyError::PublicKey);
    let pcr = |number, value| Policy { pcrs: [(index(number), value)].into(), ..Policy::default() };
    let found = case.document.pcrs[&index(2)];
    let expected = Pcr::from_bytes([1; 48]);
    let different = Comparison { index: index(2), found: Some(found), expected };
    assert_eq!(refusal(pcr(2, expected)), PolicyError::Pcr(different));
    let missing = Comparison { index: index(16), found: None, expected: Pcr::ZERO };
    assert_eq!(refusal(pcr(16, Pcr::ZERO)), PolicyError::Pcr(missing));
}

#[test]
fn a_field_that_was_expected_may_not_be_missing() {
    let mut case = Case::new();
    (case.document.nonce, case.document.user_data, case.document.public_key) = (None, None, None);
    assert!(case.verify(&Policy::default()).is_ok());
    let empty = || Some(Vec::new());
    for (policy, error) in [
        (Policy { nonce: empty(), ..Policy::default() }, PolicyError::Nonce),
        (Policy { user_data: empty(), ..Policy::default() }, PolicyError::UserData),
        (Policy { public_key: empty(), ..Policy::default() }, PolicyError::PublicKey),
    ] {
        assert_eq!(case.verify(&policy).unwrap_err(), VerifyError::Policy(error));
    }
}

#[test]
fn a_debug_document_needs_leave_whatever_the_pcrs_asked_for() {
    let zero_or_missing: [fn(&mut AttestationDocument); 2] = [
        |document| _ = document.pcrs.insert(index(0), Pcr::ZERO),
        |document| _ = document.pcrs.remove(&index(0)),
    ];
    for change in zero_or_missing {
        let mut case = Case::new();
        change(&mut case.document);
        let mut policy = Policy { pcrs: case.document.pcrs.clone(), ..Policy::default() };
        assert_eq!(case.verify(&policy).unwrap_err(), VerifyError::Policy(PolicyError::Debug));
        policy.allow_debug = true;
        assert!(case.verify(&policy).unwrap().debug);
    }
    let allowing = Policy { allow_debug: true, ..Policy::default() };
    assert!(!Case::new().verify(&allowing).unwrap().debug);
}

#[test]
fn another_root_is_refused_though_its_name_is_the_same() {
    let case = Case::new();
    let signed = case.hierarchy.sign(&case.document);
    let other = Hierarchy::new(now());
    let refused = verify(&signed, other.root_certificate(), now(), &Policy::default());
    assert_eq!(refused.unwrap_err(), VerifyError::Chain(ChainError::OtherRoot));
    // The same name and another key.
    let subject = "root";
    let (key, twin) = (generate(), generate());
    let root = Forgery::authority(subject, subject, None).make(&key, &key);
    let false_root = Forgery::authority(subject, subject, None).make(&twin, &twin);
    let leaf = Forgery::leaf(subject).der(&twin, &twin);
    let mut document = case.document;
    document.certificate = leaf;
    document.cabundle = vec![false_root.as_der().to_vec()];
    let signed = cose::sign(&document.to_payload(), &twin).unwrap();
    let refused = verify(&signed, &root, now(), &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
    // The true root put before the false one's leaf.
    document.cabundle = vec![root.as_der().to_vec()];
    let signed = cose::sign(&document.to_payload(), &twin).unwrap();
    let refused = verify(&signed, &root, now(), &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::Path(PathError::Signature(1))));
}

fn generate() -> PrivateKey {
    PrivateKey::generate(&mut SysRng).unwrap()
}

#[test]
fn bundles_out_of_order_or_with_gaps_are_refused() {
    let refused = |change: fn(&mut AttestationDocument)| Case::new().refusal(change);
    let path = |error| VerifyError::Chain(ChainError::Path(error));
    assert_eq!(refused(|d| d.cabundle.reverse()), VerifyError::Chain(ChainError::OtherRoot));
    assert_eq!(refused(|d| _ = d.cabundle.remove(0)), VerifyError::Chain(ChainError::OtherRoot));
    assert_eq!(refused(|d| _ = d.cabundle.remove(1)), path(PathError::Issuer(1)));
    assert_eq!(refused(|d| _ = d.cabundle.remove(2)), path(PathError::Issuer(2)));
    assert_eq!(refused(|d| d.cabundle.swap(1, 2)).step(), Step::Chain);
    assert_eq!(refused(|d| d.cabundle.push(d.certificate.clone())), path(PathError::PathLength(1)));
    assert_eq!(refused(|d| d.certificate = d.cabundle[2].clone()), path(PathError::Issuer(3)),);
    let malformed = ChainError::Certificate { position: 1, error: CertificateError::Malformed };
    assert_eq!(refused(|d| d.cabundle[1] = vec![0x30]), VerifyError::Chain(malformed));
}

#[test]
fn an_enclave_key_cannot_sign_documents_itself() {
    // The enclave's authority signs a document as if it were a leaf.
    let case = Case::new();
    let mut document = case.document;
    document.certificate = document.cabundle.pop().unwrap();
    let signed = cose::sign(&document.to_payload(), case.hierarchy.enclave.key()).unwrap();
    let refused = verify(&signed, case.hierarchy.root_certificate(), now(), &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::Path(PathError::LeafIsAuthority)));
}

#[test]
fn the_dates_are_those_at_the_time_given() {
    let case = Case::new();
    let signed = case.hierarchy.sign(&case.document);
    let at = |time| verify(&signed, case.hierarchy.root_certificate(), time, &Policy::default()).map(|_| ());
    let second = Duration::from_secs(1);
    assert_eq!(at(now() + LEAF_LIFETIME), Ok(()));
    assert_eq!(at(now() + LEAF_LIFETIME + second), Err(VerifyError::Dates(DatesError::Expired(3))));
    let early = now() - attestation::pki::BACKDATE;
    assert_eq!(at(early), Ok(()));
    assert_eq!(at(early - second), Err(VerifyError::Dates(DatesError::NotYetValid(0))));
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let case = Case::new();
    let signed = cose::sign(&case.document.to_payload(), &generate()).unwrap();
    assert_eq!(case.verify_bytes(&signed, &Policy::default()).unwrap_err(), VerifyError::Signature);
}

#[test]
fn a_signature_of_another_document_is_refused() {
    let case = Case::new();
    let mut other = case.document.clone();
    other.nonce = Some(b"other".to_vec());
    let (signed, other) = (case.hierarchy.sign(&case.document), case.hierarchy.sign(&other));
    let mut mixed = signed[..signed.len() - 96].to_vec();
    mixed.extend_from_slice(&other[other.len() - 96..]);
    assert_eq!(case.verify_bytes(&mixed, &Policy::default()).unwrap_err(), VerifyError::Signature);
}

#[test]
fn tag_18_and_indefinite_lengths_are_accepted() {
    let case = Case::new();
    let payload = case.document.to_payload();
    // AWS's form of 2026: the outer map has no length but an end.
    let indefinite = [&[0xbf][..], &payload[1..], &[0xff]].concat();
    for payload in [payload, indefinite] {
        let signed = cose::sign(&payload, &case.hierarchy.leaf.key).unwrap();
        let tagged = [&[0xd2][..], &signed].concat();
        for bytes in [signed, tagged] {
            let verified = case.verify_bytes(&bytes, &Policy::default()).unwrap();
            assert_eq!(verified.document, case.document);
        }
    }
}

/// The payload's pairs, for changes that our writer cannot make.
fn pairs(document: &AttestationDocument) -> Vec<(Value, Value)> {
    let value: Value = ciborium::from_reader(document.to_payload().as_slice()).unwrap();
    value.into_map().unwrap()
}

fn encode(pairs: Vec<(Value, Value)>) -> Vec<u8> {
    let mut payload = Vec::new();
    ciborium::into_writer(&Value::Map(pairs), &mut payload).unwrap();
    payload
}

#[test]
fn order_unknown_fields_and_missing_optional_fields_do_not_matter() {
    let mut document = Case::new().document;
    let mut reversed = pairs(&document);
    reversed.reverse();
    assert_eq!(AttestationDocument::from_payload(&encode(reversed)), Ok(document.clone()));
    let mut with_news = pairs(&document);
    with_news.push((Value::from("news"), Value::from(1)));
    assert_eq!(AttestationDocument::from_payload(&encode(with_news)), Ok(document.clone()));
    let without = pairs(&document)
        .into_iter()
        .filter(|(key, _)| !["nonce", "user_data", "public_key"].contains(&key.as_text().unwrap()))
        .collect();
    (document.nonce, document.user_data, document.public_key) = (None, None, None);
    assert_eq!(AttestationDocument::from_payload(&encode(without)), Ok(document));
}

#[test]
fn a_field_that_is_missing_or_there_twice_is_named() {
    let document = Case::new().document;
    for (position, (key, value)) in pairs(&document).into_iter().enumerate() {
        let name = key.as_text().unwrap().to_owned();
        let mut twice = pairs(&document);
        twice.push((key, value));
        let error = AttestationDocument::from_payload(&encode(twice)).unwrap_err();
        assert_eq!(error.to_string(), format!("field {name} is there twice"));
        let mut without = pairs(&document);
        without.remove(position);
        match AttestationDocument::from_payload(&encode(without)) {
            Ok(_) => assert!(["nonce", "user_data", "public_key"].contains(&name.as_str())),
            Err(error) => assert_eq!(error.to_string(), format!("field {name} is missing")),
        }
    }
}

#[test]
fn an_unknown_field_that_is_there_twice_is_refused_without_its_name() {
    let mut twice = pairs(&Case::new().document);
    twice.push((Value::from("\x1b[2J"), Value::from(1)));
    assert!(AttestationDocument::from_payload(&encode(twice.clone())).is_ok());
    twice.push((Value::from("\x1b[2J"), Value::from(1)));
    let error = AttestationDocument::from_payload(&encode(twice)).unwrap_err();
    assert_eq!(error, DocumentError::DuplicateUnknown);
    assert!(!error.to_string().contains('\x1b'));
}

#[test]
fn a_field_with_a_value_that_it_cannot_have_is_named() {
    let document = Case::new().document;
    let long_bundle = vec![Value::from(vec![1_u8]); 11];
    let pcr = |key: Value, value: Value| Value::Map(vec![(key, value)]);
    let bytes = |length: usize| Value::from(vec![1_u8; length]);
    let wrong = [
        ("module_id", vec![Value::from(""), Value::from("x".repeat(100)), Value::from(1)]),
        ("digest", vec![Value::from("SHA256"), Value::from("sha384"), bytes(6)]),
        ("timestamp", vec![Value::from(0), Value::from(-1), Value::from("1"), Value::Null]),
        (
            "pcrs",
            vec![
                Value::Map(vec![]),
                Value::Array(vec![]),
                pcr(Value::from(32), bytes(48)),
                pcr(Value::from(-1), bytes(48)),
                pcr(Value::from("0"), bytes(48)),
                pcr(Value::from(0), bytes(47)),
                pcr(Value::from(0), bytes(49)),
                Value::Map(vec![(Value::from(0), bytes(48)), (Value::from(0), bytes(48))]),
            ],
        ),
        ("certificate", vec![bytes(0), bytes(1025), Value::Null, Value::from("x")]),
        (
            "cabundle",
            vec![
                Value::Array(vec![]),
                Value::Array(long_bundle),
                Value::Array(vec![bytes(1025)]),
                Value::Array(vec![bytes(0)]),
                bytes(1),
                Value::Null,
            ],
        ),
        ("public_key", vec![Value::from("x"), Value::from(1)]),
        ("user_data", vec![Value::from("x"), Value::Array(vec![])]),
        ("nonce", vec![Value::from("x"), Value::from(false)]),
    ];
    for (name, values) in wrong {
        for value in values {
            let mut changed = pairs(&document);
            let field = changed.iter_mut().find(|(key, _)| key.as_text() == Some(name)).unwrap();
            field.1 = value.clone();
            let error = AttestationDocument::from_payload(&encode(changed)).unwrap_err();
            assert!(error.to_string().starts_with(&format!("field {name} is wrong")), "{value:?}: {error}");
        }
    }
}

#[test]
fn payloads_of_another_form_are_no_map() {
    let nested = [vec![0x81; 10_000], vec![0]].concat();
    let keyed_by_number = encode(vec![(Value::from(1), Value::from(1))]);
    let payload = Case::new().document.to_payload();
    let trailing = [&payload[..], &[0]].concat();
    for payload in [&[][..], &[0xa0, 0x00], &[0x80], &nested, &keyed_by_number, &trailing, &payload[..99]] {
        assert_eq!(AttestationDocument::from_payload(payload), Err(DocumentError::NotAMap));
    }
}

#[test]
fn the_steps_are_named_in_the_message() {
    let case = Case::new();
    let error = case.verify_bytes(&[], &Policy::default()).unwrap_err();
    assert_eq!(error, VerifyError::Structure(StructureError::Envelope(CoseError::Malformed)));
    assert!(error.to_string().starts_with("structure: "));
    let unsigned_payload = cose::sign(b"not a map", &case.hierarchy.leaf.key).unwrap();
    assert_eq!(case.verify_bytes(&unsigned_payload, &Policy::default()).unwrap_err().step(), Step::Structure);
}

#[test]
fn a_changed_byte_is_refused_by_the_step_that_owns_it() {
    let case = Case::new();
    let signed = case.hierarchy.sign(&case.document);
    let payload_start = 10;
    let payload_end = signed.len() - 98;
    let place = |needle: &[u8]| signed.windows(needle.len()).position(|window| window == needle).unwrap();
    let step = |position: usize, bit: u8| {
        let mut changed = signed.clone();
        changed[position] ^= bit;
        case.verify_bytes(&changed, &Policy::default()).unwrap_err().step()
    };
    assert_eq!(step(0, 1), Step::Structure);
    assert_eq!(step(4, 1), Step::Structure);
    assert_eq!(step(payload_start, 1), Step::Structure);
    for field in [b"user data".as_slice(), b"nonce", b"public key", &[0x40; 48], b"i-1234567890abcdef0-enc"] {
        let value = if field == b"nonce" { place(b"\x45nonce") + 1 } else { place(field) };
        assert_eq!(step(value, 1), Step::Signature, "{field:02x?}");
    }
    for certificate in case.document.cabundle.iter().chain([&case.document.certificate]) {
        let start = place(certificate);
        for offset in (0..certificate.len()).step_by(31) {
            assert_eq!(step(start + offset, 1), Step::Chain, "byte {offset}");
        }
    }
    for position in (payload_end + 2..signed.len()).step_by(7) {
        assert_eq!(step(position, 1), Step::Signature, "byte {position}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(SignedPayload::from_bytes(&bytes).is_err());
        prop_assert!(AttestationDocument::from_payload(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever a document says, reading gives what was written.
    #[test]
    fn documents_survive_the_round_trip(
        module_id in "[ -~]{1,99}",
        timestamp in 1_u64..,
        pcrs in proptest::collection::btree_map(0_u64..32, any::<u8>(), 1..32),
        certificate in proptest::collection::vec(any::<u8>(), 1..1025),
        cabundle in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..11),
        fields in proptest::array::uniform3(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2000))),
    ) {
        let [public_key, user_data, nonce] = fields;
        let pcrs = pcrs.into_iter().map(|(number, byte)| (index(number), Pcr::from_bytes([byte; 48]))).collect();
        let document = AttestationDocument {
            module_id, timestamp, pcrs, certificate, cabundle, public_key, user_data, nonce,
        };
        let payload = document.to_payload();
        prop_assert_eq!(AttestationDocument::from_payload(&payload), Ok(document));
    }

    /// A flipped bit anywhere is refused, and nothing panics.
    #[test]
    fn one_flipped_bit_is_refused(position in any::<prop::sample::Index>(), bit in 0_u8..8) {
        static CASE: std::sync::OnceLock<(Case, Vec<u8>)> = std::sync::OnceLock::new();
        let (case, signed) = CASE.get_or_init(|| {
            let case = Case::new();
            let signed = case.hierarchy.sign(&case.document);
            (case, signed)
        });
        let mut changed = signed.clone();
        *position.get_mut(&mut changed) ^= 1 << bit;
        prop_assert!(case.verify_bytes(&changed, &Policy::default()).is_err());
    }
}
