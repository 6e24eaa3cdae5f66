//! The built product and a user's folders for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The folder that `make build` fills: `ENCLAVE_BIN_DIR`, or `target/release` of the repository.
#[must_use]
pub fn bin_dir() -> PathBuf {
    std::env::var_os("ENCLAVE_BIN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"), PathBuf::from)
}

/// One user of the product: folders of their own, the same binaries.
#[derive(Debug)]
pub struct User {
    folder: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Printed {
    /// Exit status, or `None` if a signal ended the command.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Printed {
    /// Runs a command to its end.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// The one JSON value on standard output.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON value ({error}): {self:#?}"))
    }

    /// Insists that the command succeeded.
    #[must_use]
    pub fn success(self) -> Self {
        assert_eq!(self.status, Some(0), "the command failed: {self:#?}");
        self
    }

    /// Insists that the command failed with an error that says all of `words`.
    #[must_use]
    pub fn failure(self, words: &[&str]) -> Self {
        assert!(self.status.is_some_and(|status| status != 0), "the command did not fail: {self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "the error does not say {word:?}: {self:#?}");
        }
        self
    }
}

impl From<Output> for Printed {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        Self {
            status: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl User {
    /// A user with empty folders.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("enclave-scenario-").tempdir().unwrap() }
    }

    /// A file or folder of this user.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that holds one folder per enclave.
    #[must_use]
    pub fn run_root(&self) -> PathBuf {
        self.path("run")
    }

    /// An `enclave` command of this user.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&bin_dir().join("enclave"), arguments)
    }

    /// The same with another copy of `enclave`.
    #[must_use]
    pub fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("ENCLAVE_RUN_DIR", self.run_root())
            .env("ENCLAVE_STATE_DIR", self.path("state"))
            .env("ENCLAVE_CONFIG", self.path("enclave.toml"))
            .stdin(Stdio::null());
        command
    }

    /// Runs an `enclave` command to its end.
    #[must_use]
    pub fn enclave(&self, arguments: &[&str]) -> Printed {
        Printed::of(&mut self.command(arguments))
    }

    /// A command of the same product under the name `nitro-cli`.
    #[must_use]
    pub fn nitro_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_of(&bin_dir().join("nitro-cli"), arguments);
        command.env("NITRO_CLI_LOGS_PATH", self.path("logs"));
        command
    }

    /// Runs a `nitro-cli` command to its end.
    #[must_use]
    pub fn nitro_cli(&self, arguments: &[&str]) -> Printed {
        Printed::of(&mut self.nitro_command(arguments))
    }

    /// Every enclave of this user, as `describe -o json` lists them.
    #[must_use]
    pub fn describe_all(&self) -> Vec<Value> {
        let Value::Array(list) = self.enclave(&["describe", "-o", "json"]).success().json() else {
            panic!("describe prints an array");
        };
        list
    }
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Whatever a failed scenario left running must not disturb the next one.
        let _ = self.command(&["terminate", "--all"]).output();
    }
}
