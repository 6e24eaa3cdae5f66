//! `enclave kms credentials`: gives an enclave an access key, until the enclave ends or a signal comes.

use kms::server::credentials::{CredentialsFile, End, Giver};
use kms_protocol::ports;
use serde::Serialize;

use super::{enclave, serve};
use crate::args::{Format, KmsCredentialsArgs};
use crate::error::{Failure, Result};
use crate::output;

pub(super) fn give(args: &KmsCredentialsArgs) -> Result<()> {
    // Before there is a secret in this process, or a second thread.
    serve::keep_secrets_inside()?;
    serve::log_to_stderr();
    let file = CredentialsFile::open(&args.file)
        .map_err(|error| Failure::advised(error, "check the path of the file with the credentials"))?;
    let endpoint = enclave::endpoint(&args.enclave, ports::CREDENTIALS)?;
    let ready = Ready {
        enclave_name: endpoint.name.clone(),
        port: endpoint.port,
        file: args.file.display().to_string(),
        process_id: std::process::id(),
    };
    let giver = Giver::start(endpoint, file)
        .map_err(|error| Failure::advised(error, "check that nobody else listens there"))?;
    tell_ready(args.output.format, &ready)?;
    if giver.run() == End::Enclave {
        output::tell(format_args!("the enclave {} has ended", ready.enclave_name));
    }
    Ok(())
}

/// What gives credentials, for programs that wait for it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ready {
    enclave_name: String,
    port: u32,
    file: String,
    #[serde(rename = "ProcessID")]
    process_id: u32,
}

fn tell_ready(format: Format, ready: &Ready) -> Result<()> {
    let Ready { enclave_name, port, file, .. } = ready;
    output::tell(format_args!("giving the credentials in {file} to the enclave {enclave_name}, port {port}"));
    match format {
        Format::Text => Ok(()),
        Format::Json => output::json(ready),
    }
}
