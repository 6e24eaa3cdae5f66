//! Options of the commands that start, show and end enclaves.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use enclave_hypervisor::launch::ContainmentMode;
use serde::Deserialize;

use super::OutputArgs;

/// Lowest vsock address that a guest may have: 0 to 2 are the protocol's, 3 is the parent's.
const FIRST_GUEST_CID: i64 = 4;
/// Highest: 2^32 - 1 means "any address".
const LAST_GUEST_CID: i64 = 0xFFFF_FFFE;
/// Virtual CPUs of one enclave, at most.
const MAX_CPUS: i64 = 64;

/// How far an enclave's processes are contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As far as this host allows
    On,
    /// Entirely, or the enclave does not start
    Require,
    /// Not at all, for debugging
    Off,
}

impl From<Level> for ContainmentMode {
    fn from(level: Level) -> Self {
        match level {
            Level::On => Self::On,
            Level::Require => Self::Require,
            Level::Off => Self::Off,
        }
    }
}

/// What to start and with which resources.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// The enclave image file
    #[arg(long, value_name = "FILE")]
    pub(crate) eif: PathBuf,

    /// Virtual CPUs, each pinned to a host CPU of its own; may come from the host configuration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_CPUS))]
    pub(crate) cpus: Option<u32>,

    /// Run on these host CPUs, one for each virtual CPU, such as 2,3,6
    #[arg(long, value_name = "CPU,CPU...", value_delimiter = ',', conflicts_with = "cpus")]
    pub(crate) cpu_ids: Vec<u32>,

    /// Guest memory in MiB; may come from the host configuration
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) memory: Option<u64>,

    /// What to call the enclave [default: the file's name without .eif, with _1, _2 ... if that is taken]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The guest's vsock address, 4 or more [default: a free one]
    #[arg(long, value_name = "CID", value_parser = clap::value_parser!(u32).range(FIRST_GUEST_CID..=LAST_GUEST_CID))]
    pub(crate) cid: Option<u32>,

    /// Debug mode: the console can be read, and documents carry zeros for PCR 0, 1, 2 and 8
    #[arg(long)]
    pub(crate) debug: bool,

    /// How far the enclave's processes are contained: as far as this host allows (on), entirely or not at all started (require),
    /// or not, for debugging (off) [default: on; may come from the host configuration]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) containment: Option<Level>,

    /// Refuse an image that the holder of this certificate (PEM or DER) has not signed
    #[arg(long, value_name = "CERT")]
    pub(crate) require_signature: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,

    /// Show the console from the first byte until the enclave ends (on standard error with -o json);
    /// implies --debug. Ctrl-C then ends this command, not the enclave
    #[arg(long)]
    pub(crate) attach: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// One enclave.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The enclave's name or EnclaveID
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The enclave's name or EnclaveID
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// The enclave's name or EnclaveID [default: every enclave of this user]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["name", "all"]))]
pub(crate) struct TerminateArgs {
    /// The enclave's name or EnclaveID
    pub(crate) name: Option<String>,

    /// Every enclave of this user
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The enclave's name or EnclaveID
    pub(crate) name: String,

    /// The vsock port that a program in the enclave listens on
    pub(crate) port: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Show what the processes of this enclave hold, as the kernel tells it
    #[arg(long, value_name = "NAME")]
    pub(crate) enclave: Option<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
