//! Options of the commands that look after a key service's files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kms::audit::Head;

use super::KmsFolderArgs;
use crate::args::OutputArgs;

/// `enclave kms backup`.
#[derive(Debug, Args)]
pub(crate) struct KmsBackupArgs {
    /// The new file
    #[arg(value_name = "FILE")]
    pub(crate) to: PathBuf,

    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave kms rotate-master-key`.
#[derive(Debug, Args)]
pub(crate) struct KmsRotateArgs {
    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave kms log`.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsLogCommand {
    /// Check that no line was changed, taken away, put in or moved
    Verify(KmsLogVerifyArgs),
    /// Put the log away and begin a new one, in which its chain goes on; the service must not run
    Rotate(KmsLogRotateArgs),
}

/// `enclave kms log verify`.
#[derive(Debug, Args)]
pub(crate) struct KmsLogVerifyArgs {
    /// The log; if it is in several files all of them, the oldest first [default: the file that the service writes]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// An entry that must be in it: what an earlier check printed as its head, and you kept elsewhere
    #[arg(long, value_name = "NUMBER:HASH")]
    pub(crate) head: Option<Head>,

    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave kms log rotate`.
#[derive(Debug, Args)]
pub(crate) struct KmsLogRotateArgs {
    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
