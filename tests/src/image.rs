//! Images that scenarios boot, made with `enclave build` once per run of the test program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::product::{User, bin_dir};

/// A folder that lives as long as the test program.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::Builder::new().prefix("enclave-images-").tempdir().unwrap()).path()
}

/// A root folder that holds the demo application and nothing else.
#[must_use]
pub fn demo_rootfs() -> PathBuf {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS
        .get_or_init(|| {
            let rootfs = folder().join("rootfs");
            fs::create_dir_all(rootfs.join("bin")).unwrap();
            let program = rootfs.join("bin/enclave-demo");
            fs::copy(bin_dir().join("enclave-demo"), &program).expect("`make build` makes enclave-demo");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            rootfs
        })
        .clone()
}

/// Builds an image of the demo's root folder with these further arguments of `enclave build`.
#[must_use]
pub fn build(name: &str, arguments: &[&str]) -> PathBuf {
    let output = folder().join(format!("{name}.eif"));
    let rootfs = demo_rootfs();
    let mut words = vec!["build", "--rootfs", rootfs.to_str().unwrap(), "--output", output.to_str().unwrap()];
    words.extend(arguments);
    let _ = User::new().enclave(&words).success();
    output
}

/// The demo application as an image: our kernel, our init.
#[must_use]
pub fn demo() -> PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| build("demo", &["--", "/bin/enclave-demo"])).clone()
}
