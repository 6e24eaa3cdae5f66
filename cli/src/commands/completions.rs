//! `enclave completions` and `enclave man`: both are made from the parser.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::{Failure, Result};
use crate::output;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "enclave", &mut script);
    output::write(&script)
}

/// Writes `enclave.1` and one page for each command below it.
pub(crate) fn man(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Failure::file("make the folder", folder, &error))?;
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|error| Failure::file("write the manual pages in", folder, &error))
}
