//! The enclave for which a command listens at the host's end of one of its ports.

use enclave_hypervisor::client;
use enclave_hypervisor::description::State;
use kms::server::EnclaveEndpoint;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::args::EnclavePort;
use crate::enclaves;
use crate::error::{Failure, Result};

/// Where the connections of a running enclave to the wanted port, or to this one, come out, and what tells when it has ended.
///
/// # Errors
/// If there is no such enclave, or it has ended.
pub(super) fn endpoint(wanted: &EnclavePort, port: u32) -> Result<EnclaveEndpoint> {
    let root = enclaves::open_root()?;
    let found = enclaves::find(&root, &wanted.name)?;
    let ended = || {
        Failure::new(
            format_args!("the enclave {} has ended", wanted.name),
            "start it again; `enclave describe` lists enclaves",
        )
    };
    let pid = i32::try_from(found.process_id).ok().and_then(Pid::from_raw).ok_or_else(ended)?;
    let supervisor = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| ended())?;
    // Only now that the process is held: its number could have become another's before.
    let found = client::find(&root, &found.enclave_id).map_err(enclaves::client_failure)?;
    if found.state == State::Exited {
        return Err(ended());
    }
    Ok(EnclaveEndpoint {
        name: found.name,
        port: wanted.port.unwrap_or(port),
        folder: found.run_dir,
        ended: supervisor,
    })
}
