//! Makes the corpora: real messages, of every kind, and some that are almost real.

use std::time::SystemTime;

use attestation::identity::EnclaveId;
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use ciborium::Value;
use getrandom::SysRng;
use serde_bytes::ByteBuf;

use super::*;
use crate::control::{Envelope, Reply, Request};
use crate::description::{Description, PhaseTiming, State, VsockProblem};
use crate::exit_reason::ExitReason;
use crate::launch::{ContainmentMode, LaunchEvent, LaunchFailure, LaunchSpec, PROTOCOL_VERSION, UserRange};
use crate::messages::{
    ApplicationEnd, BootSpec, EntryPoint, FromSecurityModule, FromVm, MachineSpec, MemoryRegion,
    SecurityIdentity, ToSecurityModule, ToVm,
};
use crate::state::{self, Record};

const INSTANCE: &str = "i-0123456789abcdef0";

fn packets<T: Serialize>(direction: u8, messages: &[T]) -> Vec<u8> {
    let packets: Vec<_> = messages.iter().map(|message| encode(message)).collect();
    [&[direction], corpus::join(&packets).as_slice()].concat()
}

fn tagged<T: Serialize>(kind: u8, message: &T) -> Vec<u8> {
    [&[kind], encode(message).as_slice()].concat()
}

fn measurements() -> Measurements {
    let pcr = |byte| Pcr::from_bytes([byte; 48]);
    Measurements { pcr0: pcr(1), pcr1: pcr(2), pcr2: pcr(3), pcr8: Some(pcr(4)) }
}

fn identity() -> SecurityIdentity {
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_316_400);
    let enclave: EnclaveId = format!("{INSTANCE}-enc1").parse().unwrap();
    let root = RootAuthority::generate(now, &mut SysRng).unwrap();
    let host = root.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    let chain = authority.chain().iter();
    SecurityIdentity {
        module_id: enclave.module_id(),
        instance_id: INSTANCE.to_owned(),
        role: "arn:aws:iam::123456789012:role/Webserver".to_owned(),
        ca_key: ByteBuf::from(authority.key().to_pkcs8_der().unwrap().to_vec()),
        ca_chain: chain.map(|certificate| ByteBuf::from(certificate.as_der().to_vec())).collect(),
    }
}

fn description() -> Description {
    Description {
        state: State::Exited,
        measurements: Some(measurements().into()),
        exit_reason: Some(ExitReason::ApplicationExited),
        exit_status: Some(3),
        exit_detail: Some("exit status 3".to_owned()),
        timings: vec![PhaseTiming { phase: "seal".to_owned(), microseconds: 12 }],
        vsock_problems: vec![VsockProblem {
            port: 7,
            path: "/run/vsock.sock_7".into(),
            problem: "nobody listens".to_owned(),
        }],
        containment_missing: vec!["vm: landlock".to_owned()],
        ..Description::example()
    }
}

fn order() -> LaunchSpec {
    LaunchSpec {
        version: PROTOCOL_VERSION,
        process_id: 4711,
        containment: ContainmentMode::Require,
        users: Some(UserRange { first: 2_000_000_000, last: 2_000_029_999 }),
        cgroup: Some("/sys/fs/cgroup/enclaves".into()),
        enclave_id: format!("{INSTANCE}-enc1"),
        name: "app".to_owned(),
        exact_name: false,
        run_root: "/run/enclave".into(),
        image_path: "app.eif".into(),
        cid: Some(16),
        cpus: vec![1, 3],
        memory_mib: 512,
        huge_page_size: Some(2 << 20),
        debug: false,
        required_certificate: Some(ByteBuf::from(vec![0x30; 40])),
        heartbeat_timeout_ms: None,
        start: true,
        module_id: format!("{INSTANCE}-enc0000000000000001"),
        role: "arn:aws:iam::123456789012:role/Webserver".to_owned(),
    }
}

fn region(guest_address: u64, length: u64, offset: u64) -> MemoryRegion {
    MemoryRegion { guest_address, length, offset }
}

fn to_vm() -> Vec<u8> {
    let linux = EntryPoint::Linux64 { instruction: 0x100_0200, boot_params: 0x7000 };
    let pvh = EntryPoint::Pvh { instruction: 0x100_0000, start_info: 0x6000 };
    let regions = vec![region(0, 3 << 30, 0), region(4 << 30, 1 << 30, 3 << 30)];
    packets(
        0,
        &[
            ToVm::Prepare(MachineSpec { cpus: vec![0, 1], guest_cid: 16, debug: true }),
            ToVm::Boot(BootSpec { regions, entry: linux }),
            ToVm::Boot(BootSpec { regions: vec![region(0, 4096, u64::MAX - 4095)], entry: pvh }),
            ToVm::Connected { request: 1 },
            ToVm::Refused { request: u64::MAX },
            ToVm::Incoming,
            ToVm::Stop,
        ],
    )
}

/// Messages to the supervisor, with its own decision (an empty packet) after the second.
fn with_decision<T: Serialize>(direction: u8, messages: &[T]) -> Vec<u8> {
    let mut packets: Vec<_> = messages.iter().map(|message| encode(message)).collect();
    packets.insert(2, Vec::new());
    [&[direction], corpus::join(&packets).as_slice()].concat()
}

fn ended(reason: ExitReason) -> FromVm {
    FromVm::Ended { reason, detail: "\u{1b}[2Jrip=0xfff0\n".to_owned() }
}

fn beginning() -> [FromVm; 3] {
    [FromVm::Contained { missing: vec!["landlock".to_owned()] }, FromVm::Prepared, FromVm::Started]
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_messages() {
    let life = [
        FromVm::Connect { request: 1, port: 5005 },
        FromVm::Heartbeat,
        FromVm::Heartbeat,
        FromVm::ApplicationEnded(ApplicationEnd::Failed("no such\nfile".to_owned())),
        FromVm::ApplicationEnded(ApplicationEnd::Exited(3)),
        ended(ExitReason::GuestReset),
    ];
    let life: Vec<_> = beginning().into_iter().chain(life).collect();
    let claims = [
        FromVm::ApplicationEnded(ApplicationEnd::Signalled(9)),
        ended(ExitReason::KvmError),
        ended(ExitReason::TripleFault),
    ];
    let claims: Vec<_> = beginning().into_iter().chain(claims).collect();
    let unbelieved: Vec<_> = beginning().into_iter().chain([ended(ExitReason::Terminated)]).collect();
    let security = [
        ToSecurityModule::Measured(None),
        ToSecurityModule::Identity(identity()),
        ToSecurityModule::Identity(identity()),
        ToSecurityModule::Measured(Some(measurements())),
        ToSecurityModule::Measured(None),
    ];
    let mut other_chain = identity();
    other_chain.ca_key = identity().ca_key.clone();
    let mut other_host = identity();
    other_host.instance_id = "i-0123456789abcdef1".to_owned();
    let refused = [ToSecurityModule::Identity(other_chain), ToSecurityModule::Identity(other_host)];
    let debug = [ToSecurityModule::Identity(identity()), ToSecurityModule::Measured(None)];
    let answers = [
        FromSecurityModule::Contained { missing: vec!["namespaces".to_owned()] },
        FromSecurityModule::Ready,
        FromSecurityModule::Locked,
    ];
    let refusals = [FromSecurityModule::Ready, FromSecurityModule::Refused("\u{1b}]0;no".to_owned())];
    let unasked = [FromSecurityModule::Ready, FromSecurityModule::Locked];
    let malformed =
        corpus::join(&[&b"\x68Prepared\x00"[..], b"\xa1\x67Refused\x9b\xff\xff\xff\xff\xff\xff\xff\xff"]);
    let nested = corpus::join(&[vec![0xa1; 200]]);
    corpus::write(
        "messages",
        &[
            ("to-vm", to_vm()),
            ("from-vm", with_decision(1, &life)),
            ("from-vm-claims", with_decision(1, &claims)),
            ("from-vm-unbelieved", with_decision(1, &unbelieved)),
            ("from-vm-start-failed", with_decision(1, &[FromVm::Prepared, ended(ExitReason::StartFailed)])),
            ("to-security-module", packets(2, &security)),
            ("to-security-module-refused", packets(2, &refused)),
            ("to-security-module-debug", packets(2, &debug)),
            ("from-security-module", with_decision(3, &answers)),
            ("from-security-module-refused", packets(3, &refusals)),
            ("from-security-module-unasked", packets(3, &unasked)),
            ("malformed", [&[1], malformed.as_slice()].concat()),
            ("malformed-nested", [&[3], nested.as_slice()].concat()),
        ],
    );
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_control() {
    let envelope = |version, request: Request| {
        tagged(0, &Envelope { version, request: Value::serialized(&request).unwrap() })
    };
    let running = Box::new(description());
    let events = [
        LaunchEvent::Loading { done: 1 << 20, total: 1 << 30 },
        LaunchEvent::Measured(measurements()),
        LaunchEvent::Booting,
        LaunchEvent::Running(running.clone()),
    ];
    let failure = LaunchFailure {
        reason: ExitReason::ImageRefused,
        message: "the image is not signed".to_owned(),
        console_tail: Some("Kernel panic".to_owned()),
    };
    let record = |ended_at| state::encode(&Record::new(description(), ended_at)).unwrap();
    let mut other_order = order();
    other_order.name = "a/b".to_owned();
    let mut small_order = order();
    (small_order.cid, small_order.huge_page_size, small_order.debug) = (None, None, true);
    (small_order.required_certificate, small_order.heartbeat_timeout_ms) = (None, Some(1));
    small_order.role = String::new();
    let version = |more: u32| format!("\"Version\": {}", state::STATE_VERSION + more);
    let state_of_another_version = String::from_utf8(record(None)).unwrap().replace(&version(0), &version(1));
    corpus::write(
        "control",
        &[
            ("start", envelope(PROTOCOL_VERSION, Request::Start)),
            ("terminate", envelope(PROTOCOL_VERSION, Request::Terminate)),
            ("wait", envelope(PROTOCOL_VERSION, Request::Wait)),
            ("console", envelope(PROTOCOL_VERSION, Request::Console)),
            ("malformed-version", envelope(PROTOCOL_VERSION + 1, Request::Start)),
            ("malformed-request", tagged(0, &Envelope { version: PROTOCOL_VERSION, request: 7.into() })),
            ("reply-launch", tagged(1, &Reply::Launch(LaunchEvent::Booting))),
            ("reply-ended", tagged(1, &Reply::Ended(running.clone()))),
            ("reply-console", tagged(1, &Reply::Console)),
            ("reply-refused", tagged(1, &Reply::Refused("it runs already".to_owned()))),
            ("events", packets(2, &events)),
            ("events-created", packets(2, &[LaunchEvent::Created(running), LaunchEvent::Booting])),
            ("events-failed", packets(2, &[LaunchEvent::Booting, LaunchEvent::Failed(failure)])),
            ("order", tagged(3, &order())),
            ("order-small", tagged(3, &small_order)),
            ("malformed-order", tagged(3, &other_order)),
            ("state", [&[4], record(None).as_slice()].concat()),
            ("state-ended", [&[4], record(Some(1_795_316_400)).as_slice()].concat()),
            ("malformed-state", [&[4], state_of_another_version.as_bytes()].concat()),
        ],
    );
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_nsm_shim() {
    let request = [0, 16, 0, 40];
    let hear = [3, 0, 0, 0];
    let answer = [4, 100, 0, 0];
    let unasked = [4, 100, 0, 0x80];
    let reset = [6, 0, 0, 0];
    let idle = [7, 0, 0, 0];
    let seeds: [(&str, &[[u8; 4]]); 9] = [
        ("one-request", &[request, hear, answer, idle, request, hear, answer]),
        ("answers-before-requests", &[unasked, unasked, request, request, hear]),
        ("reset-while-waiting", &[request, hear, reset, request, answer, hear, answer]),
        ("module-gone", &[request, [6, 0, 0, 0xff], request, reset, request]),
        ("longest-request", &[[0, 0, 0x10, 0xff], hear, [4, 0, 0x30, 0], [1, 1, 0x10, 0xff], hear, answer]),
        ("no-room", &[[0, 1, 0, 1], hear, [4, 0, 0x10, 0], [0, 1, 0, 0], [0, 0, 0, 9]]),
        ("too-long-an-answer", &[[0, 1, 0, 0xff], hear, [4, 0xff, 0x30, 0]]),
        ("broken-chains", &[[5, 8, 30, 1], [5, 1, 7, 0x41], reset, [5, 2, 2, 2], request]),
        ("index-ahead", &[request, [5, 9, 200, 0x45], idle, reset, request, answer]),
    ];
    let seeds: Vec<_> = seeds.iter().map(|(name, steps)| (*name, steps.concat())).collect();
    corpus::write("nsm_shim", &seeds);
}
