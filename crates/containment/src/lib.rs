//! What each of an enclave's processes gives up before untrusted bytes reach it.
//!
//! A process calls [`Containment::enter`] first of all: it keeps the descriptors it was given and no others, leaves no
//! core dump, cannot be traced by its own user, gains no privileges by exec, and, if it is a child, does not outlive its
//! parent. An [`Isolation`] takes it everything else: it has namespaces, a root and, started by root, a user of its own, no
//! capabilities, and no files, ports or other processes within reach (landlock). [`SystemCalls`] then says what a thread may
//! ask of the kernel. A [`Cgroup`] bounds what all of an enclave's processes take together.

mod capabilities;
mod cgroup;
mod descriptors;
mod files;
mod measure;
mod namespaces;
mod system_calls;
mod user;

use std::io;
use std::os::fd::BorrowedFd;

use landlock::RulesetStatus;
use rustix::fs::Mode;
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use thiserror::Error;

pub use cgroup::{Cgroup, CgroupLimits, given as given_cgroup, remove as remove_cgroup};
pub use measure::{Measure, Missing};
pub use system_calls::{Argument, SystemCalls};
pub use user::User;

/// What a process keeps and what it gives up.
#[derive(Debug, Clone, Copy)]
pub struct Containment<'a> {
    /// Descriptors from this number on are closed.
    pub first_closed_descriptor: u32,
    /// The kernel kills this process when the thread that started it ends.
    pub dies_with_parent: bool,
    /// It may write regular files.
    pub writes_files: bool,
    /// Its memory is kept out of swap where the limit on locked memory allows.
    pub locks_memory: bool,
    /// Debuggers of its own user may attach to it.
    pub traceable: bool,
    /// It has all that it needs already: it is taken everything else at once.
    pub isolation: Option<Isolation<'a>>,
}

/// What is taken from a process that has all that it needs.
#[derive(Debug, Clone, Copy)]
pub struct Isolation<'a> {
    /// What is left to it of the host's files.
    pub root: Root<'a>,
    /// Who it becomes, which takes privileges; without, it stays who it is.
    pub user: Option<User>,
}

/// What is left to a process of the host's files.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// Nothing.
    Empty,
    /// This folder: plain files and sockets in it, and no programs.
    Folder(BorrowedFd<'a>),
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

impl Containment<'_> {
    /// Gives up what is to be given up, and tells what this host did not allow. To be called first, while the process has one
    /// thread and no other code of it holds a descriptor.
    ///
    /// # Errors
    /// Names what failed though this host has it; the process must not go on.
    pub fn enter(&self) -> Result<Vec<Missing>, ContainmentError> {
        descriptors::close_from(self.first_closed_descriptor)
            .map_err(|error| ContainmentError { step: "close inherited descriptors", error })?;
        let missing = self.isolation.as_ref().map(Isolation::enter).transpose()?.unwrap_or_default();
        // A change of credentials resets this one, so it comes after.
        if self.dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(step("tie its life to its parent's"))?;
        }
        if !self.traceable {
            forbid_tracing()?;
        }
        rustix::thread::set_no_new_privs(true).map_err(step("renounce new privileges"))?;
        limit_to_zero(Resource::Core).map_err(step("forbid core dumps"))?;
        if !self.writes_files {
            limit_to_zero(Resource::Fsize).map_err(step("forbid writing files"))?;
        }
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        if self.locks_memory {
            lock_memory().map_err(step("lock its memory"))?;
        }
        Ok(missing)
    }
}

impl Isolation<'_> {
    /// Takes it all, and tells what this host did not allow. To be called while the process has one thread.
    ///
    /// # Errors
    /// Names what failed though this host has it; the process must not go on.
    pub fn enter(&self) -> Result<Vec<Missing>, ContainmentError> {
        self.enter_after(|| ()).map(|((), missing)| missing)
    }

    /// As [`Self::enter`], with something to make `last`: while the process still sees the host's files and, where the host allows it
    /// namespaces, has the privileges in them. An ordinary user has these at no other time.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn enter_after<T>(&self, last: impl FnOnce() -> T) -> Result<(T, Vec<Missing>), ContainmentError> {
        // While it may: later the limit counts even for root, which is root no more.
        let _an_ordinary_user = allow_locked_memory().is_err();
        let mut missing = Vec::new();
        if !rustix::process::getpid().is_init() {
            let why = "this host allows this user no PID namespace".to_owned();
            missing.push(Missing { measure: Measure::ProcessIds, why });
        }
        let mut allowed = |step: Result<(), namespaces::Refused>| match step {
            Ok(()) => Ok(true),
            Err(namespaces::Refused::NotAllowed(why)) => {
                missing.push(Missing { measure: Measure::Namespaces, why });
                Ok(false)
            }
            Err(namespaces::Refused::Failed(error)) => Err(error),
        };
        let alone = allowed(namespaces::own(self.root))?;
        let made = last();
        if alone {
            allowed(namespaces::replace_root(self.root))?;
        }
        capabilities::lock()?;
        if let Some(user) = self.user {
            user.become_it()?;
        }
        capabilities::drop_all()?;
        // Namespaces and a change of credentials may have reset it.
        forbid_tracing()?;
        missing.extend(self.deny_files()?);
        Ok((made, missing))
    }

    fn deny_files(&self) -> Result<Option<Missing>, ContainmentError> {
        let denied = match self.root {
            Root::Empty => files::deny_all(),
            Root::Folder(folder) => files::deny_all_but(folder),
        };
        let status = denied.map_err(|error| ContainmentError {
            step: "deny itself all files",
            error: io::Error::other(error),
        })?;
        let why = match status {
            RulesetStatus::FullyEnforced => return Ok(None),
            RulesetStatus::PartiallyEnforced => {
                "this kernel's landlock is older than Linux 6.12's: part of it was taken"
            }
            RulesetStatus::NotEnforced => "this kernel has no landlock, or it is off",
        };
        Ok(Some(Missing { measure: Measure::Landlock, why: why.to_owned() }))
    }
}

fn forbid_tracing() -> Result<(), ContainmentError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(step("make itself untraceable"))
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
///
/// # Errors
/// The system's.
pub fn lock_memory() -> rustix::io::Result<()> {
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    let privileged = || {
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
    };
    if unlimited || privileged() {
        rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    }
    Ok(())
}
