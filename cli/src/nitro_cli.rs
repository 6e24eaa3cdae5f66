//! The `enclave` program when it is called `nitro-cli`: AWS's command line over the same library calls.
//!
//! Subcommands, options, output, error numbers and exit status are those of nitro-cli 1.5
//! (<https://github.com/aws/aws-nitro-enclaves-cli>); what differs is in docs/nitro-cli.md. One module for each subcommand. Enclaves
//! are the same whichever front started them.

mod args;
mod build_enclave;
mod codes;
mod console;
mod describe_eif;
mod describe_enclaves;
mod enclaves;
mod error;
mod explain;
mod output;
mod pcr;
mod run_enclave;
mod run_settings;
mod sign_eif;
mod terminate_enclave;

use std::env;
use std::path::Path;

use clap::Parser;

use self::args::{Cli, Command};

/// What this program must be called.
const NAME: &str = "nitro-cli";

/// Whether the program was called by nitro-cli's name.
pub(crate) fn is_called() -> bool {
    env::args_os()
        .next()
        .is_some_and(|program| Path::new(&program).file_name().is_some_and(|name| name == NAME))
}

/// Does what the command line asks for and returns the exit status: the number of the error, if there is one.
pub(crate) fn run() -> u8 {
    let command = Cli::parse().command;
    let result = match &command {
        Command::RunEnclave(args) => run_enclave::run(args),
        Command::TerminateEnclave(args) => terminate_enclave::terminate(args),
        Command::BuildEnclave(args) => build_enclave::build(args),
        Command::DescribeEif { eif_path } => describe_eif::describe(eif_path),
        Command::DescribeEnclaves { metadata } => describe_enclaves::describe(*metadata),
        Command::Console(args) => console::console(args),
        Command::Pcr(args) => pcr::pcr(args),
        Command::Explain { error_code } => {
            explain::explain(error_code);
            Ok(())
        }
        Command::SignEif(args) => sign_eif::sign(args),
    };
    result.map_or_else(|error| error.report(action(&command)), |()| 0)
}

/// The subcommand in the words of nitro-cli's backtraces.
fn action(command: &Command) -> &'static str {
    match command {
        Command::RunEnclave(_) => "Run Enclave",
        Command::TerminateEnclave(args) if args.all => "Terminate All Enclaves",
        Command::TerminateEnclave(_) => "Terminate Enclave",
        Command::BuildEnclave(_) => "Build Enclave",
        Command::DescribeEif { .. } => "Describe EIF",
        Command::DescribeEnclaves { .. } => "Describe Enclave",
        Command::Console(_) => "Enclave Console",
        Command::Pcr(_) => "File PCR",
        Command::Explain { .. } => "Explain Error",
        Command::SignEif(_) => "Sign EIF",
    }
}
