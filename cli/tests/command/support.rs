//! A user with empty folders, and what their commands printed.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// One user, with folders that vanish with the test.
pub(crate) struct User {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of this user's and returns its path as text.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_enclave"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("ENCLAVE_RUN_DIR", self.path("run"))
            .env("ENCLAVE_STATE_DIR", self.path("state"))
            .env("ENCLAVE_CACHE_DIR", self.path("cache"))
            .env("ENCLAVE_CONFIG", self.path("enclave.toml"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// A command of the same program under the name `nitro-cli`, which writes its error logs into this user's folder `logs`.
    pub(crate) fn nitro_cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let link = self.path("nitro-cli");
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_enclave"), &link).unwrap();
        }
        let ours = self.command::<S>(&[]);
        let mut command = Command::new(link);
        command
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .env("NITRO_CLI_LOGS_PATH", self.path("logs"));
        command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    }

    /// Runs a command that reads `input` from its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ran::from(child.wait_with_output().unwrap())
    }
}

/// The program in a folder where no other program is beside it, and that folder.
///
/// A link, not a copy: a child that another test starts at this moment would hold the copy open for writing, and the
/// kernel runs no such file.
pub(crate) fn enclave_alone() -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("enclave");
    fs::hard_link(env!("CARGO_BIN_EXE_enclave"), &program).unwrap();
    (program, folder)
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: output.status.code().expect("the command was ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{self:#?}");
        self
    }

    /// Insists on an error that says `words`, has a next step, and leaves standard output empty.
    #[track_caller]
    pub(crate) fn failed(self, words: &[&str]) -> Self {
        assert_eq!(self.status, 1, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        self.says(words)
    }

    /// A refusal with an exit status of its own: nothing on standard output, a cause with these words and a next step.
    #[track_caller]
    pub(crate) fn refused(self, status: i32, words: &[&str]) -> Self {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{self:#?}");
        self.says(words)
    }

    /// Insists on a cause with these words and a next step.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        assert!(self.stderr.contains("error: ") && self.stderr.contains("\n  next: "), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:#?}");
        }
        self
    }

    /// The one JSON value on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Keys of a JSON object in the order in which they stand.
pub(crate) fn keys(json: &str) -> Vec<String> {
    json.lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once('"').map(|(key, _)| key.to_owned()))
        .collect()
}
