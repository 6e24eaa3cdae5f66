//! An image from a folder with a Dockerfile, by buildah: the result is an OCI image layout, as from a registry.
//!
//! buildah needs no daemon and, where the user has subordinate ids (subuid(5)), no root. Nothing of the build stays behind: it gets a store
//! of its own for the time of the build, so it shares neither layers nor base images with other builds, and the same inputs meet the same start.
//! Options: buildah(1) and buildah-build(1).

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::geteuid;
use thiserror::Error;

use crate::kernel::Architecture;
use crate::scratch::Scratch;

/// The program.
const BUILDAH: &str = "buildah";
/// How many of its last lines an error repeats.
const SHOWN_LINES: usize = 20;
/// Bytes of one of its lines that are kept.
const MAX_LINE_BYTES: u64 = 4096;

/// Why a Dockerfile cannot be built.
#[derive(Debug, Error)]
pub enum DockerfileError {
    /// buildah is missing.
    #[error(
        "buildah is not installed, which builds from a Dockerfile: install it (`apt-get install buildah`, `dnf install buildah`), or build the image with another tool, save it as an OCI layout or with `docker save`, and use --oci or --docker-archive"
    )]
    NoBuildah,
    /// There is no Dockerfile.
    #[error("{} has neither a Containerfile nor a Dockerfile", .0.display())]
    NoDockerfile(PathBuf),
    /// buildah failed.
    #[error("buildah failed ({status}); it said last:{}", tail.iter().map(|line| format!("\n    {line}")).collect::<String>())]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it printed.
        tail: Vec<String>,
    },
    /// The system does not let us run it.
    #[error("buildah cannot be run: {step}: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What to build and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The folder with the Dockerfile and the files that it names.
    pub context: &'a Path,
    /// For which machine. Steps that run programs need one that can run them.
    pub platform: Architecture,
    /// The date of everything in the image, in seconds since 1970, in the place of the time of the build.
    pub build_time: u64,
}

/// Builds into the folder `into`, which must be empty: afterwards it is an OCI image layout of that one image. Each line that buildah
/// prints goes to `line` as well; it may hold control characters.
///
/// # Errors
/// See [`DockerfileError`].
pub fn build(request: &Request<'_>, into: &Path, line: &mut dyn FnMut(&str)) -> Result<(), DockerfileError> {
    if !["Containerfile", "Dockerfile"].iter().any(|name| request.context.join(name).is_file()) {
        return Err(DockerfileError::NoDockerfile(request.context.to_owned()));
    }
    let context = request.context.canonicalize().map_err(system("finding the folder"))?;
    let store = Store::new()?;
    let (reader, writer) = io::pipe().map_err(system("making a pipe"))?;
    let mut command = store.buildah();
    command
        .args(["build", "--isolation", "chroot", "--format", "oci", "--layers=false", "--no-cache"])
        // Else buildah writes its own version into the image.
        .arg("--identity-label=false")
        .arg("--timestamp")
        .arg(request.build_time.to_string())
        // The layout is where it runs: as a name, a folder's path must not hold a colon (containers-transports(5)).
        .args(["--tag", "oci:."])
        .current_dir(into)
        .arg(context)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(system("copying a pipe"))?)
        .stderr(writer);
    if Some(request.platform) != Architecture::of_this_machine() {
        command.args(["--os", "linux", "--arch", request.platform.oci_name()]);
    }
    let mut process = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DockerfileError::NoBuildah,
        _ => system("starting it")(error),
    })?;
    // The command holds our writing ends; the pipe ends when buildah's do.
    drop(command);
    let read = follow(reader, line);
    let status = process.wait().map_err(system("waiting for it"))?;
    let tail = read.map_err(system("reading what it prints"))?;
    if status.success() { Ok(()) } else { Err(DockerfileError::Failed { status, tail }) }
}

/// Passes lines on until the other side closes; returns the last ones.
fn follow(reader: PipeReader, line: &mut dyn FnMut(&str)) -> io::Result<Vec<String>> {
    let mut reader = BufReader::new(reader);
    let mut tail = VecDeque::new();
    let mut bytes = Vec::new();
    // A line that is longer comes in pieces.
    while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        line(text);
        if tail.len() == SHOWN_LINES {
            tail.pop_front();
        }
        tail.push_back(text.chars().filter(|letter| !letter.is_control()).collect());
        bytes.clear();
    }
    Ok(tail.into())
}

/// Where buildah keeps what it works on. It is gone with this value.
#[derive(Debug)]
struct Store(Scratch);

impl Store {
    fn new() -> Result<Self, DockerfileError> {
        Scratch::new().map(Self).map_err(system("making a folder for its store"))
    }

    /// buildah with this store, whatever the user's own configuration says of stores.
    fn buildah(&self) -> Command {
        let place = |name: &str| self.0.path().join(name);
        let mut command = Command::new(BUILDAH);
        command.arg("--root").arg(place("root")).arg("--runroot").arg(place("runroot"));
        // No file system's support is needed for this driver, nor a kernel module.
        command.args(["--storage-driver", "vfs"]);
        command.env("TMPDIR", self.0.path());
        // Its cache of where blobs were seen.
        command.env("XDG_DATA_HOME", place("data"));
        for name in
            ["STORAGE_DRIVER", "STORAGE_OPTS", "BUILDAH_ISOLATION", "BUILDAH_LAYERS", "BUILDAH_FORMAT"]
        {
            command.env_remove(name);
        }
        command
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if geteuid().is_root() {
            return;
        }
        // Without root, the store has folders of the user's subordinate ids, which only a process among these may empty.
        let _ = self
            .buildah()
            .args(["unshare", "--", "rm", "-rf", "--"])
            .arg(self.0.path().join("root"))
            .arg(self.0.path().join("runroot"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn system(step: &'static str) -> impl FnOnce(io::Error) -> DockerfileError {
    move |source| DockerfileError::System { step, source }
}
