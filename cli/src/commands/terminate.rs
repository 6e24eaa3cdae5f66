//! `enclave terminate` and `enclave wait`.

use enclave_hypervisor::client::{self, RunRoot};
use enclave_hypervisor::description::Description;
use enclave_hypervisor::exit_reason::ExitReason;
use serde::Serialize;

use crate::args::{Format, NameArgs, TerminateArgs};
use crate::enclaves::{self, client_failure};
use crate::error::{Failure, Result, STATUS_NO_APPLICATION};
use crate::output::{self, printable};

/// nitro-cli's object.
#[derive(Debug, Serialize)]
struct Terminated {
    #[serde(rename = "EnclaveName")]
    name: String,
    #[serde(rename = "EnclaveID")]
    enclave_id: String,
    #[serde(rename = "Terminated")]
    terminated: bool,
}

pub(crate) fn terminate(args: &TerminateArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    match &args.name {
        Some(name) => {
            let terminated = end(&root, &enclaves::find(&root, name)?)?;
            output::print(args.output.format, &terminated, line)
        }
        None => terminate_all(&root, args.output.format),
    }
}

/// Ends every enclave; one that cannot be ended does not keep the others alive.
fn terminate_all(root: &RunRoot, format: Format) -> Result<()> {
    let mut terminated = Vec::new();
    let mut failures = Vec::new();
    for enclave in enclaves::list(root)? {
        match end(root, &enclave) {
            Ok(ended) => terminated.push(ended),
            Err(failure) => {
                output::tell(failure);
                failures.push(printable(&enclave.name));
            }
        }
    }
    output::print(format, &terminated, |all| match all.as_slice() {
        [] => "No enclaves.\n".to_owned(),
        all => all.iter().map(line).collect(),
    })?;
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format_args!("not every enclave could be terminated: {} left", failures.join(", ")),
        "kill -9 the ProcessID that `enclave describe` shows, then terminate again",
    ))
}

fn end(root: &RunRoot, enclave: &Description) -> Result<Terminated> {
    let ended = client::terminate(root, enclave).map_err(client_failure)?;
    Ok(Terminated { name: ended.name, enclave_id: ended.enclave_id, terminated: true })
}

fn line(terminated: &Terminated) -> String {
    format!("Terminated {} ({}).\n", printable(&terminated.name), terminated.enclave_id)
}

/// How an enclave ended.
#[derive(Debug, Serialize)]
struct Ended {
    #[serde(rename = "EnclaveName")]
    name: String,
    #[serde(rename = "EnclaveID")]
    enclave_id: String,
    #[serde(rename = "ExitReason")]
    reason: Option<ExitReason>,
    #[serde(rename = "ExitStatus")]
    status: Option<u8>,
    #[serde(rename = "ExitDetail", skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Waits, prints how it ended, and returns the status to exit with. A failure exits with 255, so that it is not taken for
/// the application's status.
pub(crate) fn wait(args: &NameArgs) -> Result<u8> {
    wait_for(args).map_err(|failure| failure.with_status(STATUS_NO_APPLICATION))
}

fn wait_for(args: &NameArgs) -> Result<u8> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let last = client::wait(&root, &enclave).map_err(client_failure)?;
    let ended = Ended {
        name: last.name,
        enclave_id: last.enclave_id,
        reason: last.exit_reason,
        status: last.exit_status,
        detail: last.exit_detail,
    };
    tell_end(&ended);
    output::print(args.output.format, &ended, |ended| match ended.reason {
        Some(reason) => format!("{reason}\n"),
        None => "Unknown\n".to_owned(),
    })?;
    Ok(ended.status.unwrap_or(STATUS_NO_APPLICATION))
}

fn tell_end(ended: &Ended) {
    let explanation = ended.reason.map_or("nothing tells why it ended", ExitReason::explanation);
    let detail =
        ended.detail.as_deref().map(|detail| format!(" ({})", printable(detail))).unwrap_or_default();
    output::tell(format_args!("{} has ended: {explanation}{detail}", printable(&ended.name)));
}
