//! What a child of the supervisor does first: it hears how far it is contained, and gives up everything else.
#![expect(unsafe_code, reason = "signal(2)")]

use std::io;

use containment::{Containment, ContainmentError, Isolation, Root, User};
use thiserror::Error;

/// What could not be given up.
#[derive(Debug, Error)]
pub enum GiveUpError {
    /// Signals could not be given their meaning.
    #[error("the process could not prepare for signals: {0}")]
    Signals(#[from] io::Error),
    /// Something that the process holds.
    #[error(transparent)]
    Containment(#[from] ContainmentError),
}

/// Gives up everything but the channels and standard error. Tells what this host does not allow.
/// `locks_memory` keeps all of the process's memory out of swap.
///
/// # Errors
/// What failed though this host has it: the process must not go on.
pub fn give_up(
    options: &Options,
    first_closed_descriptor: u32,
    locks_memory: bool,
) -> Result<Vec<String>, GiveUpError> {
    end_on_signals()?;
    let isolation = Isolation { root: Root::Empty, user: options.user };
    let missing = Containment {
        first_closed_descriptor,
        dies_with_parent: true,
        writes_files: false,
        locks_memory,
        traceable: !options.contained,
        isolation: options.contained.then_some(isolation),
    }
    .enter()?;
    Ok(missing.iter().map(ToString::to_string).collect())
}

/// What a process is told by its arguments, after its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether it is contained.
    pub contained: bool,
    /// Who it becomes.
    pub user: Option<User>,
}

impl Options {
    /// `on` or `off`, then two numbers if the process is to become a user: [`User::id`] and [`User::ended_by`].
    ///
    /// # Errors
    /// `NotFound` if they are not of that kind: the program was started by hand.
    pub fn of_this_process() -> io::Result<Self> {
        let unknown = || io::Error::from(io::ErrorKind::NotFound);
        let mut arguments = std::env::args().skip(2);
        let contained = match arguments.next().as_deref() {
            Some("on") => true,
            Some("off") => false,
            _ => return Err(unknown()),
        };
        let numbers: Vec<u32> =
            arguments.map(|text| text.parse()).collect::<Result<_, _>>().map_err(|_| unknown())?;
        let user = match *numbers {
            [] => None,
            [id, ended_by] if id != 0 && ended_by != 0 => Some(User { id, ended_by }),
            _ => return Err(unknown()),
        };
        Ok(Self { contained, user })
    }
}

/// Signals by which people and service managers end processes.
const ENDING: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Exit status after a signal, to which the signal's number is added, as shells have it.
const SIGNALLED: libc::c_int = 128;

/// From now on these signals end this process at once. As the first process of a PID namespace it would not notice them: there
/// only handlers count (pid_namespaces(7)).
fn end_on_signals() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = end;
    for signal in ENDING {
        // SAFETY: the handler is a function of the type that is called, and makes nothing but a system call.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn end(signal: libc::c_int) {
    // SAFETY: _exit is allowed in a signal handler, and runs nothing of this process.
    unsafe { libc::_exit(SIGNALLED.saturating_add(signal)) }
}
