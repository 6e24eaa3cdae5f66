//! A running enclave of a user, ended when the scenario ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::demo;
use crate::product::{Printed, User};

/// Longer than anything a scenario waits for, so that a hang fails instead of lasting.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How to start an enclave; every field has the value that most scenarios want.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The image.
    pub image: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory: u32,
    /// Further arguments of `enclave run`.
    pub more: &'a [&'a str],
}

impl<'a> Start<'a> {
    /// One virtual CPU and 256 MiB, production mode.
    #[must_use]
    pub const fn new(image: &'a Path, name: &'a str) -> Self {
        Self { image, name, cpus: 1, memory: 256, more: &[] }
    }

    /// Sets the number of virtual CPUs.
    #[must_use]
    pub const fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Adds arguments.
    #[must_use]
    pub const fn with(mut self, more: &'a [&'a str]) -> Self {
        self.more = more;
        self
    }

    /// The arguments of `enclave run` (or `create`).
    #[must_use]
    pub fn arguments(&self, verb: &str) -> Vec<String> {
        let (cpus, memory) = (self.cpus.to_string(), self.memory.to_string());
        let image = self.image.to_str().unwrap();
        let words =
            [verb, "--eif", image, "--cpus", &cpus, "--memory", &memory, "--name", self.name, "-o", "json"];
        words.iter().chain(self.more).map(|word| (*word).to_owned()).collect()
    }

    /// Runs `enclave run` (or `create`) to its end, whatever that is.
    #[must_use]
    pub fn attempt(&self, user: &User, verb: &str) -> Printed {
        let words = self.arguments(verb);
        user.enclave(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts the enclave and insists that its heartbeat came.
    #[must_use]
    pub fn launch<'u>(&self, user: &'u User) -> Enclave<'u> {
        let started = self.attempt(user, "run").success().json();
        Enclave { user, name: self.name.to_owned(), started }
    }

    /// Starts the enclave, insists that its heartbeat came, and waits until the demo application listens: the
    /// heartbeat says that init runs, not that the application does.
    #[must_use]
    pub fn run<'u>(&self, user: &'u User) -> Enclave<'u> {
        let enclave = self.launch(user);
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = enclave.connect(demo::PORT) {
            // Each attempt is answered by the guest's kernel; that answer paces the loop.
            assert!(Instant::now() < deadline, "the application does not listen: {error}");
        }
        enclave
    }
}

/// An enclave that runs.
#[derive(Debug)]
pub struct Enclave<'u> {
    user: &'u User,
    /// Its name.
    pub name: String,
    /// What `enclave run -o json` printed.
    pub started: Value,
}

impl Enclave<'_> {
    /// The enclave's folder.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from(self.started["RunDir"].as_str().expect("RunDir is a path"))
    }

    /// What `describe -o json` says now.
    #[must_use]
    pub fn describe(&self) -> Value {
        self.user.enclave(&["describe", &self.name, "-o", "json"]).success().json()[0].clone()
    }

    /// Connects to a port of the guest as any host program does.
    ///
    /// # Errors
    /// The socket's, or `ConnectionRefused` if the answer is not `OK`.
    pub fn connect(&self, port: u32) -> std::io::Result<UnixStream> {
        connect(&self.run_dir().join("vsock.sock"), port)
    }

    /// Listens on a port of the host as any host program does. Root's socket lets the supervisor's user in; nobody else can enter the
    /// folder.
    #[must_use]
    pub fn listen(&self, port: u32) -> UnixListener {
        let path = self.run_dir().join(format!("vsock.sock_{port}"));
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        listener
    }

    /// Waits for the end; the status and what was printed.
    #[must_use]
    pub fn wait(&self) -> Printed {
        self.user.enclave(&["wait", &self.name])
    }

    /// `enclave terminate`.
    #[must_use]
    pub fn terminate(&self) -> Printed {
        self.user.enclave(&["terminate", &self.name])
    }

    /// The process id of the supervisor.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        u32::try_from(self.started["ProcessID"].as_u64().expect("ProcessID is a number")).unwrap()
    }
}

/// The handshake of `vsock.sock`: `CONNECT <port>`, answered by `OK <port>`.
///
/// # Errors
/// The socket's, or `ConnectionRefused` if the answer is not `OK`.
pub fn connect(socket: &Path, port: u32) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = String::new();
    // One byte at a time, so that nothing of the stream behind the answer is taken.
    let mut reader = BufReader::with_capacity(1, stream.try_clone()?);
    reader.read_line(&mut answer)?;
    if answer.starts_with("OK ") {
        Ok(stream)
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, format!("answer {answer:?}")))
    }
}
