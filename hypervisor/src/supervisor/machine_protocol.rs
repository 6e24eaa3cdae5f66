//! What the virtual machine process may say, and when.
//!
//! The process may have been taken over by its guest. Whatever it says is checked here before it means anything: order,
//! lengths, and that the reasons it gives for its end are ones that a machine can have. What breaks the rules ends the
//! enclave.

use crate::console_log::printable;
use crate::exit_reason::ExitReason;
use crate::messages::{ApplicationEnd, FromVm};

/// Bytes of the longest detail that is kept.
const MAX_DETAIL: usize = 4096;

/// Characters of the longest text about a failed application.
const MAX_FAILURE: usize = 256;

/// The highest signal number.
const LAST_SIGNAL: u8 = 64;

/// How far the machine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begun,
    /// It told what its containment lacks.
    Preparing,
    Prepared,
    Booting,
    Started,
    Over,
}

/// The rules, and how far the machine has come under them.
#[derive(Debug)]
pub(super) struct MachineProtocol {
    phase: Phase,
    heartbeat: bool,
    application: Option<ApplicationEnd>,
}

/// A message that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MachineEvent {
    /// What the containment lacks.
    Contained {
        missing: Vec<String>,
    },
    Prepared,
    Started,
    /// The guest wants to reach a host program.
    Connect {
        request: u64,
        port: u32,
    },
    /// The first heartbeat.
    Heartbeat,
    /// The machine ended.
    Ended {
        reason: ExitReason,
        detail: String,
    },
    /// Nothing that matters.
    Repeated,
}

/// A message that broke the rules, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

impl MachineProtocol {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Begun, heartbeat: false, application: None }
    }

    /// The machine may be given its memory.
    pub(super) fn is_prepared(&self) -> bool {
        self.phase == Phase::Prepared
    }

    /// Virtual CPUs have run.
    pub(super) fn has_started(&self) -> bool {
        self.phase >= Phase::Started
    }

    /// It was told to boot.
    pub(super) fn boot(&mut self) {
        self.phase = Phase::Booting;
    }

    /// How the guest's init said that the application ended.
    pub(super) const fn application(&self) -> Option<&ApplicationEnd> {
        self.application.as_ref()
    }

    /// Checks one message.
    pub(super) fn hear(&mut self, message: FromVm) -> Result<MachineEvent, Violation> {
        match (message, self.phase) {
            (_, Phase::Over) => Err(Violation("it went on after it had told its end")),
            (FromVm::Contained { missing }, Phase::Begun) => {
                self.phase = Phase::Preparing;
                Ok(MachineEvent::Contained { missing })
            }
            (FromVm::Prepared, Phase::Begun | Phase::Preparing) => {
                self.phase = Phase::Prepared;
                Ok(MachineEvent::Prepared)
            }
            (FromVm::Started, Phase::Booting) => {
                self.phase = Phase::Started;
                Ok(MachineEvent::Started)
            }
            // The guest may be faster than the word that it runs.
            (FromVm::Connect { request, port }, Phase::Booting | Phase::Started) => {
                Ok(MachineEvent::Connect { request, port })
            }
            (FromVm::Heartbeat, Phase::Booting | Phase::Started) => {
                Ok(if core::mem::replace(&mut self.heartbeat, true) {
                    MachineEvent::Repeated
                } else {
                    MachineEvent::Heartbeat
                })
            }
            (FromVm::ApplicationEnded(end), Phase::Booting | Phase::Started) => {
                let end = checked_end(end)?;
                self.application.get_or_insert(end);
                Ok(MachineEvent::Repeated)
            }
            (FromVm::Ended { reason, detail }, _) => self.ended(reason, &detail),
            (FromVm::Contained { .. } | FromVm::Prepared | FromVm::Started, _) => {
                Err(Violation("it told a step of its start out of order"))
            }
            (FromVm::Connect { .. } | FromVm::Heartbeat | FromVm::ApplicationEnded(_), _) => {
                Err(Violation("it spoke for a guest that does not run"))
            }
        }
    }

    fn ended(&mut self, reason: ExitReason, detail: &str) -> Result<MachineEvent, Violation> {
        let possible = match reason {
            ExitReason::GuestReset
            | ExitReason::AcpiPowerOff
            | ExitReason::AcpiReset
            | ExitReason::TripleFault
            | ExitReason::KvmError => self.phase >= Phase::Booting,
            ExitReason::StartFailed => self.phase <= Phase::Booting,
            _ => false,
        };
        if !possible {
            return Err(Violation("it gave a reason for its end that it cannot have"));
        }
        self.phase = Phase::Over;
        let detail = printable(detail.as_bytes().get(..MAX_DETAIL).unwrap_or(detail.as_bytes()));
        Ok(MachineEvent::Ended { reason, detail })
    }
}

/// The guest's claim, within its bounds.
fn checked_end(end: ApplicationEnd) -> Result<ApplicationEnd, Violation> {
    match end {
        ApplicationEnd::Signalled(signal) if signal == 0 || signal > LAST_SIGNAL => {
            Err(Violation("it told of a signal that does not exist"))
        }
        ApplicationEnd::Failed(text) => {
            let text = printable(text.as_bytes()).replace('\n', " ");
            Ok(ApplicationEnd::Failed(text.chars().take(MAX_FAILURE).collect()))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn started() -> MachineProtocol {
        let mut protocol = MachineProtocol::new();
        assert_eq!(protocol.hear(FromVm::Prepared), Ok(MachineEvent::Prepared));
        protocol.boot();
        assert_eq!(protocol.hear(FromVm::Started), Ok(MachineEvent::Started));
        protocol
    }

    fn ended(reason: ExitReason) -> FromVm {
        FromVm::Ended { reason, detail: String::new() }
    }

    #[test]
    fn steps_out_of_order_are_refused() {
        let early = [
            FromVm::Started,
            FromVm::Heartbeat,
            FromVm::Connect { request: 1, port: 1 },
            FromVm::ApplicationEnded(ApplicationEnd::Exited(0)),
            ended(ExitReason::GuestReset),
            ended(ExitReason::KvmError),
        ];
        for message in early {
            assert!(MachineProtocol::new().hear(message.clone()).is_err(), "{message:?}");
        }
        let lacking = || FromVm::Contained { missing: vec!["landlock".to_owned()] };
        assert!(started().hear(lacking()).is_err());
        let mut twice = MachineProtocol::new();
        assert!(twice.hear(lacking()).is_ok());
        assert!(twice.hear(lacking()).is_err());
        assert!(twice.hear(FromVm::Prepared).is_ok());
        assert!(started().hear(FromVm::Prepared).is_err());
        assert!(started().hear(FromVm::Started).is_err());
        let mut unasked = MachineProtocol::new();
        unasked.hear(FromVm::Prepared).unwrap();
        assert!(unasked.hear(FromVm::Started).is_err());
    }

    #[test]
    fn only_a_machine_s_reasons_are_believed() {
        for reason in [ExitReason::GuestReset, ExitReason::AcpiPowerOff, ExitReason::AcpiReset] {
            assert!(started().hear(ended(reason)).is_ok());
        }
        for reason in [
            ExitReason::ApplicationExited,
            ExitReason::HeartbeatTimeout,
            ExitReason::Signalled,
            ExitReason::Terminated,
            ExitReason::ImageRefused,
            ExitReason::StartFailed,
            ExitReason::VmProcessKilled,
            ExitReason::SecurityModuleKilled,
            ExitReason::SupervisorKilled,
        ] {
            assert!(started().hear(ended(reason)).is_err(), "{reason}");
        }
        assert!(MachineProtocol::new().hear(ended(ExitReason::StartFailed)).is_ok());
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut protocol = started();
        protocol.hear(ended(ExitReason::TripleFault)).unwrap();
        assert!(protocol.hear(FromVm::Heartbeat).is_err());
        assert!(protocol.hear(ended(ExitReason::TripleFault)).is_err());
    }

    #[test]
    fn the_first_heartbeat_and_the_first_claim_count() {
        let mut protocol = started();
        assert_eq!(protocol.hear(FromVm::Heartbeat), Ok(MachineEvent::Heartbeat));
        assert_eq!(protocol.hear(FromVm::Heartbeat), Ok(MachineEvent::Repeated));
        for status in [3, 4] {
            protocol.hear(FromVm::ApplicationEnded(ApplicationEnd::Exited(status))).unwrap();
        }
        assert_eq!(protocol.application(), Some(&ApplicationEnd::Exited(3)));
    }

    #[test]
    fn texts_are_cut_and_made_printable() {
        let mut protocol = started();
        let text = format!("\x1b[2J\n{}", "x".repeat(1000));
        protocol.hear(FromVm::ApplicationEnded(ApplicationEnd::Failed(text))).unwrap();
        let Some(ApplicationEnd::Failed(text)) = protocol.application() else { panic!() };
        assert!(text.starts_with("[2J x") && text.chars().count() == MAX_FAILURE);
        let detail = "\u{7}é".repeat(10_000);
        let event = protocol.hear(FromVm::Ended { reason: ExitReason::KvmError, detail }).unwrap();
        let MachineEvent::Ended { detail, .. } = event else { panic!() };
        assert!(detail.len() <= MAX_DETAIL + 2 && !detail.contains('\u{7}'));
        for signal in [0, 65] {
            let end = FromVm::ApplicationEnded(ApplicationEnd::Signalled(signal));
            assert!(started().hear(end).is_err());
        }
    }

    fn any_message() -> impl Strategy<Value = FromVm> {
        let reason = prop::sample::select(vec![
            ExitReason::GuestReset,
            ExitReason::KvmError,
            ExitReason::StartFailed,
            ExitReason::Terminated,
        ]);
        prop_oneof![
            Just(FromVm::Prepared),
            Just(FromVm::Contained { missing: Vec::new() }),
            Just(FromVm::Started),
            any::<(u64, u32)>().prop_map(|(request, port)| FromVm::Connect { request, port }),
            Just(FromVm::Heartbeat),
            any::<u8>().prop_map(|signal| FromVm::ApplicationEnded(ApplicationEnd::Signalled(signal))),
            (reason, ".*").prop_map(|(reason, detail)| FromVm::Ended { reason, detail }),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: nothing of a guest passes before the machine was told to boot, and nothing
        /// at all after its end.
        #[test]
        fn order_is_kept_whatever_is_said(messages in prop::collection::vec(any_message(), 0..40), boots in 0..20_usize) {
            let mut protocol = MachineProtocol::new();
            let (mut booted, mut over) = (false, false);
            for (index, message) in messages.into_iter().enumerate() {
                if index == boots && protocol.is_prepared() {
                    protocol.boot();
                    booted = true;
                }
                match protocol.hear(message) {
                    Ok(MachineEvent::Connect { .. } | MachineEvent::Heartbeat | MachineEvent::Started) => {
                        prop_assert!(booted && !over);
                    }
                    Ok(MachineEvent::Ended { reason, .. }) => {
                        prop_assert!(!over && (booted || reason == ExitReason::StartFailed));
                        over = true;
                    }
                    Ok(MachineEvent::Contained { .. } | MachineEvent::Prepared | MachineEvent::Repeated) => {
                        prop_assert!(!over);
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
