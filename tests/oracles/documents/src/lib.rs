//! Where the files inside other people's packages are.
//!
//! Real attestation documents are published inside Rust packages. Those packages are optional dependencies
//! that are never enabled: cargo fetches them and checks their hashes, and nothing of them is compiled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

/// Reads a file of one of this package's dependencies, enabled or not.
///
/// # Panics
/// If cargo cannot say where the package is, or the file is not in it: there is no test without it.
#[must_use]
pub fn file_of_package(package: &str, path: &str) -> Vec<u8> {
    let file = package_folder(package).join(path);
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn package_folder(package: &str) -> PathBuf {
    // Asked once: cargo waits for every other cargo that runs.
    static METADATA: LazyLock<serde_json::Value> = LazyLock::new(metadata);
    let packages = METADATA["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let manifest = packages
        .iter()
        .find(|candidate| candidate["name"] == package)
        .and_then(|found| found["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("cargo metadata does not know {package}"));
    Path::new(manifest).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn metadata() -> serde_json::Value {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--all-features", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}
