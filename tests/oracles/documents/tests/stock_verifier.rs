//! A verifier that others wrote, given our root, accepts our documents and refuses what it should.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::{HostAuthority, RootAuthority};
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use nsm_nitro_enclave_utils::api::nsm::AttestationDoc;
use nsm_nitro_enclave_utils::time::Time;
use nsm_nitro_enclave_utils::verify::AttestationDocVerifierExt;

fn host(now: SystemTime) -> HostAuthority {
    let root = RootAuthority::generate(now, &mut SysRng).unwrap();
    root.issue_host(&instance(), now, &mut SysRng).unwrap()
}

fn instance() -> InstanceId {
    "i-1234567890abcdef0".parse().unwrap()
}

/// A document made now, with every field.
fn document(host: &HostAuthority, now: SystemTime) -> Vec<u8> {
    let enclave = EnclaveId::generate(instance(), now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
    let pcr = Pcr::measuring(&[7; 48]);
    module.set_measurements(Some(&Measurements { pcr0: pcr, pcr1: pcr, pcr2: pcr, pcr8: None })).unwrap();
    let field = |text: &str| Some(text.as_bytes().to_vec());
    let request =
        Request::Attestation { user_data: field("data"), nonce: field("nonce"), public_key: field("key") };
    match Response::decode(&module.handle(&request.encode(), now)) {
        Ok(Response::Attestation { document }) => document,
        other => panic!("no document but {other:?}"),
    }
}

/// A clock for the verifier. Its doc comment speaks of milliseconds, and so does its code.
fn at(time: SystemTime) -> Time {
    let milliseconds = u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    Time::new(Box::new(move || milliseconds))
}

#[test]
fn it_accepts_a_document_of_ours() {
    let now = SystemTime::now();
    let host = host(now);
    let root = host.chain()[0].as_der();
    let read = AttestationDoc::from_cose(&document(&host, now), root, at(now)).unwrap();
    assert_eq!(read.nonce.unwrap().as_slice(), b"nonce");
    assert_eq!(read.user_data.unwrap().as_slice(), b"data");
    assert_eq!(read.public_key.unwrap().as_slice(), b"key");
    assert_eq!(read.cabundle.len(), 3);
}

#[test]
fn it_accepts_a_new_document_when_its_clock_is_some_minutes_behind() {
    let now = SystemTime::now();
    let host = host(now);
    let behind = at(now - Duration::from_secs(4 * 60));
    AttestationDoc::from_cose(&document(&host, now), host.chain()[0].as_der(), behind).unwrap();
}

#[test]
fn it_refuses_another_root_another_time_and_changed_bytes() {
    let now = SystemTime::now();
    let (host, other) = (host(now), host(now));
    let signed = document(&host, now);
    let root = host.chain()[0].as_der();
    assert!(AttestationDoc::from_cose(&signed, other.chain()[0].as_der(), at(now)).is_err());
    let expired = at(now + Duration::from_secs(4 * 3600));
    assert!(AttestationDoc::from_cose(&signed, root, expired).is_err());
    let mut changed = signed.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(AttestationDoc::from_cose(&changed, root, at(now)).is_err());
}
