//! `nitro-cli console`, and the console that run-enclave attaches.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use enclave_hypervisor::client::{self, ClientError, RunRoot};
use enclave_hypervisor::description::Description;

use super::args::ConsoleArgs;
use super::codes::Code;
use super::enclaves::{Enclaves, Which};
use super::error::{Error, Result};
use super::output::cannot_write;
use super::run_settings::number;
use crate::enclaves::client_failure;
use crate::output;
use crate::terminal::{ConsoleError, Shown, pass_on};

pub(super) fn console(args: &ConsoleArgs) -> Result<()> {
    let timeout =
        args.disconnect_timeout.as_deref().map(|text| number("disconnect-timeout", text)).transpose()?;
    let enclaves = Enclaves::open(Code::READ_FROM_DISK)?;
    let which = Which::new(args.enclave_id.as_deref(), args.enclave_name.as_deref());
    let enclave = enclaves.find(which)?;
    // As nitro-cli's timer, which zero does not start.
    show(&enclaves.root, &enclave, timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

/// Shows the console until the enclave ends, or so long.
///
/// # Errors
/// E44 to E46.
pub(super) fn show(root: &RunRoot, enclave: &Description, timeout: Option<Duration>) -> Result<()> {
    let console = client::console(root, enclave).map_err(no_console)?;
    let connected = format!(
        "Connecting to the console for enclave {}...\nSuccessfully connected to the console.\n",
        enclave.cid
    );
    output::write(connected.as_bytes()).map_err(cannot_write)?;
    let (tell_end, end) = mpsc::channel();
    // Reading cannot be interrupted: after the timeout it ends with the program.
    thread::spawn(move || tell_end.send(pass_on(console, Shown::new(io::stdout()))));
    let ended = match timeout {
        Some(timeout) => end.recv_timeout(timeout),
        None => end.recv().map_err(RecvTimeoutError::from),
    };
    match ended {
        Ok(result) => result.map_err(broken_off),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
    }
}

fn no_console(error: ClientError) -> Error {
    match error {
        ClientError::NotDebug(_) => Error::new(
            Code::CONSOLE_CONNECTION,
            "The enclave was not started with the debug flag set, include '--debug-mode' in the run-enclave command",
            "terminate it and run it again in debug mode; its documents then carry zeros for PCR 0, 1, 2 and 8",
        ),
        other => Error::of(Code::CONSOLE_CONNECTION, client_failure(other)),
    }
}

fn broken_off(error: ConsoleError) -> Error {
    let code = match error {
        ConsoleError::Read(_) => Code::CONSOLE_READ,
        ConsoleError::Write(_) => Code::WRITE_OUTPUT,
    };
    Error::of(code, error.into())
}
