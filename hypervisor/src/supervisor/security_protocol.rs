//! What the security module may say, and when.
//!
//! It parses what a guest asks, so it may have been taken over as well. It cannot be stopped from signing what it likes then;
//! but it must not get the guest started before it has said that the measurements are locked, nor anything unbounded or
//! unprintable into what people read.

use crate::console_log::printable;
use crate::messages::FromSecurityModule;
use crate::supervisor::machine_protocol::Violation;

/// Characters of the longest refusal that is kept.
const MAX_REFUSAL: usize = 1024;

/// How far it has come, by its own word and by the supervisor's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// It has told what its containment lacks: once, since each time is written to the state file.
    pub(super) contained: bool,
    /// It has accepted its identity.
    pub(super) ready: bool,
    /// It was told what was measured.
    pub(super) told: bool,
    /// It has accepted the measurements.
    pub(super) locked: bool,
}

/// Lets a message pass that may be said now, its text made fit to be shown.
pub(super) fn admit(message: FromSecurityModule, so_far: Progress) -> Result<FromSecurityModule, Violation> {
    let in_order = match message {
        // Its lines are cut where they are kept.
        FromSecurityModule::Contained { .. } => !so_far.ready && !so_far.contained,
        FromSecurityModule::Ready => !so_far.ready,
        FromSecurityModule::Locked => so_far.ready && so_far.told && !so_far.locked,
        FromSecurityModule::Refused(_) => !so_far.locked,
    };
    match message {
        _ if !in_order => Err(Violation("it told a step of its start out of order")),
        FromSecurityModule::Refused(why) => {
            let why = printable(why.as_bytes()).chars().take(MAX_REFUSAL).collect();
            Ok(FromSecurityModule::Refused(why))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_out_of_order_are_refused() {
        let begun = Progress::default();
        let ready = Progress { ready: true, ..begun };
        let told = Progress { told: true, ..ready };
        let locked = Progress { locked: true, ..told };
        let lacking = || FromSecurityModule::Contained { missing: Vec::new() };
        let refusal = || FromSecurityModule::Refused(String::new());
        for (message, so_far) in [
            (lacking(), begun),
            (FromSecurityModule::Ready, begun),
            (FromSecurityModule::Locked, told),
            (refusal(), begun),
            (refusal(), told),
        ] {
            assert_eq!(admit(message.clone(), so_far), Ok(message));
        }
        for (message, so_far) in [
            (lacking(), ready),
            (lacking(), Progress { contained: true, ..begun }),
            (FromSecurityModule::Ready, ready),
            (FromSecurityModule::Locked, begun),
            (FromSecurityModule::Locked, Progress { told: true, ..begun }),
            (FromSecurityModule::Locked, ready),
            (FromSecurityModule::Locked, locked),
            (refusal(), locked),
        ] {
            assert!(admit(message.clone(), so_far).is_err(), "{message:?} {so_far:?}");
        }
    }

    #[test]
    fn a_refusal_is_cut_and_made_printable() {
        let refusal = FromSecurityModule::Refused(format!("\x1b]0;{}", "é".repeat(5000)));
        let Ok(FromSecurityModule::Refused(why)) = admit(refusal, Progress::default()) else { panic!() };
        assert!(why.starts_with("]0;é") && why.chars().count() == MAX_REFUSAL);
    }
}
