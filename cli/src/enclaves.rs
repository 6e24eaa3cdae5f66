//! Finding enclaves, and turning the hypervisor's errors into messages with a next step.

use enclave_hypervisor::client::{self, Cleaned, ClientError, LaunchError, RunRoot};
use enclave_hypervisor::description::Description;
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::launch::LaunchFailure;

use crate::error::{Failure, Result};
use crate::output::{self, printable};

/// This user's run folder, and what was cleaned in it of what killed supervisors left.
///
/// # Errors
/// If there is no such folder or it cannot be used.
pub(crate) fn open() -> core::result::Result<(RunRoot, Vec<Cleaned>), ClientError> {
    let root = RunRoot::from_environment()?;
    let cleaned = client::clean_stale(&root)?;
    cleaned.iter().for_each(|cleaned| output::tell(format_args!("note: {cleaned}")));
    Ok((root, cleaned))
}

/// The same for those to whom it does not matter what was cleaned.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_root() -> Result<RunRoot> {
    open().map(|(root, _)| root).map_err(client_failure)
}

/// The enclave with this name or EnclaveID.
///
/// # Errors
/// If there is none.
pub(crate) fn find(root: &RunRoot, name: &str) -> Result<Description> {
    client::find(root, name).map_err(client_failure)
}

/// Every enclave of this user.
///
/// # Errors
/// If the run folder cannot be read.
pub(crate) fn list(root: &RunRoot) -> Result<Vec<Description>> {
    client::list(root).map_err(client_failure)
}

/// What an error of the hypervisor's library means to a user.
pub(crate) fn client_failure(error: ClientError) -> Failure {
    let next = match &error {
        ClientError::RunDir(_) => "check the folder, or name another with ENCLAVE_RUN_DIR",
        // What follows the semicolon is not advice here but what there is.
        ClientError::NoSuchEnclave { .. } => return Failure::new(error, "list them with `enclave describe`"),
        ClientError::Ended { .. } => "`enclave logs` prints its console if it ran with --debug",
        ClientError::NotDebug(_) => "run it again with --debug",
        ClientError::Refused(_) => "look at it with `enclave describe`",
        ClientError::Unreachable { .. } | ClientError::Conversation(_) | ClientError::SupervisorGone => {
            "look at it with `enclave describe`; its supervisor.log is in its RunDir"
        }
        ClientError::Spawn { .. } => "run `make build`, or install all programs into one folder",
        ClientError::PortRefused { .. } => {
            "check the port, and that the application is up (`enclave logs` in debug mode)"
        }
        ClientError::Connect { .. } => "look at it with `enclave describe`, and try again",
    };
    Failure::advised(error, next)
}

/// Why an enclave did not start, with the tail of its console in debug mode.
pub(crate) fn launch_failure(error: LaunchError) -> Failure {
    match error {
        LaunchError::Client(error) => client_failure(error),
        LaunchError::NoIdentity => Failure::new(error, "look at `enclave doctor`"),
        LaunchError::Failed(failure) => {
            tell_console_tail(&failure);
            let message = printable(&failure.message);
            let (cause, own) = message.split_once("; ").unwrap_or((&message, ""));
            Failure::new(
                format_args!("{}: {cause}", failure.reason),
                format_args!("{own}\n{}", advice(failure.reason)).to_string().trim_start(),
            )
        }
    }
}

fn tell_console_tail(failure: &LaunchFailure) {
    let Some(tail) = failure.console_tail.as_deref().filter(|tail| !tail.trim().is_empty()) else {
        return;
    };
    output::tell("The console's last lines:");
    for line in tail.lines() {
        output::tell(format_args!("  | {}", printable(line.trim_end())));
    }
}

/// What to do about an enclave that ended for this reason before it ran.
fn advice(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::ImageRefused => "look into the image file (EIF) with `enclave eif verify`",
        ExitReason::StartFailed => "`enclave doctor` checks what this host must offer",
        ExitReason::HeartbeatTimeout => {
            "run it with --debug --attach to see its console; on a slow machine raise heartbeat_timeout_ms in the \
             configuration"
        }
        ExitReason::KvmError => "`enclave doctor` says whether this host's KVM can run a kernel",
        ExitReason::Signalled | ExitReason::Terminated => "start it again",
        ExitReason::VmProcessKilled | ExitReason::SecurityModuleKilled | ExitReason::SupervisorKilled => {
            "look for the cause in dmesg (out of memory?) and in supervisor.log"
        }
        ExitReason::ApplicationExited
        | ExitReason::GuestReset
        | ExitReason::AcpiPowerOff
        | ExitReason::AcpiReset
        | ExitReason::TripleFault => "run it with --debug --attach to see its console",
    }
}
