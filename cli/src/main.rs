//! The `enclave` command: run, measure and attest enclaves.
//!
//! `args` says what can be typed, `commands` does it; `error` and `output` are the two ways out. Everything an
//! enclave is made of lies in the crates that are called from here.
//!
//! Called by the name `nitro-cli`, the same program takes AWS's command line: `nitro_cli`.

// Beside the lints of the workspace; tests may.
#![cfg_attr(not(test), warn(clippy::string_slice))]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod certificate;
mod commands;
mod config;
mod doctor;
mod enclaves;
mod error;
mod guest;
mod host;
mod image_file;
mod input;
mod launch;
mod memory;
mod nitro_cli;
mod output;
mod paths;
mod pki;
mod placement;
mod progress;
mod sections;
mod signing;
mod started;
mod terminal;
mod time;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::error::Failure;

fn main() -> ExitCode {
    if nitro_cli::is_called() {
        return ExitCode::from(nitro_cli::run());
    }
    let status = commands::execute(&Cli::parse().command).unwrap_or_else(|failure| report(&failure));
    ExitCode::from(status)
}

fn report(failure: &Failure) -> u8 {
    if *failure != Failure::PipeClosed {
        output::tell(failure);
    }
    failure.status()
}
