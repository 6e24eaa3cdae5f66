//! Documents that AWS's own security modules signed, verified against AWS's root at their own time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::certificate::Certificate;
use attestation::cose::SignedPayload;
use attestation::document::AttestationDocument;
use attestation::path::DatesError;
use attestation::pcr::PcrIndex;
use attestation::verify::{ChainError, Policy, PolicyError, Step, VerifyError, verify};
use documents::file_of_package;

/// SHA-256 of AWS's root G1, as AWS publishes it.
const AWS_ROOT: &str = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";

fn aws_root() -> Certificate {
    let der = file_of_package("aws-nitro-enclaves-attestation", "tests/data/aws_root.der");
    Certificate::from_der(&der).unwrap()
}

/// Production, January 2025, with a role and an RSA key.
fn production() -> Vec<u8> {
    file_of_package("nitro_attest", "tests/fixtures/attestation.cose")
}

/// Debug mode, 2021.
fn debug() -> Vec<u8> {
    file_of_package("aws-nitro-enclaves-attestation", "tests/data/nitro_ad_debug.bin")
}

/// What a document says of itself, unverified, and when it was made.
fn read(signed: &[u8]) -> (AttestationDocument, SystemTime) {
    let envelope = SignedPayload::from_bytes(signed).unwrap();
    let document = AttestationDocument::from_payload(envelope.payload()).unwrap();
    let time = UNIX_EPOCH + Duration::from_millis(document.timestamp);
    (document, time)
}

#[test]
fn the_root_is_the_one_that_aws_publishes() {
    assert_eq!(hex::encode(aws_root().fingerprint()), AWS_ROOT);
}

#[test]
fn a_production_document_verifies_at_its_own_time() {
    let signed = production();
    let (unverified, time) = read(&signed);
    let verified = verify(&signed, &aws_root(), time, &Policy::default()).unwrap();
    assert!(!verified.debug);
    assert_eq!(verified.document, unverified);
    assert_eq!(verified.certificates.len(), 5);
    // The instance's id is in the module's, and PCR 4 is made of it.
    let (instance, _) = unverified.module_id.split_once("-enc").unwrap();
    let instance: attestation::identity::InstanceId = instance.parse().unwrap();
    assert_eq!(unverified.pcrs[&PcrIndex::new(4).unwrap()], instance.pcr4());
    assert!(!unverified.pcrs[&PcrIndex::new(3).unwrap()].is_zero());
    assert_eq!(unverified.public_key.map(|key| key.len()), Some(294));
}

#[test]
fn our_writer_gives_the_bytes_that_aws_signed() {
    for signed in [production(), debug()] {
        let envelope = SignedPayload::from_bytes(&signed).unwrap();
        let document = AttestationDocument::from_payload(envelope.payload()).unwrap();
        assert_eq!(hex::encode(document.to_payload()), hex::encode(envelope.payload()));
    }
}

#[test]
fn a_debug_document_is_refused_until_it_is_allowed() {
    let signed = debug();
    let (_, time) = read(&signed);
    let refused = verify(&signed, &aws_root(), time, &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Policy(PolicyError::Debug));
    let policy = Policy { allow_debug: true, ..Policy::default() };
    assert!(verify(&signed, &aws_root(), time, &policy).unwrap().debug);
}

#[test]
fn at_another_time_the_dates_refuse_them() {
    let policy = Policy { allow_debug: true, ..Policy::default() };
    for signed in [production(), debug()] {
        let (document, time) = read(&signed);
        let leaf = Certificate::from_der(&document.certificate).unwrap();
        let last = document.cabundle.len();
        let verify_at = |time| verify(&signed, &aws_root(), time, &policy).map(|_| ());
        assert_eq!(verify_at(leaf.not_after()), Ok(()));
        let after = leaf.not_after() + Duration::from_secs(1);
        assert_eq!(verify_at(after), Err(DatesError::Expired(last).into()));
        let before = leaf.not_before() - Duration::from_secs(1);
        assert_eq!(verify_at(before), Err(DatesError::NotYetValid(last).into()));
        let next_year = time + Duration::from_secs(365 * 24 * 3600);
        assert_eq!(verify_at(next_year).unwrap_err().step(), Step::Dates);
    }
}

#[test]
fn against_another_root_the_chain_refuses_them() {
    let (_, time) = read(&production());
    let ours = attestation::pki::RootAuthority::generate(time, &mut getrandom::SysRng).unwrap();
    let refused = verify(&production(), &ours.chain()[0], time, &Policy::default()).unwrap_err();
    assert_eq!(refused, VerifyError::Chain(ChainError::OtherRoot));
}

#[test]
fn any_changed_byte_refuses_them() {
    let root = aws_root();
    let signed = production();
    let (_, time) = read(&signed);
    for position in (0..signed.len()).step_by(97) {
        let mut changed = signed.clone();
        changed[position] ^= 1;
        assert!(verify(&changed, &root, time, &Policy::default()).is_err(), "byte {position}");
    }
}
