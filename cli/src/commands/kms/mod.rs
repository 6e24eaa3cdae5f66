//! `enclave kms`: a key service that speaks the protocol of AWS KMS, and what its operator needs beside it.

mod init;
mod principal;
mod serve;

use std::path::PathBuf;

use crate::args::{KmsCommand, KmsFolderArgs, KmsPrincipalCommand};
use crate::error::Result;
use crate::paths;

/// The service's folder within the state folder.
const FOLDER: &str = "kms";

pub(crate) fn kms(command: &KmsCommand) -> Result<()> {
    match command {
        KmsCommand::Init(args) => init::init(args),
        KmsCommand::Serve(args) => serve::serve(args),
        KmsCommand::Principal(KmsPrincipalCommand::Add(args)) => principal::add(args),
    }
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
