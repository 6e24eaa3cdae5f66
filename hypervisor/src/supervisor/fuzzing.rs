//! What the supervisor makes of what others say, as far as it needs no other process.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "test code: a failed assumption is a failed test")]

use std::time::Duration;

use attestation::pcr::{Measurements, Pcr};

use crate::exit_reason::ExitReason;
use crate::fuzzing::read;
use crate::launch::LaunchSpec;
use crate::messages::{ApplicationEnd, FromSecurityModule, FromVm};
use crate::supervisor::machine_protocol::{MachineEvent, MachineProtocol};
use crate::supervisor::security_protocol::Progress;
use crate::supervisor::{MAX_CPUS, heartbeat, security_protocol, setup};

/// Hears the virtual machine process until it breaks the rules. An empty packet, which no process can send, is the supervisor's
/// own decision to let the machine boot. Returns how many messages were understood.
pub(crate) fn machine<'p>(packets: impl Iterator<Item = &'p [u8]>) -> usize {
    let mut protocol = MachineProtocol::new();
    let (mut booted, mut over, mut understood) = (false, false, 0);
    for packet in packets {
        if packet.is_empty() {
            if protocol.is_prepared() {
                protocol.boot();
                booted = true;
            }
            continue;
        }
        let Some(message) = read::<FromVm>(packet) else { break };
        understood += 1;
        let claim = protocol.application().cloned();
        let Ok(event) = protocol.hear(message) else { break };
        assert!(!over, "it was heard after its end: {event:?}");
        match event {
            MachineEvent::Connect { .. } | MachineEvent::Heartbeat | MachineEvent::Started => {
                assert!(booted, "{event:?} before it was told to boot");
            }
            MachineEvent::Ended { reason, detail } => {
                assert!(booted || reason == ExitReason::StartFailed, "{reason}");
                assert!(
                    !matches!(
                        reason,
                        ExitReason::Terminated | ExitReason::Signalled | ExitReason::SecurityModuleKilled
                    ),
                    "{reason}"
                );
                assert_printable(&detail, 3 * 4096);
                over = true;
            }
            MachineEvent::Contained { .. } | MachineEvent::Prepared => assert!(!booted),
            MachineEvent::Repeated => {}
        }
        assert!(claim.is_none() || protocol.application() == claim.as_ref(), "the first claim counts");
        if let Some(ApplicationEnd::Failed(text)) = protocol.application() {
            assert_printable(text, 4 * 256);
            assert!(!text.contains('\n'));
        }
    }
    understood
}

/// Hears the security module until it breaks the rules. An empty packet, which no process can send, is the supervisor's word
/// of what was measured. Returns how many messages were understood.
pub(crate) fn security_module<'p>(packets: impl Iterator<Item = &'p [u8]>) -> usize {
    let mut so_far = Progress::default();
    let mut understood = 0;
    for packet in packets {
        if packet.is_empty() {
            so_far.told |= so_far.ready;
            continue;
        }
        let Some(message) = read::<FromSecurityModule>(packet) else { break };
        understood += 1;
        let Ok(message) = security_protocol::admit(message, so_far) else { break };
        match message {
            FromSecurityModule::Contained { .. } => {
                assert!(!so_far.ready);
                assert!(!core::mem::replace(&mut so_far.contained, true), "twice");
            }
            FromSecurityModule::Ready => assert!(!core::mem::replace(&mut so_far.ready, true), "twice"),
            FromSecurityModule::Locked => {
                assert!(so_far.told, "it locked what it was not told");
                assert!(!core::mem::replace(&mut so_far.locked, true), "twice");
            }
            FromSecurityModule::Refused(why) => {
                assert_printable(&why, 4 * 1024);
                break;
            }
        }
    }
    understood
}

fn assert_printable(text: &str, most: usize) {
    assert!(text.len() <= most, "{} bytes", text.len());
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{text:?}");
}

/// Checks the order to start an enclave. True if it passed.
pub(crate) fn order(spec: &LaunchSpec) -> bool {
    if setup::check(spec).is_err() {
        return false;
    }
    // It becomes the name of a folder.
    assert!(spec.enclave_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", spec.enclave_id);
    assert!(spec.enclave_id.starts_with("i-") && spec.enclave_id.len() < 64, "{}", spec.enclave_id);
    assert!(!spec.name.chars().any(|c| c.is_control() || c == '/'), "{:?}", spec.name);
    assert!((1..=MAX_CPUS).contains(&spec.cpus.len()));
    let pcr = Pcr::from_bytes([1; 48]);
    let measured = Measurements { pcr0: pcr, pcr1: pcr, pcr2: pcr, pcr8: None };
    if let Ok(attested) = setup::attested(spec, &measured) {
        assert_eq!(attested.pcr0.is_zero(), spec.debug, "debug mode and only it hides PCR 0");
    }
    let timeout =
        heartbeat::timeout(spec.memory_mib, spec.memory_mib, Duration::from_millis(spec.memory_mib));
    assert!(timeout >= Duration::from_secs(60));
    true
}
