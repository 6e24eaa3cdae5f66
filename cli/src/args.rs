//! The command line: commands, their options and their help texts.
//!
//! clap makes help, manual pages and shell completions from what is written here. One file for each group of
//! commands. How they differ from nitro-cli's: docs/compatibility.md.

mod attestation;
mod build;
mod image;
mod kms;
mod kms_policy;
mod lifecycle;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::attestation::{
    AttestCommand, Bytes, ExpectedPcr, PkiCommand, PkiInitArgs, Time, VerifyArgs,
};
pub(crate) use self::build::{BuildArgs, Compress, KmsHelperArgs};
pub(crate) use self::image::{
    EifCommand, EifDescribeArgs, EifDiffArgs, EifExtractArgs, EifFilesArgs, EifMeasureArgs, EifSignArgs,
    EifVerifyArgs,
};
pub(crate) use self::kms::{
    EnclavePort, KmsBackupArgs, KmsCommand, KmsCredentialsArgs, KmsFolderArgs, KmsInitArgs, KmsLogCommand,
    KmsLogRotateArgs, KmsLogVerifyArgs, KmsPrincipalAddArgs, KmsPrincipalCommand, KmsRotateArgs,
    KmsServeArgs, MasterKeyArgs,
};
pub(crate) use self::kms_policy::{KmsExplainArgs, KmsLintArgs};
pub(crate) use self::lifecycle::{
    ConnectArgs, CreateArgs, DescribeArgs, DoctorArgs, ImageArgs, Level, NameArgs, RunArgs, StartArgs,
    TerminateArgs,
};

/// Where files are, for the end of the top-level help.
const ENVIRONMENT: &str = "\
Environment:
  ENCLAVE_RUN_DIR    running enclaves     [/run/enclave; for an ordinary user $XDG_RUNTIME_DIR/enclave]
  ENCLAVE_STATE_DIR  root of trust        [/var/lib/enclave; for an ordinary user ~/.local/share/enclave]
  ENCLAVE_CACHE_DIR  guest kernels        [~/.cache/enclave]
  ENCLAVE_CONFIG     host configuration   [/etc/enclave/enclave.toml]

Exit status: 0; 1 with a message that names the cause and the next step; 2 if the command line is wrong.
`enclave wait` exits as the application did, `enclave attest verify` by the kind of refusal (its help says which).";

/// Run, measure and attest enclaves on any Linux host with KVM.
#[derive(Debug, Parser)]
#[command(name = "enclave", version, after_help = ENVIRONMENT, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start an enclave from an image file and wait until it has booted
    Run(RunArgs),
    /// Measure and load an image without starting it
    Create(CreateArgs),
    /// Start an enclave that `create` has loaded
    Start(StartArgs),
    /// Show enclaves, ended ones included
    Describe(DescribeArgs),
    /// End an enclave and forget it
    Terminate(TerminateArgs),
    /// Wait until an enclave has ended and exit as its application did
    Wait(NameArgs),
    /// Show an enclave's console from its first byte until the enclave ends (debug mode)
    Console(NameOnlyArgs),
    /// Print the console kept so far, also of an ended enclave (debug mode)
    Logs(NameOnlyArgs),
    /// Connect standard input and output to a vsock port of an enclave
    Connect(ConnectArgs),
    /// Build an enclave image file, the same bytes for the same input
    Build(Box<BuildArgs>),
    /// Look into enclave image files, and sign them
    #[command(subcommand)]
    Eif(EifCommand),
    /// Check attestation documents
    #[command(subcommand)]
    Attest(AttestCommand),
    /// This host's root of trust
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Keys that only the right enclave can open: a key service that speaks the protocol of AWS KMS
    #[command(subcommand)]
    Kms(Box<KmsCommand>),
    /// Check what this host offers and say how to mend what is missing
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of every command into a folder
    Man {
        /// The folder, made if it does not exist
        folder: PathBuf,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text made for reading
    #[default]
    Text,
    /// Exactly one JSON value
    Json,
}

/// The option of every command that returns data.
#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// How to print the result
    #[arg(short = 'o', long = "format", value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// One enclave, for commands whose output is the guest's own.
#[derive(Debug, Args)]
pub(crate) struct NameOnlyArgs {
    /// The enclave's name or EnclaveID
    pub(crate) name: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }
}
