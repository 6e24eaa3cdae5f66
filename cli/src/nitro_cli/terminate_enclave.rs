//! `nitro-cli terminate-enclave`.

use enclave_hypervisor::client;
use enclave_hypervisor::description::Description;

use super::args::TerminateEnclaveArgs;
use super::codes::Code;
use super::enclaves::{Enclaves, Which};
use super::error::{Error, Result};
use super::output::{self, Terminated};
use crate::enclaves::client_failure;
use crate::output::tell;

pub(super) fn terminate(args: &TerminateEnclaveArgs) -> Result<()> {
    let enclaves = Enclaves::open(Code::FILE_OPERATION)?;
    if args.all {
        return terminate_all(&enclaves);
    }
    let which = Which::new(args.enclave_id.as_deref(), args.enclave_name.as_deref());
    output::print(&end(&enclaves, &enclaves.find(which)?)?)
}

/// Ends every enclave; one that cannot be ended does not keep the others alive.
fn terminate_all(enclaves: &Enclaves) -> Result<()> {
    let (mut terminated, mut failed) = (Vec::new(), 0);
    for enclave in enclaves.running()? {
        match end(enclaves, &enclave) {
            Ok(ended) => terminated.push(ended),
            Err(error) => {
                tell(error);
                failed += 1;
            }
        }
    }
    output::print(&terminated)?;
    enclaves.all_reached(failed)
}

fn end(enclaves: &Enclaves, enclave: &Description) -> Result<Terminated> {
    let ended = client::terminate(&enclaves.root, enclave)
        .map_err(|error| Error::of(Code::ENCLAVE_PROCESS_CONNECTION, client_failure(error)))?;
    tell(format_args!("Successfully terminated enclave {}.", ended.enclave_id));
    Ok(Terminated { name: ended.name, enclave_id: ended.enclave_id, terminated: true })
}
