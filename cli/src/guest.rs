//! What `enclave build` puts into images besides the application, and the programs beside this one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Failure, Result};
use crate::paths;

/// The longest `info.json`.
const MAX_INFO_LEN: u64 = 64 * 1024;

/// The name of this project's first process in the guest.
pub(crate) const INIT: &str = "enclave-init";

/// A guest kernel.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The bzImage.
    pub(crate) file: PathBuf,
    /// Its version, such as "6.12.57", if something beside it tells.
    pub(crate) version: Option<String>,
    info: Info,
}

/// What `make build` writes beside a kernel. Keys that are not known are for others.
#[derive(Debug, Clone, Default, Deserialize)]
struct Info {
    version: Option<String>,
    config_sha256: Option<String>,
    source_package: Option<String>,
    source_sha256: Option<String>,
}

/// The kernel that came with this program, as in a release; else the one that `make build` put into the cache last.
///
/// # Errors
/// If there is none; the message names `make build`.
pub(crate) fn default_kernel() -> Result<Kernel> {
    let beside = paths::executable_dir()?.join("kernel");
    let folder =
        if beside.join("bzImage").is_file() { beside } else { paths::cache_dir()?.join("kernels/default") };
    let file = folder.join("bzImage");
    if !file.is_file() {
        return Err(Failure::new(
            format_args!("there is no guest kernel: {} does not exist", file.display()),
            "run `make build` in the source folder, which builds one, or give another with --kernel",
        ));
    }
    Ok(described(file, &folder.join("info.json")))
}

/// A kernel that the user names. What is beside it in the cache's layout is used as well.
pub(crate) fn kernel_at(file: PathBuf) -> Kernel {
    let info = file.with_file_name("info.json");
    described(file, &info)
}

impl Kernel {
    /// Where it comes from, for an image's metadata. `None` if nothing is known.
    pub(crate) fn origin(&self) -> Option<Value> {
        let known: Map<String, Value> = [
            ("SourcePackage", &self.info.source_package),
            ("SourceSHA256", &self.info.source_sha256),
            ("ConfigSHA256", &self.info.config_sha256),
        ]
        .into_iter()
        .filter_map(|(key, value)| {
            Some((key.to_owned(), Value::from(value.as_deref().filter(|text| !text.is_empty())?)))
        })
        .collect();
        (!known.is_empty()).then_some(Value::Object(known))
    }
}

fn described(file: PathBuf, info: &Path) -> Kernel {
    let mut info = read_info(info).unwrap_or_default();
    Kernel { file, version: info.version.take(), info }
}

fn read_info(path: &Path) -> Option<Info> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.len() > MAX_INFO_LEN {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A program that is installed beside this one; never one of the working directory.
///
/// # Errors
/// If it is not there; the message names `make build`.
pub(crate) fn companion(name: &str) -> Result<PathBuf> {
    let path = paths::executable_dir()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(
        format_args!("{name} is missing: {} does not exist", path.display()),
        "run `make build` in the source folder, or install all programs into one folder",
    ))
}
