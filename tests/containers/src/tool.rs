//! Other people's programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program that must succeed, and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tools/setup installs it"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `skopeo copy FROM TO` with more options before them; addresses as in containers-transports(5).
pub fn skopeo_copy(options: &[&str], from: &str, to: &str) {
    run(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]).args(options).args([from, to]));
}

/// SHA-256 of a file by coreutils, in hexadecimal.
#[must_use]
pub fn sha256sum(file: &Path) -> String {
    let printed = run(Command::new("sha256sum").arg("--").arg(file));
    printed.split_whitespace().next().expect("a digest").to_owned()
}

/// A Debian root folder with Python: `/usr/bin/python3` and `/bin/sh` work in it. In the project's cache; not to be changed.
#[must_use]
pub fn python_root() -> PathBuf {
    debian_tree("python")
}

/// The same with boto3, the AWS SDK for Python, in its usual place.
#[must_use]
pub fn boto3_root() -> PathBuf {
    debian_tree("boto3")
}

/// A Debian root folder that systemd boots in a container. In the project's cache; not to be changed.
#[must_use]
pub fn systemd_root() -> PathBuf {
    debian_tree("systemd")
}

/// A folder of unpacked Debian packages, from `tools/debian-tree`, which says what there is.
pub(crate) fn debian_tree(name: &str) -> PathBuf {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/debian-tree");
    PathBuf::from(run(Command::new(tool).arg(name)).trim_end())
}
