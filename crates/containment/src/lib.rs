//! What each of an enclave's processes gives up before untrusted bytes reach it.
//!
//! A process calls [`Containment::enter`] first of all: it keeps the descriptors it was given and no others, leaves no
//! core dump, cannot be traced by its own user, gains no privileges by exec, and, if it is a child, does not outlive its
//! parent. An isolated one also has namespaces and an empty root of its own, no capabilities, and no files, ports or
//! other processes within reach (landlock). [`SystemCalls`] then says what a thread may ask of the kernel.

mod capabilities;
mod descriptors;
mod files;
mod measure;
mod namespaces;
mod system_calls;

use std::io;

use landlock::RulesetStatus;
use rustix::fs::Mode;
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use thiserror::Error;

pub use measure::{Measure, Missing};
pub use system_calls::{Argument, SystemCalls};

/// What a process keeps and what it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Containment {
    /// Descriptors from this number on are closed.
    pub first_closed_descriptor: u32,
    /// The kernel kills this process when the thread that started it ends.
    pub dies_with_parent: bool,
    /// It may write regular files.
    pub writes_files: bool,
    /// Its memory is kept out of swap where the limit on locked memory allows.
    pub locks_memory: bool,
    /// It has all that it needs already: it is taken everything else, capabilities and the view of the host included.
    pub isolated: bool,
}

/// What could not be given up.
#[derive(Debug, Error)]
#[error("the process could not {step}: {error}")]
pub struct ContainmentError {
    /// What was tried, as words after "could not".
    step: &'static str,
    /// The system's error.
    error: io::Error,
}

/// Names the step that failed.
fn step(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> ContainmentError {
    move |errno| ContainmentError { step, error: errno.into() }
}

impl Containment {
    /// Gives up what is to be given up, and tells what this host did not allow. To be called first, while the process has one
    /// thread and no other code of it holds a descriptor.
    ///
    /// # Errors
    /// Names what failed though this host has it; the process must not go on.
    pub fn enter(&self) -> Result<Vec<Missing>, ContainmentError> {
        descriptors::close_from(self.first_closed_descriptor)
            .map_err(|error| ContainmentError { step: "close inherited descriptors", error })?;
        let mut missing = Vec::new();
        if self.isolated {
            // While it may: later the limit counts even for root, which is root no more.
            let _an_ordinary_user = allow_locked_memory().is_err();
            missing.extend(isolate()?);
        }
        // These two are reset by a change of credentials, so they come after it.
        if self.dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(step("tie its life to its parent's"))?;
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(step("make itself untraceable"))?;
        rustix::thread::set_no_new_privs(true).map_err(step("renounce new privileges"))?;
        limit_to_zero(Resource::Core).map_err(step("forbid core dumps"))?;
        if !self.writes_files {
            limit_to_zero(Resource::Fsize).map_err(step("forbid writing files"))?;
        }
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        if self.locks_memory {
            lock_memory().map_err(step("lock its memory"))?;
        }
        if self.isolated {
            missing.extend(deny_files()?);
        }
        Ok(missing)
    }
}

/// Namespaces, an empty root, and no capabilities.
fn isolate() -> Result<Option<Missing>, ContainmentError> {
    let missing = match namespaces::isolate() {
        Ok(()) => None,
        Err(namespaces::Refused::NotAllowed(why)) => Some(Missing { measure: Measure::Namespaces, why }),
        Err(namespaces::Refused::Failed(error)) => return Err(error),
    };
    capabilities::drop_all()?;
    Ok(missing)
}

fn deny_files() -> Result<Option<Missing>, ContainmentError> {
    let status = files::deny_all().map_err(|error| ContainmentError {
        step: "deny itself all files",
        error: io::Error::other(error),
    })?;
    Ok(match status {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some(Missing {
            measure: Measure::Landlock,
            why: "this kernel's landlock is older than Linux 6.12's: part of it was taken".to_owned(),
        }),
        RulesetStatus::NotEnforced => Some(Missing {
            measure: Measure::Landlock,
            why: "this kernel has no landlock, or it is off".to_owned(),
        }),
    })
}

/// Allows this process, and those it starts, as many descriptors as the hard limit does: each connection needs one.
///
/// # Errors
/// The system's.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    )?)
}

fn limit_to_zero(resource: Resource) -> rustix::io::Result<()> {
    rustix::process::setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) })
}

/// Lifts the limit on locked memory, which takes a privilege.
fn allow_locked_memory() -> rustix::io::Result<()> {
    rustix::process::setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })
}

/// Locks pages as they are first used. Under a limit nothing is locked: later allocations would fail at it.
fn lock_memory() -> rustix::io::Result<()> {
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    let privileged = || {
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
    };
    if unlimited || privileged() {
        rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    }
    Ok(())
}
