//! Documents of the security module, as a verifier sees them.

mod common;

use std::time::{Duration, SystemTime};

use attestation::pcr::{Pcr, PcrIndex};
use attestation::verify::{Policy, PolicyError, Step, VerifyError, verify};
use common::{Host, attest, measurements};

#[test]
fn a_document_verifies_and_says_what_was_measured() {
    let now = SystemTime::now();
    let host = Host::new(now);
    let mut module = host.module(now);
    module.set_measurements(Some(&measurements())).unwrap();
    let document = attest(&mut module, now, b"nonce");
    let policy = Policy { nonce: Some(b"nonce".to_vec()), ..Policy::default() };
    let verified = verify(&document, host.root(), now, &policy).unwrap();
    assert!(!verified.debug);
    assert_eq!(verified.certificates.len(), 4);
    assert_eq!(verified.document.pcrs.len(), 16);
    assert_eq!(verified.document.pcrs[&PcrIndex::new(0).unwrap()], measurements().pcr0);
}

#[test]
fn a_debug_document_shows_zeros_and_is_refused_unless_allowed() {
    let now = SystemTime::now();
    let host = Host::new(now);
    let mut module = host.module(now);
    module.set_measurements(None).unwrap();
    let document = attest(&mut module, now, b"nonce");
    let mut policy = Policy::default();
    policy.pcrs.insert(PcrIndex::new(0).unwrap(), Pcr::ZERO);
    let refused = verify(&document, host.root(), now, &policy).unwrap_err();
    assert_eq!(refused, VerifyError::Policy(PolicyError::Debug));
    policy.allow_debug = true;
    let verified = verify(&document, host.root(), now, &policy).unwrap();
    assert!(verified.debug);
    for (index, pcr) in &verified.document.pcrs {
        assert_eq!(pcr.is_zero(), ![3, 4].contains(&index.get()), "PCR {index}");
    }
}

#[test]
fn a_document_is_refused_once_its_leaf_has_expired() {
    let now = SystemTime::now();
    let host = Host::new(now);
    let mut module = host.module(now);
    module.set_measurements(Some(&measurements())).unwrap();
    let document = attest(&mut module, now, b"nonce");
    let later = now + Duration::from_secs(3 * 3600 + 1);
    let refused = verify(&document, host.root(), later, &Policy::default()).unwrap_err();
    assert_eq!(refused.step(), Step::Dates);
}
