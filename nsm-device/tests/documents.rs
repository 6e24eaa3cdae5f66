//! Documents of the security module, as a verifier sees them, and the leaves that sign them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::certificate::Certificate;
use attestation::pcr::{Measurements, Pcr, PcrIndex};
use attestation::pki::{BACKDATE, HOST_LIFETIME, LEAF_LIFETIME};
use attestation::verify::{Policy, PolicyError, Step, VerifiedDocument, VerifyError, verify};
use common::{Host, ask, attest, measurements, now};
use nsm_device::SecurityModule;
use nsm_device::protocol::{ErrorCode, MAX_REQUEST_LEN, Request, Response};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn index(number: u64) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

fn production_module(host: &Host) -> SecurityModule {
    let mut module = host.module(now());
    module.set_measurements(Some(&measurements())).unwrap();
    module
}

/// Asks for a document and verifies it at the same time.
fn verified(module: &mut SecurityModule, host: &Host, time: SystemTime) -> VerifiedDocument {
    let policy = Policy { nonce: Some(b"nonce".to_vec()), ..Policy::default() };
    verify(&attest(module, time, b"nonce"), host.root(), time, &policy).unwrap()
}

fn leaf(module: &mut SecurityModule, host: &Host, time: SystemTime) -> Certificate {
    verified(module, host, time).certificates.pop().unwrap()
}

#[test]
fn a_document_says_what_was_measured_and_by_whom() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let verified = verified(&mut module, &host, now());
    assert!(!verified.debug);
    let document = verified.document;
    assert_eq!(document.module_id, common::MODULE_ID);
    assert_eq!(u128::from(document.timestamp), now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    let Measurements { pcr0, pcr1, pcr2, pcr8 } = measurements();
    // printf 'role' after 48 zero bytes | sha384sum; the values that AWS's user guide publishes.
    let pcr3: Pcr = common::PCR3_OF_THE_USER_GUIDE.parse().unwrap();
    let pcr4: Pcr = common::PCR4_OF_THE_USER_GUIDE.parse().unwrap();
    let mut expected = vec![pcr0, pcr1, pcr2, pcr3, pcr4];
    expected.resize(16, Pcr::ZERO);
    expected[8] = pcr8.unwrap();
    assert_eq!(
        document.pcrs.keys().map(|index| index.get()).collect::<Vec<_>>(),
        (0..16).collect::<Vec<_>>()
    );
    assert_eq!(document.pcrs.values().copied().collect::<Vec<_>>(), expected);
    assert_eq!(module.attested_pcrs(), document.pcrs);
}

#[test]
fn an_unsigned_image_and_a_host_without_a_role_leave_zeros() {
    let host = Host::new(now());
    let (enclave, authority) = host.enclave(now());
    let mut module = SecurityModule::new(nsm_device::Identity { enclave, role: None, authority });
    module.set_measurements(Some(&Measurements { pcr8: None, ..measurements() })).unwrap();
    let pcrs = verified(&mut module, &host, now()).document.pcrs;
    assert!(pcrs[&index(3)].is_zero() && pcrs[&index(8)].is_zero());
    assert!(!pcrs[&index(4)].is_zero());
}

#[test]
fn a_debug_document_shows_zeros_and_is_refused_unless_allowed() {
    let host = Host::new(now());
    let mut module = host.module(now());
    module.set_measurements(None).unwrap();
    let document = attest(&mut module, now(), b"nonce");
    let mut policy = Policy::default();
    policy.pcrs.insert(index(0), Pcr::ZERO);
    let refused = verify(&document, host.root(), now(), &policy).unwrap_err();
    assert_eq!(refused, VerifyError::Policy(PolicyError::Debug));
    policy.allow_debug = true;
    let verified = verify(&document, host.root(), now(), &policy).unwrap();
    assert!(verified.debug);
    assert_eq!(verified.document.pcrs.len(), 16);
    for (index, pcr) in &verified.document.pcrs {
        assert_eq!(pcr.is_zero(), ![3, 4].contains(&index.get()), "PCR {index}");
    }
}

#[test]
fn the_payload_has_the_form_of_real_documents() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let request = Request::Attestation { user_data: None, nonce: None, public_key: None };
    let Response::Attestation { document } = ask(&mut module, &request, now()) else { panic!() };
    assert!(hex::encode(&document).starts_with("8444a1013822a059"));
    let payload = &document[10..document.len() - 98];
    let text = hex::encode(payload);
    // A9, "module_id", text of 39 bytes; then digest, timestamp in 8 bytes, 16 PCRs from 0 on.
    assert!(text.starts_with("a9696d6f64756c655f69647827"), "{text}");
    assert!(text.contains("66646967657374665348413338346974696d657374616d701b"), "{text}");
    assert!(text.contains("6470637273b0005830"), "{text}");
    assert!(text.contains("68636162756e646c6583590"), "{text}");
    // public_key, user_data and nonce are null, in this order.
    assert!(text.ends_with("6a7075626c69635f6b6579f669757365725f64617461f6656e6f6e6365f6"), "{text}");
}

#[test]
fn registers_that_the_guest_locks_appear_with_their_values() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    // printf hello after 48 zero bytes | sha384sum
    let extended =
        "30e84b2d7eeffe6d90a475797b35e59a11b0da473eee4b3b8edfe73daf0279801bb18730c39db7f27f2f77b7b458cb9e";
    ask(&mut module, &Request::ExtendPcr { index: 31, data: b"hello".to_vec() }, now());
    assert!(!verified(&mut module, &host, now()).document.pcrs.contains_key(&index(31)));
    assert_eq!(ask(&mut module, &Request::LockPcr { index: 31 }, now()), Response::LockPcr);
    let pcrs = verified(&mut module, &host, now()).document.pcrs;
    assert_eq!(pcrs.len(), 17);
    assert_eq!(pcrs[&index(31)].to_string(), extended);
    assert_eq!(ask(&mut module, &Request::LockPcrs { range: 32 }, now()), Response::LockPcrs);
    assert_eq!(verified(&mut module, &host, now()).document.pcrs.len(), 32);
}

#[test]
fn fields_may_be_as_long_as_the_request_allows() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    ask(&mut module, &Request::LockPcrs { range: 32 }, now());
    let with_nonce = |length: usize| Request::Attestation {
        user_data: None,
        nonce: Some(vec![7; length]),
        public_key: None,
    };
    let rest = with_nonce(256).encode().len() - 256;
    let longest = with_nonce(MAX_REQUEST_LEN - rest);
    assert_eq!(longest.encode().len(), MAX_REQUEST_LEN);
    assert!(matches!(ask(&mut module, &longest, now()), Response::Attestation { .. }));
    let too_long = with_nonce(MAX_REQUEST_LEN - rest + 1);
    assert_eq!(ask(&mut module, &too_long, now()), Response::Error(ErrorCode::InputTooLarge));
}

#[test]
fn one_leaf_serves_until_its_margin_and_then_another_does() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let first = leaf(&mut module, &host, now());
    assert_eq!(first.not_before(), now() - BACKDATE);
    assert_eq!(first.not_after(), now() + LEAF_LIFETIME);
    let margin = Duration::from_secs(30 * 60);
    let last_use = first.not_after() - margin;
    assert_eq!(leaf(&mut module, &host, last_use), first);
    let second = leaf(&mut module, &host, last_use + SECOND);
    assert_ne!(second, first);
    assert_ne!(second.public_key(), first.public_key());
    assert_eq!(second.not_after(), last_use + SECOND + LEAF_LIFETIME);
}

#[test]
fn a_clock_set_forward_or_back_gets_a_leaf_of_its_time() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let year_ahead = now() + Duration::from_secs(365 * 86_400);
    let ahead = leaf(&mut module, &host, year_ahead);
    assert_eq!(ahead.not_after(), year_ahead + LEAF_LIFETIME);
    let back = leaf(&mut module, &host, now());
    assert_eq!(back.not_after(), now() + LEAF_LIFETIME);
}

#[test]
fn outside_the_authoritys_dates_there_is_an_error_and_no_document() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let request = Request::Attestation { user_data: None, nonce: None, public_key: None };
    let end = now() + HOST_LIFETIME;
    let outside = [now() - BACKDATE - SECOND, end + SECOND, UNIX_EPOCH, UNIX_EPOCH - SECOND];
    for time in outside {
        let answer = ask(&mut module, &request, time);
        assert_eq!(answer, Response::Error(ErrorCode::InternalError));
        // Everything else goes on.
        assert!(matches!(ask(&mut module, &Request::DescribeNsm, time), Response::DescribeNsm(_)));
    }
    assert!(matches!(ask(&mut module, &request, now()), Response::Attestation { .. }));
}

#[test]
fn the_last_leaf_ends_with_its_authority_and_serves_to_the_end() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let end = now() + HOST_LIFETIME;
    let last = leaf(&mut module, &host, end - Duration::from_secs(60));
    assert_eq!(last.not_after(), end);
    assert_eq!(leaf(&mut module, &host, end), last);
}

#[test]
fn a_document_is_refused_once_its_leaf_has_expired() {
    let host = Host::new(now());
    let mut module = production_module(&host);
    let document = attest(&mut module, now(), b"nonce");
    let later = now() + LEAF_LIFETIME + SECOND;
    let refused = verify(&document, host.root(), later, &Policy::default()).unwrap_err();
    assert_eq!(refused.step(), Step::Dates);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// However the clock jumps, a document verifies at the time it was made, with half an hour to spare unless
    /// the authority ends before; or there is none, because the authority is not valid then.
    #[test]
    fn no_jump_of_the_clock_gets_a_document_that_does_not_verify(
        jumps in proptest::collection::vec(
            prop_oneof![0_i64..20_000, -400_000_000_i64..400_000_000, 315_570_000_i64..315_577_000],
            1..12,
        ),
    ) {
        let host = Host::new(now());
        let mut module = production_module(&host);
        let end = now() + HOST_LIFETIME;
        let request = Request::Attestation { user_data: None, nonce: None, public_key: None };
        for jump in jumps {
            let offset = Duration::from_secs(jump.unsigned_abs());
            let time = if jump < 0 { now() - offset } else { now() + offset };
            let valid = now() - BACKDATE <= time && time <= end;
            match ask(&mut module, &request, time) {
                Response::Attestation { document } => {
                    prop_assert!(valid);
                    for time in [time, (time + Duration::from_secs(30 * 60)).min(end)] {
                        prop_assert!(verify(&document, host.root(), time, &Policy::default()).is_ok());
                    }
                }
                other => {
                    prop_assert!(!valid);
                    prop_assert_eq!(other, Response::Error(ErrorCode::InternalError));
                }
            }
        }
    }
}
