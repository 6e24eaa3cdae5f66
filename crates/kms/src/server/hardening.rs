//! What the process that holds keys denies itself.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Leaves no core dump, cannot be traced by its own user, gains no privilege by executing anything, and keeps its memory out of swap where
/// that is allowed. Before any key is read and any thread is started.
///
/// # Errors
/// The system's.
pub fn harden() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    containment::lock_memory()?;
    containment::raise_descriptor_limit()
}
