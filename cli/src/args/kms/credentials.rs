//! Options of the command that gives an enclave credentials.

use std::path::PathBuf;

use clap::Args;

use super::EnclavePort;
use crate::args::OutputArgs;

/// `enclave kms credentials`.
#[derive(Debug, Args)]
pub(crate) struct KmsCredentialsArgs {
    /// What `enclave kms principal add -o json` or `aws configure export-credentials` printed, mode 0600; read anew each time
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Give them to the running enclave NAME, which asks for them on its vsock port PORT [default port: 8001]
    #[arg(long = "enclave", value_name = "NAME[:PORT]")]
    pub(crate) enclave: EnclavePort,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
