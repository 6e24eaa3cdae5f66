//! Images that scenarios boot, made with `enclave build` once per run of the test program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::product::{User, bin_dir};

/// A folder that lives as long as the test program.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::Builder::new().prefix("enclave-images-").tempdir().unwrap()).path()
}

/// A root folder that holds one of our programs and nothing else.
#[must_use]
pub fn rootfs(program: &str) -> PathBuf {
    static MADE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let rootfs = folder().join(format!("rootfs-{program}"));
    let to = rootfs.join("bin").join(program);
    if !to.exists() {
        fs::create_dir_all(rootfs.join("bin")).unwrap();
        fs::copy(bin_dir().join(program), &to).expect("`make build` makes it");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    rootfs
}

/// A root folder that holds the demo application and nothing else.
#[must_use]
pub fn demo_rootfs() -> PathBuf {
    rootfs("enclave-demo")
}

/// Builds an image of the demo's root folder with these further arguments of `enclave build`.
#[must_use]
pub fn build(name: &str, arguments: &[&str]) -> PathBuf {
    build_from(&demo_rootfs(), name, arguments)
}

/// The same of another root folder.
#[must_use]
pub fn build_from(rootfs: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let output = folder().join(format!("{name}.eif"));
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
