//! One cgroup for the processes of an enclave: what they may take together. See the kernel's
//! Documentation/admin-guide/cgroup-v2.rst.
//!
//! A cgroup is made inside one that this user has been given: configured, or root's own for all enclaves, or, for an ordinary
//! user, the highest above its own that it owns (what systemd calls delegated).

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where the unified hierarchy is mounted on every distribution.
const MOUNTED_AT: &str = "/sys/fs/cgroup";

/// The cgroup of root's enclaves, beside the system's own.
const ROOTS: &str = "/sys/fs/cgroup/enclave";

/// The controllers that are needed.
const CONTROLLERS: &str = "+memory +pids";

/// How long the last process of a cgroup may take to leave it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the processes of an enclave may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Bytes of memory, guest memory included; none of it in swap.
    pub memory: u64,
    /// Processes and threads.
    pub tasks: u64,
}

/// A cgroup that this process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup of this name inside `parent`, or inside what this user has been given, with these limits, and moves this
    /// process into it. Its children begin in it.
    ///
    /// # Errors
    /// Why this host has none for this user, for people.
    pub fn enter(parent: Option<&Path>, name: &str, limits: CgroupLimits) -> Result<Self, String> {
        let cgroup = Self::make(parent, name)?;
        match cgroup.limit_and_join(limits) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                let _nothing_is_in_it = fs::remove_dir(&cgroup.path);
                Err(not_usable(&cgroup.path, &error))
            }
        }
    }

    /// Makes a cgroup without limits, and without processes.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn make(parent: Option<&Path>, name: &str) -> Result<Self, String> {
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None => given()?,
        };
        let path = parent.join(name);
        let made = || {
            make_folder(&parent)?;
            // The controllers reach a cgroup's children only if it passes them on. Most systems do that at the top already.
            if let Some(above) = parent.parent() {
                let _it_shows_at_the_next_step = write(above, "cgroup.subtree_control", CONTROLLERS);
            }
            write(&parent, "cgroup.subtree_control", CONTROLLERS)?;
            make_folder(&path)
        };
        made().map_err(|error| not_usable(&parent, &error))?;
        Ok(Self { path })
    }

    fn limit_and_join(&self, limits: CgroupLimits) -> io::Result<()> {
        write(&self.path, "memory.max", &limits.memory.to_string())?;
        match write(&self.path, "memory.swap.max", "0") {
            // A kernel without swap accounts for none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        write(&self.path, "pids.max", &limits.tasks.to_string())?;
        write(&self.path, "cgroup.procs", "0")
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes an enclave's cgroup, once its last process has left it, which is a moment after that has ended. One that is gone is
/// fine.
///
/// # Errors
/// The system's: `ResourceBusy` if processes stay in it.
pub fn remove(path: &Path) -> io::Result<()> {
    // Only what lies in the hierarchy of cgroups: the path comes from a file.
    if !path.starts_with(MOUNTED_AT) || path.components().any(|part| part.as_os_str() == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no cgroup's path"));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                wait_until_left(path)?;
            }
            other => return other,
        }
    }
}

/// Waits until a cgroup has no processes, or for a moment.
fn wait_until_left(path: &Path) -> io::Result<()> {
    let mut events = fs::File::open(path.join("cgroup.events"))?;
    let mut text = String::new();
    events.read_to_string(&mut text)?;
    if text.contains("populated 1") {
        // A change since it was read shows as an exceptional condition.
        let moment = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&moment))?;
    }
    Ok(())
}

/// The cgroup in which this user may make others.
///
/// # Errors
/// Why there is none, for people.
pub fn given() -> Result<PathBuf, String> {
    if !Path::new(MOUNTED_AT).join("cgroup.controllers").exists() {
        return Err("this host has no unified cgroup hierarchy".to_owned());
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Ok(PathBuf::from(ROOTS));
    }
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let owned = |path: &&Path| {
        fs::metadata(path.join("cgroup.procs")).is_ok_and(|metadata| metadata.uid() == user.as_raw())
    };
    let own = Path::new(MOUNTED_AT).join(own);
    let highest = own.ancestors().take_while(owned).last();
    highest.map(Path::to_owned).ok_or_else(|| {
        "none is delegated to this user; start with `systemd-run --user --scope`, or name one in the configuration (cgroup)"
            .to_owned()
    })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    // Opened, never made: these files are there or the hierarchy is another.
    let mut file = fs::OpenOptions::new().write(true).open(folder.join(file))?;
    io::Write::write_all(&mut file, value.as_bytes())
}

fn not_usable(parent: &Path, error: &io::Error) -> String {
    format!("{} cannot be used: {error}", parent.display())
}
