//! `enclave console` and `enclave logs`.

use std::io::{self, Read, Write};

use enclave_hypervisor::client;

use crate::args::NameOnlyArgs;
use crate::enclaves::{self, client_failure};
use crate::error::{Failure, Result};
use crate::output::stdout_failure;
use crate::terminal::Shown;

/// Bytes that are passed on at a time.
const CHUNK: usize = 16 * 1024;

pub(crate) fn console(args: &NameOnlyArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let console = client::console(&root, &enclave).map_err(client_failure)?;
    pass_on(console, Shown::new(io::stdout()))
}

pub(crate) fn logs(args: &NameOnlyArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let logs = client::logs(&root, &enclave).map_err(client_failure)?;
    pass_on(logs, Shown::new(io::stdout()))
}

/// Copies a console to its end, at once and byte for byte as far as `output` is no terminal.
///
/// # Errors
/// If either side fails.
pub(crate) fn pass_on(mut console: impl Read, mut output: impl Write) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match console.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Failure::new(
                    format_args!("the console broke off: {error}"),
                    "look at the enclave with `enclave describe`; `enclave logs` prints what was kept",
                ));
            }
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        output.write_all(bytes).and_then(|()| output.flush()).map_err(|error| stdout_failure(&error))?;
    }
}
