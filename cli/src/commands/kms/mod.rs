//! `enclave kms`: a key service that speaks the protocol of AWS KMS, and what its operator needs beside it.

mod credentials;
mod enclave;
mod explain;
mod init;
mod keeping;
mod lint;
mod log;
mod policies;
mod principal;
mod serve;

use std::path::PathBuf;

use crate::args::{KmsCommand, KmsFolderArgs, KmsLogCommand, KmsPrincipalCommand};
use crate::error::Result;
use crate::paths;

/// The service's folder within the state folder.
const FOLDER: &str = "kms";

/// Does what is asked for; the value is the exit status.
pub(crate) fn kms(command: &KmsCommand) -> Result<u8> {
    match command {
        KmsCommand::Init(args) => init::init(args)?,
        KmsCommand::Serve(args) => serve::serve(args)?,
        KmsCommand::Credentials(args) => credentials::give(args)?,
        KmsCommand::Principal(KmsPrincipalCommand::Add(args)) => principal::add(args)?,
        KmsCommand::Lint(args) => return lint::lint(args),
        KmsCommand::Explain(args) => return explain::explain(args),
        KmsCommand::Backup(args) => keeping::backup(args)?,
        KmsCommand::RotateMasterKey(args) => keeping::rotate(args)?,
        KmsCommand::Log(KmsLogCommand::Verify(args)) => log::verify(args)?,
        KmsCommand::Log(KmsLogCommand::Rotate(args)) => log::rotate(args)?,
    }
    Ok(0)
}

/// The service's folder, made absolute: the one that was named, else the one in the state folder.
///
/// # Errors
/// For an ordinary user without a home folder, if none was named.
pub(crate) fn folder(args: &KmsFolderArgs) -> Result<PathBuf> {
    match &args.folder {
        Some(folder) => Ok(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
        None => Ok(paths::state_dir()?.join(FOLDER)),
    }
}
