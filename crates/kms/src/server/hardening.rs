//! What the process that holds keys denies itself.

use std::io;

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

/// Leaves no core dump, cannot be traced by its own user, gains no privilege by executing anything, and keeps its memory out of swap where
/// that is allowed. Before any key is read and any thread is started.
///
/// # Errors
/// The system's.
pub fn harden() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    lock_memory()?;
    raise_descriptor_limit()
}

/// Locks pages as they are first used. Under a limit nothing is locked: later allocations would fail at it.
fn lock_memory() -> io::Result<()> {
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    let privileged = || {
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
    };
    if unlimited || privileged() {
        rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    }
    Ok(())
}

/// Each connection needs a descriptor: as many as the hard limit allows.
fn raise_descriptor_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: limit.maximum, maximum: limit.maximum },
    )?)
}
