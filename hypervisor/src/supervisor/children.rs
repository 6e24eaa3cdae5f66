//! The two processes that the supervisor starts, and what it learns of their ends.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags};

use crate::console_log::printable;
use crate::spawn::spawn;

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
    /// Starts a process with `descriptors` as numbers 3, 4 and so on, and nothing else but its standard error.
    ///
    /// # Errors
    /// The system's.
    fn spawn(&self, role: Role, descriptors: &[BorrowedFd<'_>], standard_error: Stdio) -> io::Result<Child>;

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
    fn spawn(&self, role: Role, descriptors: &[BorrowedFd<'_>], standard_error: Stdio) -> io::Result<Child> {
        spawn(Path::new("/proc/self/exe"), role.argument(), descriptors, standard_error)
    }
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct ChildProcess {
    child: Child,
    /// Readable once the child has ended.
    exit: OwnedFd,
    /// What it writes to standard error: a panic's message, above all.
    words: std::fs::File,
    said: Vec<u8>,
}

impl ChildProcess {
    pub(super) fn start(
        spawner: &dyn ChildSpawner,
        role: Role,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let (words, its_words) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&words, OFlags::NONBLOCK)?;
        let mut child = spawner.spawn(role, descriptors, Stdio::from(its_words))?;
        match pidfd(&child) {
            Ok(exit) => Ok(Self { child, exit, words: words.into(), said: Vec::new() }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Readable once the child has ended.
    pub(super) fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
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
    pub(super) fn kill(&mut self) {
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

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

fn describe(status: &ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal} ended it"),
        (None, Some(code)) => format!("it exited with status {code}"),
        (None, None) => "it ended".to_owned(),
    }
}
