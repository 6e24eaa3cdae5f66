//! One module for each command or group of commands.

mod attest;
pub(crate) mod build;
mod completions;
mod connect;
mod console;
mod describe;
mod doctor;
mod eif;
mod kms;
mod pki;
mod run;
mod terminate;

use crate::args::Command;
use crate::error::Result;

/// Does what the command line asks for. The value is the exit status.
pub(crate) fn execute(command: &Command) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(args)?,
        Command::Create(args) => run::create(args)?,
        Command::Start(args) => run::start(args)?,
        Command::Describe(args) => describe::describe(args)?,
        Command::Terminate(args) => terminate::terminate(args)?,
        Command::Wait(args) => return terminate::wait(args),
        Command::Console(args) => console::console(args)?,
        Command::Logs(args) => console::logs(args)?,
        Command::Connect(args) => connect::connect(args)?,
        Command::Build(args) => build::build(args)?,
        Command::Eif(command) => return eif::eif(command),
        Command::Attest(command) => attest::attest(command)?,
        Command::Pki(command) => pki::pki(command)?,
        Command::Kms(command) => return kms::kms(command),
        Command::Doctor(args) => doctor::doctor(args)?,
        Command::Completions { shell } => completions::completions(*shell)?,
        Command::Man { folder } => completions::man(folder)?,
    }
    Ok(0)
}
