//! The security module's process against any messages in the supervisor's place. What a guest asks of it is the fuzz target
//! `nsm` of the crate nsm-device.
#![allow(clippy::expect_used, clippy::panic, reason = "test code: a failed assumption is a failed test")]

use attestation::pcr::{Pcr, PcrIndex};

use super::{Channel, FromSecurityModule, Process, ToSecurityModule};
use crate::channel::pair;
use crate::fuzzing::read;

/// Hears packets until one is no message, as the process does. Returns how many it understood.
pub(crate) fn supervisor<'p>(packets: impl Iterator<Item = &'p [u8]>) -> usize {
    let (supervisor, its_supervisor) = pair().expect("a channel");
    let supervisor = Channel::<ToSecurityModule, FromSecurityModule>::new(supervisor);
    let mut process = Process {
        supervisor: Channel::new(its_supervisor),
        machine: None,
        module: None,
        measured: false,
        response: None,
    };
    let (mut ready, mut locked, mut understood) = (false, false, 0);
    for packet in packets {
        let Some(message) = read::<ToSecurityModule>(packet) else { break };
        understood += 1;
        let measured = match &message {
            ToSecurityModule::Identity(_) => None,
            ToSecurityModule::Measured(measurements) => Some(measurements.as_ref().map(|image| image.pcr0)),
        };
        process.hear(message).expect("the answer can be sent");
        let answer = supervisor.receive().expect("an answer").expect("an answer").message;
        match (measured, answer) {
            (None, FromSecurityModule::Ready) => assert!(!core::mem::replace(&mut ready, true), "twice"),
            (Some(pcr0), FromSecurityModule::Locked) => {
                assert!(ready, "measurements came before the identity");
                assert!(!core::mem::replace(&mut locked, true), "measured twice");
                let module = process.module.as_ref().expect("a security module");
                let shown = module.attested_pcrs();
                assert_eq!(shown.get(&PcrIndex::new(0).expect("an index")), Some(&pcr0.unwrap_or(Pcr::ZERO)));
                assert_eq!(shown.len(), 16);
            }
            (_, FromSecurityModule::Refused(_)) => {}
            (_, other) => panic!("{other:?} is no answer to this"),
        }
        assert_eq!(process.measured, locked, "requests are read if and only if the measurements are locked");
    }
    understood
}
