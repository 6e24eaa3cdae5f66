//! Documents as an attacker would send them, one kind each, with the step that refuses it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::time::Duration;

use attestation::certificate::CertificateError;
use attestation::cose::{self, CoseError, MAX_SIGNED_LEN};
use attestation::document::{AttestationDocument, DocumentError, MAX_BUNDLE_LEN};
use attestation::key::PrivateKey;
use attestation::path::{DatesError, PathError};
use attestation::pcr::{Pcr, PcrIndex};
use attestation::verify::{ChainError, Policy, PolicyError, StructureError, VerifyError, verify};
use common::forge::{Forgery, unknown_extension};
use common::{Hierarchy, now};
use getrandom::SysRng;

/// What becomes of a document after a change that its signer made.
fn changed(change: impl FnOnce(&Hierarchy, &mut AttestationDocument)) -> VerifyError {
    let hierarchy = Hierarchy::new(now());
    let mut document = hierarchy.document(now());
    change(&hierarchy, &mut document);
    refusal(&hierarchy, &hierarchy.sign(&document))
}

/// What becomes of a payload that a genuine key signed after it was changed.
fn changed_payload(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<(), VerifyError> {
    let hierarchy = Hierarchy::new(now());
    let payload = change(hierarchy.document(now()).to_payload());
    let signed = cose::sign(&payload, &hierarchy.leaf.key).unwrap();
    verify(&signed, hierarchy.root_certificate(), now(), &Policy::default()).map(|_| ())
}

fn refusal(hierarchy: &Hierarchy, signed: &[u8]) -> VerifyError {
    verify(signed, hierarchy.root_certificate(), now(), &Policy::default()).unwrap_err()
}

fn structure(error: DocumentError) -> VerifyError {
    VerifyError::Structure(StructureError::Document(error))
}

fn path(error: PathError) -> VerifyError {
    VerifyError::Chain(ChainError::Path(error))
}

/// Where `needle` begins in `bytes`.
fn place(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

#[test]
fn one_of_another_root_is_refused() {
    let other = Hierarchy::new(now());
    let signed = other.sign(&other.document(now()));
    assert_eq!(refusal(&Hierarchy::new(now()), &signed), VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn one_that_has_expired_is_refused() {
    let then = now() - Duration::from_secs(4 * 3600);
    let hierarchy = Hierarchy::new(then);
    let signed = hierarchy.sign(&hierarchy.document(then));
    assert_eq!(refusal(&hierarchy, &signed), VerifyError::Dates(DatesError::Expired(3)));
}

#[test]
fn one_that_is_not_yet_valid_is_refused() {
    let then = now() + Duration::from_secs(3600);
    let hierarchy = Hierarchy::new(then);
    let signed = hierarchy.sign(&hierarchy.document(then));
    assert_eq!(refusal(&hierarchy, &signed), VerifyError::Dates(DatesError::NotYetValid(0)));
}

#[test]
fn one_of_a_debug_enclave_is_refused() {
    let zero = |_: &Hierarchy, document: &mut AttestationDocument| {
        document.pcrs.insert(PcrIndex::new(0).unwrap(), Pcr::ZERO);
    };
    assert_eq!(changed(zero), VerifyError::Policy(PolicyError::Debug));
}

#[test]
fn one_without_an_authority_between_is_refused() {
    assert_eq!(changed(|_, document| _ = document.cabundle.remove(1)), path(PathError::Issuer(1)));
}

#[test]
fn one_without_its_root_is_refused() {
    let refused = changed(|_, document| _ = document.cabundle.remove(0));
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn one_with_another_hosts_authority_is_refused() {
    // Issued by the same root to the same name, with another key.
    let swap = |hierarchy: &Hierarchy, document: &mut AttestationDocument| {
        let other = hierarchy.root.issue_host(&common::instance(), now(), &mut SysRng).unwrap();
        document.cabundle[1] = other.chain()[1].as_der().to_vec();
    };
    assert!(matches!(
        changed(swap),
        VerifyError::Chain(ChainError::Path(PathError::Issuer(2) | PathError::Signature(2)))
    ));
}

#[test]
fn one_with_another_leaf_of_the_same_enclave_is_refused() {
    let swap = |hierarchy: &Hierarchy, document: &mut AttestationDocument| {
        let other = hierarchy.enclave.issue_leaf(&common::enclave(), now(), &mut SysRng).unwrap();
        document.certificate = other.certificate.as_der().to_vec();
    };
    assert_eq!(changed(swap), VerifyError::Signature);
}

#[test]
fn one_with_another_nonce_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let signed = hierarchy.sign(&hierarchy.document(now()));
    let policy = Policy { nonce: Some(b"another".to_vec()), ..Policy::default() };
    let refused = verify(&signed, hierarchy.root_certificate(), now(), &policy).unwrap_err();
    assert_eq!(refused, VerifyError::Policy(PolicyError::Nonce));
}

#[test]
fn one_whose_map_has_no_length_is_read_as_aws_writes_it() {
    assert_eq!(changed_payload(|payload| [&[0xbf], &payload[1..], &[0xff]].concat()), Ok(()));
}

#[test]
fn one_whose_numbers_are_longer_than_they_need_be_is_read_as_it_was_signed() {
    // PCR 0 with its number in two bytes. Legal CBOR, and the signature is over these bytes.
    let longer = |payload: Vec<u8>| {
        let key = place(&payload, &[0x00, 0x58, 0x30, 0x40]);
        [&payload[..key], &[0x18, 0x00], &payload[key + 1..]].concat()
    };
    assert_eq!(changed_payload(longer), Ok(()));
}

#[test]
fn one_whose_encoding_was_changed_after_signing_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let document = hierarchy.document(now());
    let payload = document.to_payload();
    let other = [&[0xbf], &payload[1..], &[0xff]].concat();
    let (signed, again) = (hierarchy.sign(&document), cose::sign(&other, &hierarchy.leaf.key).unwrap());
    let mixed = [&again[..again.len() - 96], &signed[signed.len() - 96..]].concat();
    assert_eq!(refusal(&hierarchy, &mixed), VerifyError::Signature);
}

#[test]
fn one_whose_register_is_there_in_two_encodings_is_refused() {
    let twice = |payload: Vec<u8>| {
        let key = place(&payload, &[0x00, 0x58, 0x30, 0x40]);
        // Sixteen registers are seventeen then.
        let mut payload = [&payload[..key], &[0x18, 0x00, 0x58, 0x30], &[0x41; 48], &payload[key..]].concat();
        payload[key - 1] += 1;
        payload
    };
    let refused = changed_payload(twice).unwrap_err();
    assert!(refused.to_string().contains("pcrs"), "{refused}");
}

#[test]
fn one_longer_than_the_limit_is_refused_unread() {
    let hierarchy = Hierarchy::new(now());
    let refused = refusal(&hierarchy, &vec![0x84; MAX_SIGNED_LEN + 1]);
    assert_eq!(refused, VerifyError::Structure(StructureError::Envelope(CoseError::TooLong)));
}

#[test]
fn one_that_promises_more_than_memory_holds_is_refused() {
    let promise = |_| vec![0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(changed_payload(promise), Err(structure(DocumentError::NotAMap)));
}

#[test]
fn one_nested_without_end_is_refused() {
    assert_eq!(changed_payload(|_| vec![0x81; 16_000]), Err(structure(DocumentError::NotAMap)));
}

#[test]
fn one_with_bytes_after_its_payload_is_refused() {
    let trailing = |payload: Vec<u8>| [&payload[..], &[0]].concat();
    assert_eq!(changed_payload(trailing), Err(structure(DocumentError::NotAMap)));
}

#[test]
fn one_with_bytes_after_its_envelope_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let signed = [&hierarchy.sign(&hierarchy.document(now()))[..], &[0]].concat();
    let refused = refusal(&hierarchy, &signed);
    assert_eq!(refused, VerifyError::Structure(StructureError::Envelope(CoseError::Malformed)));
}

#[test]
fn one_whose_register_is_too_narrow_is_refused() {
    let narrow = |payload: Vec<u8>| {
        let key = place(&payload, &[0x00, 0x58, 0x30, 0x40]);
        [&payload[..key], &[0x00, 0x58, 0x20], &payload[key + 3 + 16..]].concat()
    };
    assert!(changed_payload(narrow).unwrap_err().to_string().contains("48 bytes"));
}

#[test]
fn one_whose_register_is_too_wide_is_refused() {
    let wide = |payload: Vec<u8>| {
        let key = place(&payload, &[0x00, 0x58, 0x30, 0x40]);
        [&payload[..key], &[0x00, 0x58, 0x40], &[0; 16], &payload[key + 3..]].concat()
    };
    assert!(changed_payload(wide).unwrap_err().to_string().contains("48 bytes"));
}

#[test]
fn one_with_a_certificate_past_1024_bytes_is_refused() {
    let refused = changed(|_, document| document.certificate = vec![0x30; 1025]);
    assert!(refused.to_string().contains("1 to 1024 bytes"), "{refused}");
}

#[test]
fn one_with_a_certificate_of_1024_bytes_that_is_none_is_refused_by_the_chain() {
    let malformed = ChainError::Certificate { position: 3, error: CertificateError::Malformed };
    let refused = changed(|_, document| document.certificate = vec![0x30; 1024]);
    assert_eq!(refused, VerifyError::Chain(malformed));
}

#[test]
fn one_with_more_authorities_than_any_is_refused() {
    let refused = changed(|_, document| {
        document.cabundle = vec![document.cabundle[0].clone(); MAX_BUNDLE_LEN + 1];
    });
    assert!(refused.to_string().contains("1 to 10 certificates"), "{refused}");
}

#[test]
fn one_with_as_many_authorities_as_there_may_be_is_judged_by_them() {
    let refused =
        changed(|_, document| document.cabundle = vec![document.cabundle[0].clone(); MAX_BUNDLE_LEN]);
    assert!(matches!(refused, VerifyError::Chain(ChainError::Path(_))), "{refused}");
}

#[test]
fn one_with_an_unknown_critical_extension_is_refused() {
    let hierarchy = Hierarchy::new(now());
    let mut document = hierarchy.document(now());
    let key = PrivateKey::generate(&mut SysRng).unwrap();
    let forgery = Forgery::leaf("b").with(|forgery| forgery.extra.push(unknown_extension(true, 1)));
    document.certificate = forgery.der(&key, &key);
    let error = CertificateError::UnknownCriticalExtension;
    let refused = refusal(&hierarchy, &cose::sign(&document.to_payload(), &key).unwrap());
    assert_eq!(refused, VerifyError::Chain(ChainError::Certificate { position: 3, error }));
}
