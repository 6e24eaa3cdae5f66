//! The supervisor: it starts an enclave's other processes, measures the image into guest memory, alone tells the security
//! module what was measured, answers commands, and sees to it that nothing is left behind.
//!
//! First it claims what an enclave needs and starts the other two, with all rights of the user who started it. Then it gives these
//! up ([`setup`]), before it reads a byte of the image: from then on it is one event loop that never blocks, and a thread that
//! reads the image. docs/architecture.md draws the processes; [`lifecycle`] is the way from the request to the end.

mod budget;
mod children;
mod cid;
mod console;
mod control_server;
mod ending;
mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod heartbeat;
mod host_claim;
mod host_sockets;
mod image;
mod lifecycle;
mod link;
mod listener;
mod log;
mod machine_protocol;
mod poller;
mod security_protocol;
mod setup;
mod signals;
mod users;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;

pub use children::{ChildSpawner, OwnProgram, Role};
pub use setup::MAX_CPUS;

use crate::channel::{Channel, ChannelError};
use crate::exit_reason::ExitReason;
use crate::launch::{LaunchEvent, LaunchFailure, LaunchSpec};

/// Why a supervisor could not do its work at all. What happens to the enclave is told to the starting command instead.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// The starting command did not say what to start.
    #[error("the starting command went away without a request")]
    NoRequest,
    /// The request came without the image's descriptor.
    #[error("the request came without an image")]
    NoImage,
    /// The starting command's channel failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The system failed the supervisor itself.
    #[error("the supervisor failed: {0}")]
    Io(#[from] io::Error),
}

/// Runs one enclave from the request that comes over `starter` to its end. To be called while the process has one
/// thread.
///
/// # Errors
/// [`SupervisorError`] if there is no request or the event loop itself fails.
pub fn run(starter: OwnedFd, spawner: &dyn ChildSpawner) -> Result<(), SupervisorError> {
    let signals = signals::ending_signals()?;
    let starter = Channel::<LaunchEvent, LaunchSpec>::new(starter);
    let mut request = starter.receive()?.ok_or(SupervisorError::NoRequest)?;
    let image = File::from(request.descriptors.pop().ok_or(SupervisorError::NoImage)?);
    let spec = request.message;
    let placed = setup::claim(&spec).and_then(|claims| {
        let children = children::Children::start(spawner, spec.containment, claims.users());
        let (place, memory) = claims.settle(&spec)?;
        Ok((place, memory, children))
    });
    match placed {
        Ok((place, memory, children)) => {
            let starter = starter.into_socket();
            lifecycle::Supervisor::new(spec, place, image, memory, starter, signals)?.run(children)
        }
        Err(error) => {
            let failure = LaunchFailure {
                reason: ExitReason::StartFailed,
                message: error.to_string(),
                console_tail: None,
            };
            Ok(starter.send(&LaunchEvent::Failed(failure), &[])?)
        }
    }
}
