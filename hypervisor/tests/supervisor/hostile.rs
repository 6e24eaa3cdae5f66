//! A virtual machine process that was taken over by its guest: it can end its own machine, and nothing more.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Instant, SystemTime};

use attestation::pcr::{Pcr, PcrIndex};
use attestation::verify::{Policy, verify};
use enclave_hypervisor::client;
use enclave_hypervisor::description::{MAX_CONTAINMENT_LINE, MAX_CONTAINMENT_MISSING};
use enclave_hypervisor::exit_reason::ExitReason;
use nsm_device::protocol::Response;

use crate::harness::Test;
use crate::stand_in::FORGER_PORT;
use crate::world::{PATIENCE, Watched, World, watch_all};

pub(crate) const TESTS: &[Test] = &[
    ("breaking_the_protocol_ends_the_enclave", breaking_the_protocol_ends_the_enclave),
    (
        "a_flood_does_not_keep_the_supervisor_from_commands",
        a_flood_does_not_keep_the_supervisor_from_commands,
    ),
    ("a_machine_that_ignores_its_end_is_killed", a_machine_that_ignores_its_end_is_killed),
    ("a_closed_channel_ends_the_enclave", a_closed_channel_ends_the_enclave),
    ("what_the_containment_lacks_is_told_within_bounds", what_the_containment_lacks_is_told_within_bounds),
    ("no_document_with_other_registers_can_be_had", no_document_with_other_registers_can_be_had),
];

fn breaking_the_protocol_ends_the_enclave() {
    for part in ["garbage", "huge", "early", "liar"] {
        let world = World::new(part);
        let failure = world.failing(|_| {});
        assert_eq!(failure.reason, ExitReason::VmProcessKilled, "{part}: {}", failure.message);
        assert!(failure.message.contains("was ended because it"), "{part}: {}", failure.message);
    }
}

fn a_flood_does_not_keep_the_supervisor_from_commands() {
    let world = World::new("flood");
    let running = world.running(|_| {});
    let processes = watch_all(&running);
    for _ in 0..10 {
        let began = Instant::now();
        let refused = client::start(&world.root, &running, &mut |_| {}).unwrap_err();
        assert!(refused.to_string().contains("runs already"), "{refused}");
        assert!(began.elapsed() < PATIENCE);
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", running.process_id)).unwrap();
    let anonymous = memory.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kibibytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 16 * 1024, "the flood is kept: {kibibytes} KiB");
    assert!(client::find(&world.root, "tested").unwrap().vsock_problems.len() == 1);
    let ended = client::terminate(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::Terminated));
    processes.iter().for_each(Watched::ends);
}

fn a_machine_that_ignores_its_end_is_killed() {
    let world = World::new("deaf");
    let running = world.running(|_| {});
    let processes = watch_all(&running);
    let ended = client::terminate(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::Terminated));
    processes.iter().for_each(Watched::ends);
}

fn a_closed_channel_ends_the_enclave() {
    let world = World::new("closer");
    let running = world.running(|_| {});
    let ended = client::wait(&world.root, &running).unwrap();
    assert_eq!(ended.exit_reason, Some(ExitReason::VmProcessKilled));
}

fn what_the_containment_lacks_is_told_within_bounds() {
    let world = World::new("lacking");
    let running = world.running(|_| {});
    // The security module is the real one: where the host lacks something it tells that, too.
    let lines: Vec<_> = running.containment_missing.iter().filter(|line| line.starts_with("vm: ")).collect();
    assert!(!lines.is_empty() && running.containment_missing.len() <= MAX_CONTAINMENT_MISSING);
    for line in lines {
        assert!(line.starts_with("vm: [2Jlandlock xxx"), "{line}");
        assert!(line.len() <= "vm: ".len() + MAX_CONTAINMENT_LINE);
    }
    let _ = client::terminate(&world.root, &running).unwrap();
}

fn no_document_with_other_registers_can_be_had() {
    let world = World::new("forger");
    let created = world.running(|spec| {
        spec.start = false;
        spec.debug = false;
    });
    let door = created.run_dir.join(format!("vsock.sock_{FORGER_PORT}"));
    let listener = UnixListener::bind(&door).unwrap();
    // For the supervisor's user; nobody else gets as far as the folder.
    std::fs::set_permissions(&door, std::fs::Permissions::from_mode(0o666)).unwrap();
    let running = client::start(&world.root, &created, &mut |_| {}).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut answer = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
        stream.read_exact(&mut bytes).unwrap();
        Response::decode(&bytes).unwrap()
    };
    let image = created.measurements.unwrap().registers;
    let attested = created.attested_pcrs.unwrap();
    let expected = |index: u64| match index {
        0 => image.pcr0,
        1 => image.pcr1,
        2 => image.pcr2,
        3 => attested.pcr3,
        4 => attested.pcr4,
        _ => Pcr::ZERO,
    };
    for index in 0..16 {
        assert_eq!(answer(), Response::DescribePcr { lock: true, data: expected(index) }, "PCR {index}");
    }
    let Response::Attestation { document } = answer() else { panic!() };
    let pcrs = (0..16).map(|index| (PcrIndex::new(index).unwrap(), expected(index))).collect();
    let policy = Policy { pcrs, nonce: Some(b"nonce".to_vec()), ..Policy::default() };
    verify(&document, &world.certificate, SystemTime::now(), &policy).unwrap();
    client::terminate(&world.root, &running).unwrap();
}
