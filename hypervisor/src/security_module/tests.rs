//! The process driven over its two channels, as its supervisor and a virtual machine process drive it.

use std::thread::JoinHandle;

use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use getrandom::SysRng;
use nsm_device::protocol::{ErrorCode, Request, Response};
use serde_bytes::ByteBuf;

use super::*;
use crate::channel::pair;

const INSTANCE: &str = "i-0123456789abcdef0";

fn identity() -> SecurityIdentity {
    let now = SystemTime::now();
    let enclave: attestation::identity::EnclaveId = format!("{INSTANCE}-enc1").parse().unwrap();
    let root = RootAuthority::generate(now, &mut SysRng).unwrap();
    let host = root.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    SecurityIdentity {
        module_id: enclave.module_id(),
        instance_id: INSTANCE.to_owned(),
        role: String::new(),
        ca_key: ByteBuf::from(authority.key().to_pkcs8_der().unwrap().to_vec()),
        ca_chain: authority
            .chain()
            .iter()
            .map(|certificate| ByteBuf::from(certificate.as_der().to_vec()))
            .collect(),
    }
}

fn measurements(byte: u8) -> Measurements {
    let pcr = |offset| Pcr::from_bytes([byte.wrapping_add(offset); 48]);
    Measurements { pcr0: pcr(0), pcr1: pcr(1), pcr2: pcr(2), pcr8: None }
}

struct Running {
    supervisor: Channel<ToSecurityModule, FromSecurityModule>,
    machine: OwnedFd,
    process: JoinHandle<Result<(), SecurityModuleError>>,
}

impl Running {
    fn start() -> Self {
        let (supervisor, its_supervisor) = pair().unwrap();
        let (machine, its_machine) = pair().unwrap();
        let process = std::thread::spawn(move || serve(its_supervisor, its_machine, Vec::new()));
        Self { supervisor: Channel::new(supervisor), machine, process }
    }

    fn tell(&self, message: &ToSecurityModule) -> FromSecurityModule {
        self.supervisor.send(message, &[]).unwrap();
        self.supervisor.receive().unwrap().unwrap().message
    }

    fn ask(&self, request: &[u8]) -> Response {
        rustix::net::send(&self.machine, request, SendFlags::NOSIGNAL).unwrap();
        let mut response = vec![0; 0x3000];
        let (length, _) = rustix::net::recv(&self.machine, &mut response, RecvFlags::empty()).unwrap();
        Response::decode(&response[..length]).unwrap()
    }

    fn pcr(&self, index: u16) -> Response {
        self.ask(&Request::DescribePcr { index }.encode())
    }

    fn end(self) {
        drop(self.supervisor);
        self.process.join().unwrap().unwrap();
    }
}

#[test]
fn measurements_are_taken_once_and_only_from_the_supervisor() {
    let running = Running::start();
    assert!(matches!(
        running.tell(&ToSecurityModule::Measured(Some(measurements(1)))),
        FromSecurityModule::Refused(_)
    ));
    assert_eq!(running.tell(&ToSecurityModule::Identity(identity())), FromSecurityModule::Ready);
    assert_eq!(running.tell(&ToSecurityModule::Measured(Some(measurements(1)))), FromSecurityModule::Locked);
    for again in [Some(measurements(7)), None] {
        let answer = running.tell(&ToSecurityModule::Measured(again));
        assert!(matches!(answer, FromSecurityModule::Refused(_)), "{answer:?}");
    }
    let answer = running.tell(&ToSecurityModule::Identity(identity()));
    assert!(matches!(answer, FromSecurityModule::Refused(_)), "{answer:?}");
    assert_eq!(running.pcr(0), Response::DescribePcr { lock: true, data: Pcr::from_bytes([1; 48]) });
    // The bytes of the supervisor's messages mean nothing on the machine's channel.
    let mut message = Vec::new();
    ciborium::into_writer(&ToSecurityModule::Measured(Some(measurements(9))), &mut message).unwrap();
    assert!(matches!(running.ask(&message), Response::Error(_)));
    let extended = running.ask(&Request::ExtendPcr { index: 0, data: vec![1] }.encode());
    assert_eq!(extended, Response::Error(ErrorCode::ReadOnlyIndex));
    assert_eq!(running.pcr(0), Response::DescribePcr { lock: true, data: Pcr::from_bytes([1; 48]) });
    running.end();
}

#[test]
fn nothing_is_answered_before_the_measurements() {
    let running = Running::start();
    rustix::net::send(&running.machine, &Request::DescribeNsm.encode(), SendFlags::NOSIGNAL).unwrap();
    assert_eq!(running.tell(&ToSecurityModule::Identity(identity())), FromSecurityModule::Ready);
    let early = rustix::net::recv(&running.machine, &mut [0; 64], RecvFlags::DONTWAIT);
    assert_eq!(early.unwrap_err(), Errno::AGAIN);
    assert_eq!(running.tell(&ToSecurityModule::Measured(None)), FromSecurityModule::Locked);
    let mut response = vec![0; 0x3000];
    let (length, _) = rustix::net::recv(&running.machine, &mut response, RecvFlags::empty()).unwrap();
    assert!(matches!(Response::decode(&response[..length]), Ok(Response::DescribeNsm(_))));
    running.end();
}

#[test]
fn a_debug_enclave_has_zero_registers() {
    let running = Running::start();
    running.tell(&ToSecurityModule::Identity(identity()));
    running.tell(&ToSecurityModule::Measured(None));
    for index in [0, 1, 2, 8] {
        assert_eq!(running.pcr(index), Response::DescribePcr { lock: true, data: Pcr::ZERO });
    }
    running.end();
}

#[test]
fn a_machine_that_does_not_read_or_goes_away_does_not_stop_the_end() {
    let running = Running::start();
    running.tell(&ToSecurityModule::Identity(identity()));
    running.tell(&ToSecurityModule::Measured(None));
    let request = Request::GetRandom.encode();
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while rustix::net::send(&running.machine, &request, flags).is_ok() {}
    // Still hears the supervisor, whose last word is the end.
    let answer = running.tell(&ToSecurityModule::Measured(None));
    assert!(matches!(answer, FromSecurityModule::Refused(_)));
    running.end();

    let running = Running::start();
    running.tell(&ToSecurityModule::Identity(identity()));
    running.tell(&ToSecurityModule::Measured(None));
    let Running { supervisor, machine, process } = running;
    drop(machine);
    supervisor.send(&ToSecurityModule::Measured(None), &[]).unwrap();
    assert!(matches!(supervisor.receive().unwrap().unwrap().message, FromSecurityModule::Refused(_)));
    drop(supervisor);
    process.join().unwrap().unwrap();
}

#[test]
fn an_identity_that_does_not_hold_together_is_refused() {
    let mut other_host = identity();
    other_host.instance_id = "i-0123456789abcdef1".to_owned();
    let mut other_key = identity();
    other_key.ca_key = identity().ca_key.clone();
    let mut no_name = identity();
    no_name.module_id = "../etc".to_owned();
    let mut no_chain = identity();
    no_chain.ca_chain.clear();
    for bad in [other_host, other_key, no_name, no_chain] {
        let running = Running::start();
        let answer = running.tell(&ToSecurityModule::Identity(bad));
        assert!(matches!(answer, FromSecurityModule::Refused(_)), "{answer:?}");
        running.end();
    }
}

#[test]
fn a_long_packet_is_refused_as_too_large() {
    let running = Running::start();
    running.tell(&ToSecurityModule::Identity(identity()));
    running.tell(&ToSecurityModule::Measured(None));
    assert_eq!(running.ask(&vec![0x6b; MAX_REQUEST_LEN + 1]), Response::Error(ErrorCode::InputTooLarge));
    assert_eq!(running.ask(&vec![0x6b; 60_000]), Response::Error(ErrorCode::InputTooLarge));
    running.end();
}
