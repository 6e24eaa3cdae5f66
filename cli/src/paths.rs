//! Where files are: environment variable first, then the place for root, then the place for an ordinary user.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Failure, Result};

/// The folder of the root of trust.
///
/// # Errors
/// For an ordinary user without a home folder.
pub(crate) fn state_dir() -> Result<PathBuf> {
    choose("ENCLAVE_STATE_DIR", "/var/lib/enclave", || {
        Some(absolute("XDG_DATA_HOME").or_else(|| Some(home()?.join(".local/share")))?.join("enclave"))
    })
}

/// The folder of guest kernels. Root has no other place for it than its home folder, as other users.
///
/// # Errors
/// Without a home folder.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(folder) = from_variable("ENCLAVE_CACHE_DIR") {
        return Ok(folder);
    }
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(home()?.join(".cache")))
        .map(|folder| folder.join("enclave"))
        .ok_or_else(|| nowhere("ENCLAVE_CACHE_DIR"))
}

/// The host configuration, which need not exist.
pub(crate) fn config_file() -> PathBuf {
    from_variable("ENCLAVE_CONFIG").unwrap_or_else(|| PathBuf::from("/etc/enclave/enclave.toml"))
}

/// The folder of this command's own executable, where its companions are.
///
/// # Errors
/// If the system does not tell where that is.
pub(crate) fn executable_dir() -> Result<PathBuf> {
    let executable = env::current_exe().map_err(|error| {
        Failure::new(
            format_args!("cannot find this command's own executable: {error}"),
            "check that /proc is mounted",
        )
    })?;
    Ok(executable.parent().unwrap_or(Path::new("/")).to_owned())
}

fn choose(variable: &str, of_root: &str, of_user: impl FnOnce() -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(folder) = from_variable(variable) {
        return Ok(folder);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(of_root));
    }
    of_user().ok_or_else(|| nowhere(variable))
}

/// A path from the environment, made absolute: what is started must not depend on a working directory.
fn from_variable(variable: &str) -> Option<PathBuf> {
    let value: OsString = env::var_os(variable).filter(|value| !value.is_empty())?;
    let path = PathBuf::from(value);
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// As the XDG base directory specification says: a relative path is ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home() -> Option<PathBuf> {
    absolute("HOME")
}

fn nowhere(variable: &str) -> Failure {
    Failure::new(
        format_args!("no folder is known for {variable}: the environment names neither it nor a home"),
        format_args!("set {variable} to a folder of yours"),
    )
}
