//! nitro-cli's command line: subcommands, options, which exclude and which require each other.
//!
//! Numbers are texts here: one that is none is error E03, not a mistake in the command line (which exits with 2).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The release of nitro-cli whose command line this is, and what answers to it.
const VERSION: &str = concat!("1.5.2 (enclave ", env!("CARGO_PKG_VERSION"), ")");

/// CLI for enclave lifetime management
#[derive(Debug, Parser)]
#[command(name = "Nitro CLI", bin_name = "nitro-cli", version = VERSION, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Starts a new enclave
    RunEnclave(RunEnclaveArgs),
    /// Terminates an enclave
    TerminateEnclave(TerminateEnclaveArgs),
    /// Builds an enclave image and saves it to a file
    BuildEnclave(BuildEnclaveArgs),
    /// Returns information about the EIF found at a given path
    DescribeEif {
        /// Path to the EIF to describe
        #[arg(long, value_name = "PATH")]
        eif_path: PathBuf,
    },
    /// Returns a list of the running enclaves
    DescribeEnclaves {
        /// Adds the images' metadata
        #[arg(long)]
        metadata: bool,
    },
    /// Connect to the console of an enclave
    Console(ConsoleArgs),
    /// Return the PCR hash value of the given input
    Pcr(PcrArgs),
    /// Display detailed information about an error number
    Explain {
        /// Error code, such as E26
        #[arg(long, value_name = "CODE")]
        error_code: String,
    },
    /// Sign an EIF with the given key
    SignEif(SignEifArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunEnclaveArgs {
    /// Host CPUs that the enclave runs on
    #[arg(long, num_args = 1.., value_name = "CPU", required_unless_present_any = ["cpu_count", "config"],
          conflicts_with_all = ["cpu_count", "config"])]
    pub(super) cpu_ids: Option<Vec<String>>,

    /// Number of CPUs
    #[arg(long, value_name = "N", required_unless_present_any = ["cpu_ids", "config"], conflicts_with = "config")]
    pub(super) cpu_count: Option<String>,

    /// Memory in MiB, or with one of the units M, G and T
    #[arg(long, value_name = "MEMORY", required_unless_present = "config", conflicts_with = "config")]
    pub(super) memory: Option<String>,

    /// Path of the enclave image file
    #[arg(long, value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    pub(super) eif_path: Option<PathBuf>,

    /// The enclave's vsock address; 0 for a free one
    #[arg(long, value_name = "CID", conflicts_with = "config")]
    pub(super) enclave_cid: Option<String>,

    /// Starts the enclave in debug mode: its console can be read, and its attestation documents carry zeros for PCR 0, 1, 2 and 8
    #[arg(long, conflicts_with = "config")]
    pub(super) debug_mode: bool,

    /// Attach the enclave's console immediately after starting it (implies debug mode)
    #[arg(long)]
    pub(super) attach_console: bool,

    /// Custom name assigned to the enclave
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub(super) enclave_name: Option<String>,

    /// JSON file with the enclave's settings
    #[arg(long, value_name = "json-config")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct TerminateEnclaveArgs {
    /// The EnclaveID
    #[arg(long, value_name = "ID", required_unless_present_any = ["all", "enclave_name"],
          conflicts_with_all = ["all", "enclave_name"])]
    pub(super) enclave_id: Option<String>,

    /// Every running enclave of the current user
    #[arg(long, conflicts_with = "enclave_name")]
    pub(super) all: bool,

    /// The enclave's name
    #[arg(long, value_name = "NAME")]
    pub(super) enclave_name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ConsoleArgs {
    /// The EnclaveID
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "enclave_name",
        conflicts_with = "enclave_name"
    )]
    pub(super) enclave_id: Option<String>,

    /// Seconds after which to let go of the console
    #[arg(long, value_name = "SECONDS")]
    pub(super) disconnect_timeout: Option<String>,

    /// The enclave's name
    #[arg(long, value_name = "NAME")]
    pub(super) enclave_name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct BuildEnclaveArgs {
    /// The container image, or what to call it if --docker-dir builds it
    #[arg(long, value_name = "URI")]
    pub(super) docker_uri: String,

    /// A folder with a Dockerfile
    #[arg(long, value_name = "DIR")]
    pub(super) docker_dir: Option<PathBuf>,

    /// Where to write the enclave image file
    #[arg(long, value_name = "FILE")]
    pub(super) output_file: PathBuf,

    #[command(flatten)]
    pub(super) signing: SigningArgs,

    /// Name of the image in its metadata
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,

    /// Version of the image in its metadata
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<String>,

    /// JSON file to put into the metadata
    #[arg(long, value_name = "FILE")]
    pub(super) metadata: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SignEifArgs {
    /// Path of the enclave image file, which is changed in place
    #[arg(long, value_name = "PATH")]
    pub(super) eif_path: Option<PathBuf>,

    #[command(flatten)]
    pub(super) signing: SigningArgs,
}

/// What an image is signed with.
#[derive(Debug, Args)]
pub(super) struct SigningArgs {
    /// The X.509 certificate of the key, in PEM
    #[arg(long, value_name = "PEM", requires = "private_key")]
    pub(super) signing_certificate: Option<PathBuf>,

    /// The elliptic curve key, in PEM
    #[arg(long, value_name = "PEM", requires = "signing_certificate")]
    pub(super) private_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PcrArgs {
    /// A signing certificate in PEM: prints PCR8 of images signed with it
    #[arg(long, value_name = "PEM", required_unless_present = "input", conflicts_with = "input")]
    pub(super) signing_certificate: Option<PathBuf>,

    /// A file: prints the PCR of its bytes
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
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
