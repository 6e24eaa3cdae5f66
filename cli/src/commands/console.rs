//! `enclave console` and `enclave logs`.

use std::io;

use enclave_hypervisor::client;

use crate::args::NameOnlyArgs;
use crate::enclaves::{self, client_failure};
use crate::error::Result;
use crate::terminal::{Shown, pass_on};

pub(crate) fn console(args: &NameOnlyArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let console = client::console(&root, &enclave).map_err(client_failure)?;
    Ok(pass_on(console, Shown::new(io::stdout()))?)
}

pub(crate) fn logs(args: &NameOnlyArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let logs = client::logs(&root, &enclave).map_err(client_failure)?;
    Ok(pass_on(logs, Shown::new(io::stdout()))?)
}
