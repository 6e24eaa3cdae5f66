//! What the service tells its operator while it runs.
//!
//! Decisions on keys are in the audit log. What a stranger can cause without a signature is told here, at most once in a while: he
//! must not be able to fill a disk.

use core::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::FILE;

/// How often what strangers cause is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// A request was nobody's.
    Unauthenticated {
        /// Where it came from.
        source: String,
        /// The id in its answer.
        request_id: String,
        /// What was wrong with it.
        why: String,
    },
    /// A connection was closed at once, for there were as many as there may be.
    TooManyConnections {
        /// By which listener it came.
        listener: String,
    },
    /// A connection could not be accepted.
    NotAccepted {
        /// By which listener it came.
        listener: String,
        /// The system's error.
        why: String,
    },
    /// An enclave asked for credentials and got none.
    NotGiven {
        /// Why.
        why: String,
    },
    /// The enclave of a listener has ended, and the listener with it.
    EnclaveEnded {
        /// The listener.
        listener: String,
    },
    /// What has to be done from time to time failed.
    HouseNotKept {
        /// Why.
        why: String,
    },
    /// The service manager does not know how it is with the service.
    ManagerNotTold {
        /// Why.
        why: String,
    },
    /// The service ends; requests that run are still answered.
    Ending,
    /// A signal asked to read the principals again, and how documents are verified.
    Reloaded {
        /// How many there are now.
        principals: usize,
    },
    /// Other settings were changed, too, and are not taken by a service that runs.
    AtNextStart {
        /// Their names in the configuration.
        settings: Vec<&'static str>,
    },
    /// They could not be read; those before stay.
    NotReloaded {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated { source, request_id, why } => {
                write!(f, "refused a request from {source} (request id {request_id}): {why}")
            }
            Self::TooManyConnections { listener } => {
                write!(f, "closed a connection to {listener}: there are as many as [limits] allows")
            }
            Self::NotAccepted { listener, why } => {
                write!(f, "could not accept a connection to {listener}: {why}")
            }
            Self::NotGiven { why } => write!(f, "gave no credentials: {why}"),
            Self::EnclaveEnded { listener } => write!(f, "{listener} has ended; no longer listening there"),
            Self::HouseNotKept { why } => {
                write!(f, "keys whose deletion is due could not be destroyed: {why}")
            }
            Self::ManagerNotTold { why } => {
                write!(f, "could not tell the service manager, by $NOTIFY_SOCKET: {why}")
            }
            Self::Ending => f.write_str("ending; requests that run are still answered"),
            Self::Reloaded { principals } => {
                write!(
                    f,
                    "read the principals again: {principals} access keys; and roots, max_document_age_seconds and cms_encoding"
                )
            }
            Self::AtNextStart { settings } => {
                write!(f, "changed in {FILE}, and taken at the next start alone: {}", settings.join(", "))
            }
            Self::NotReloaded { why } => write!(f, "kept the principals as they were, and the roots: {why}"),
        }
    }
}

/// Tells notices, not more often than is good.
#[derive(Debug, Default)]
pub(super) struct Notices {
    last: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    omitted: u64,
}

impl Notices {
    pub(super) fn tell(&self, notice: &Notice) {
        match notice {
            Notice::Ending | Notice::Reloaded { .. } | Notice::EnclaveEnded { .. } => {
                tracing::info!("{notice}")
            }
            Notice::AtNextStart { .. } => tracing::warn!("{notice}"),
            Notice::NotReloaded { .. } | Notice::HouseNotKept { .. } | Notice::ManagerNotTold { .. } => {
                tracing::error!("{notice}")
            }
            Notice::Unauthenticated { .. }
            | Notice::TooManyConnections { .. }
            | Notice::NotAccepted { .. }
            | Notice::NotGiven { .. } => match self.turn(Instant::now()) {
                None => {}
                Some(0) => tracing::warn!("{notice}"),
                Some(omitted) => tracing::warn!("{notice} ({omitted} notices omitted before)"),
            },
        }
    }

    /// If it may be told now, how many before it were not.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            last.omitted = last.omitted.saturating_add(1);
            return None;
        }
        last.at = Some(now);
        Some(core::mem::take(&mut last.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_cause_is_told_once_in_a_while_and_counted() {
        let notices = Notices::default();
        let start = Instant::now();
        assert_eq!(notices.turn(start), Some(0));
        assert_eq!(notices.turn(start + INTERVAL - Duration::from_nanos(1)), None);
        assert_eq!(notices.turn(start), None);
        assert_eq!(notices.turn(start + INTERVAL), Some(2));
        assert_eq!(notices.turn(start + INTERVAL * 2), Some(0));
    }
}
