//! AWS's client types against our security module: the same bytes out, an understood answer back.
//!
//! AWS's driver code encodes with serde_cbor, so that is what is used here.

use std::time::SystemTime;

use attestation::identity::{EnclaveId, InstanceId};
use attestation::pki::RootAuthority;
use aws_nitro_enclaves_nsm_api::api as aws;
use getrandom::SysRng;
use nsm_device::protocol::{ErrorCode, MAX_REQUEST_LEN, Request};
use nsm_device::{Identity, SecurityModule};
use serde_bytes::ByteBuf;

fn module() -> SecurityModule {
    let now = SystemTime::now();
    let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
    let host = RootAuthority::generate(now, &mut SysRng).unwrap();
    let host = host.issue_host(&instance, now, &mut SysRng).unwrap();
    let enclave = EnclaveId::generate(instance, now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
    module.set_measurements(None).unwrap();
    module
}

fn ask(module: &mut SecurityModule, request: &aws::Request) -> aws::Response {
    let request = serde_cbor::to_vec(request).unwrap();
    serde_cbor::from_slice(&module.handle(&request, SystemTime::now())).unwrap()
}

/// The same request as AWS's type and as ours.
fn pairs() -> Vec<(aws::Request, Request)> {
    let bytes = |length: usize| vec![0x5a; length];
    let mut pairs = vec![
        (aws::Request::DescribeNSM, Request::DescribeNsm),
        (aws::Request::GetRandom, Request::GetRandom),
    ];
    for index in [0, 1, 23, 24, 31, 32, 255, 256, u16::MAX] {
        pairs.push((aws::Request::DescribePCR { index }, Request::DescribePcr { index }));
        pairs.push((aws::Request::LockPCR { index }, Request::LockPcr { index }));
        pairs.push((aws::Request::LockPCRs { range: index }, Request::LockPcrs { range: index }));
    }
    for length in [0, 1, 23, 24, 255, 256, 4000] {
        let data = bytes(length);
        pairs.push((
            aws::Request::ExtendPCR { index: 16, data: data.clone() },
            Request::ExtendPcr { index: 16, data },
        ));
    }
    for present in 0..8 {
        let field = |bit: u8| (present & bit != 0).then(|| bytes(100));
        pairs.push((
            aws::Request::Attestation {
                user_data: field(1).map(ByteBuf::from),
                nonce: field(2).map(ByteBuf::from),
                public_key: field(4).map(ByteBuf::from),
            },
            Request::Attestation { user_data: field(1), nonce: field(2), public_key: field(4) },
        ));
    }
    pairs
}

#[test]
fn requests_have_the_same_bytes() {
    for (theirs, ours) in pairs() {
        let expected = serde_cbor::to_vec(&theirs).unwrap();
        assert_eq!(hex::encode(ours.encode()), hex::encode(&expected), "{ours:?}");
        assert_eq!(Request::decode(&expected), Ok(ours));
    }
}

#[test]
fn every_answer_is_understood_and_has_the_bytes_that_aws_would_write() {
    let mut module = module();
    for (theirs, _) in pairs() {
        let request = serde_cbor::to_vec(&theirs).unwrap();
        let answer = module.handle(&request, SystemTime::now());
        let understood: aws::Response = serde_cbor::from_slice(&answer).unwrap();
        assert_eq!(hex::encode(serde_cbor::to_vec(&understood).unwrap()), hex::encode(&answer), "{theirs:?}");
    }
}

#[test]
fn aws_reads_every_error() {
    use aws::ErrorCode as E;
    let mut module = module();
    let locked = aws::Request::LockPCR { index: 0 };
    assert!(matches!(ask(&mut module, &locked), aws::Response::Error(E::ReadOnlyIndex)));
    let absent = aws::Request::DescribePCR { index: 32 };
    assert!(matches!(ask(&mut module, &absent), aws::Response::Error(E::InvalidIndex)));
    let long = aws::Request::ExtendPCR { index: 16, data: vec![0; MAX_REQUEST_LEN] };
    assert!(matches!(ask(&mut module, &long), aws::Response::Error(E::InputTooLarge)));
    for code in [ErrorCode::InvalidOperation, ErrorCode::InternalError, ErrorCode::BufferTooSmall] {
        let bytes = nsm_device::protocol::Response::Error(code).encode();
        let read: aws::Response = serde_cbor::from_slice(&bytes).unwrap();
        assert_eq!(serde_cbor::to_vec(&read).unwrap(), bytes);
    }
}

#[test]
fn what_aws_checks_of_a_new_enclave_holds() {
    // The assertions of AWS's own test program, nsm-check.
    let mut module = module();
    let aws::Response::DescribeNSM { max_pcrs, locked_pcrs, digest, module_id, .. } =
        ask(&mut module, &aws::Request::DescribeNSM)
    else {
        panic!("no description")
    };
    assert_eq!(max_pcrs, 32);
    assert_eq!(locked_pcrs, (0..16).collect());
    assert_eq!(digest, aws::Digest::SHA384);
    assert!(!module_id.is_empty() && module_id.len() <= 99);
    for index in 0..16 {
        let locked = ask(&mut module, &aws::Request::LockPCR { index });
        assert!(matches!(locked, aws::Response::Error(_)), "PCR {index} could be locked twice");
    }
    let kilobyte = || Some(ByteBuf::from(vec![0x11; 1024]));
    let request =
        aws::Request::Attestation { user_data: kilobyte(), nonce: kilobyte(), public_key: kilobyte() };
    assert!(matches!(ask(&mut module, &request), aws::Response::Attestation { .. }));
    for index in 16..32 {
        assert!(matches!(ask(&mut module, &aws::Request::LockPCR { index }), aws::Response::LockPCR));
    }
    assert!(matches!(ask(&mut module, &aws::Request::LockPCRs { range: 32 }), aws::Response::LockPCRs));
    let beyond = ask(&mut module, &aws::Request::LockPCRs { range: 33 });
    assert!(matches!(beyond, aws::Response::Error(_)));
    let aws::Response::GetRandom { random } = ask(&mut module, &aws::Request::GetRandom) else {
        panic!("no randomness")
    };
    assert_eq!(random.len(), 256);
}
