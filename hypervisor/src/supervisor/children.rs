//! The two processes that the supervisor starts, and what it learns of their ends.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use containment::User;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::channel::pair;
use crate::console_log::printable;
use crate::launch::ContainmentMode;
use crate::spawn::{Child, Program, spawn};
use crate::supervisor::users::UserClaim;

/// Bytes of a child's last words that are kept.
const MAX_WORDS: usize = 4096;

/// The device that makes virtual machines.
pub(super) const KVM: &str = "/dev/kvm";

/// Which process to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The virtual machine process.
    Machine,
    /// The security module.
    SecurityModule,
}

impl Role {
    /// The first argument of `enclave-hypervisor`.
    #[must_use]
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Machine => "vm",
            Self::SecurityModule => "security-module",
        }
    }
}

/// Starts the supervisor's children.
pub trait ChildSpawner {
    /// Starts a process with these arguments, the first of which is its role's, and with `descriptors` as numbers 3, 4 and so on,
    /// and nothing else but its standard error.
    ///
    /// # Errors
    /// The system's.
    fn spawn(
        &self,
        arguments: &[&str],
        descriptors: &[BorrowedFd<'_>],
        standard_error: BorrowedFd<'_>,
    ) -> io::Result<Child>;

    /// Opens what the virtual machine process makes its machine with: /dev/kvm.
    ///
    /// # Errors
    /// The system's.
    fn open_kvm(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::open(KVM, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// Starts this very program again: the one that runs, even if the file was replaced since.
#[derive(Debug, Clone, Copy)]
pub struct OwnProgram;

impl ChildSpawner for OwnProgram {
    fn spawn(
        &self,
        arguments: &[&str],
        descriptors: &[BorrowedFd<'_>],
        standard_error: BorrowedFd<'_>,
    ) -> io::Result<Child> {
        spawn(&Program::own()?, arguments, descriptors, standard_error)
    }
}

/// Both children, started and not yet told anything.
#[derive(Debug)]
pub(super) struct Children {
    /// What the virtual machine process makes its machine with.
    pub(super) kvm: OwnedFd,
    pub(super) machine: Connected,
    pub(super) security: Connected,
}

/// A child and this process's end of the channel to it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) process: ChildProcess,
    pub(super) channel: OwnedFd,
}

impl Children {
    /// Starts both, joined to each other and to this process, while it still may.
    ///
    /// # Errors
    /// What keeps them from starting, for people.
    pub(super) fn start(
        spawner: &dyn ChildSpawner,
        mode: ContainmentMode,
        users: Option<&UserClaim>,
    ) -> Result<Self, String> {
        let kvm = spawner.open_kvm().map_err(|error| without_kvm(&error))?;
        let start = |role: Role, user: Option<User>, packets: &OwnedFd| {
            let (ours, theirs) = pair()?;
            let process = ChildProcess::start(spawner, role, mode, user, &[theirs.as_fd(), packets.as_fd()])?;
            io::Result::Ok(Connected { process, channel: ours })
        };
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what} could not be started: {error}")
        };
        let (machine_packets, security_packets) = pair().map_err(failed("the security module"))?;
        let security = start(Role::SecurityModule, users.map(UserClaim::security_module), &security_packets)
            .map_err(failed("the security module"))?;
        let machine = start(Role::Machine, users.map(UserClaim::machine), &machine_packets)
            .map_err(failed("the virtual machine process"))?;
        Ok(Self { kvm, machine, security })
    }
}

/// What keeps this user from /dev/kvm, and what to do.
fn without_kvm(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => format!(
            "{KVM} is not there: the CPU's virtualisation is off in the firmware, its kernel module is not loaded \
             (modprobe kvm_intel or kvm_amd), or this is a virtual machine without nested virtualisation; \
             `enclave doctor` looks closer, and `make lab` runs enclaves without it, slowly"
        ),
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{KVM} may not be opened by this user; add the user to the group kvm (usermod -aG kvm USER, then log in \
             again) or run as root"
        ),
        _ => format!("{KVM} could not be opened: {error}; `enclave doctor` looks closer"),
    }
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    /// What it writes to standard error: a panic's message, above all.
    words: std::fs::File,
    said: Vec<u8>,
}

impl ChildProcess {
    fn start(
        spawner: &dyn ChildSpawner,
        role: Role,
        mode: ContainmentMode,
        user: Option<User>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let (words, its_words) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&words, OFlags::NONBLOCK)?;
        let mut arguments = vec![role.argument().to_owned(), mode.argument().to_owned()];
        arguments.extend(user.iter().flat_map(|user| [user.id.to_string(), user.ended_by.to_string()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let child = spawner.spawn(&arguments, descriptors, its_words.as_fd())?;
        Ok(Self { child, words: words.into(), said: Vec::new() })
    }

    /// Readable once the child has ended.
    pub(super) fn exit(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// Readable when the child has written to standard error.
    pub(super) fn words(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// Takes what the child wrote, of which the beginning is kept. False at the end.
    pub(super) fn hear_words(&mut self) -> bool {
        let mut buffer = [0; MAX_WORDS];
        match self.words.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                let room = MAX_WORDS.saturating_sub(self.said.len());
                self.said.extend_from_slice(buffer.get(..read.min(room)).unwrap_or_default());
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Ends the child at once, if it has not ended.
    pub(super) fn kill(&self) {
        // It has ended already, or it is about to: both are what is wanted.
        let _ = self.child.kill();
    }

    /// Reaps the child, and tells how it ended and what it said. Waits for its end.
    pub(super) fn reap(mut self) -> String {
        let status = self.child.wait();
        // What it wrote last; the pipe is finite, whoever else may hold its end.
        while self.said.len() < MAX_WORDS && self.hear_more() {}
        let ended = status.map_or_else(|error| error.to_string(), |status| describe(&status));
        let said = printable(&self.said);
        match said.trim() {
            "" => ended,
            said => format!("{ended}; it said: {said}"),
        }
    }

    /// As [`Self::hear_words`], but false as well when there is nothing for now.
    fn hear_more(&mut self) -> bool {
        let before = self.said.len();
        self.hear_words() && self.said.len() > before
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(status: &ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal} ended it"),
        (None, Some(code)) => format!("it exited with status {code}"),
        (None, None) => "it ended".to_owned(),
    }
}
