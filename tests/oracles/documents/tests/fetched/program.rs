//! Programs that the tests run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// Runs a program that may refuse.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Output {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Runs a program that must not fail; what it wrote.
pub fn output(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Vec<u8> {
    let done = run(program.as_ref(), arguments);
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{} {arguments:?}: {complaint}", program.as_ref().display());
    done.stdout
}

/// A program of the Python environment that the project pins.
pub fn of_python(name: &str) -> PathBuf {
    // Asked once: the first time of all, it is installed.
    static ENVIRONMENT: LazyLock<PathBuf> = LazyLock::new(|| {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tools/python-oracles");
        PathBuf::from(String::from_utf8(output(tool, &["documents".as_ref()])).unwrap().trim_end())
    });
    ENVIRONMENT.join("bin").join(name)
}
