//! The console in debug mode: from the machine's pipe into the folder, and to whoever follows it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use crate::console_log::{Followed, Follower, LogWriter};
use crate::run_dir::EnclaveFolder;
use crate::supervisor::poller::{Interest, Poller, Source};

/// Commands that may follow one console at once.
const MAX_FOLLOWERS: usize = 16;

/// Bytes read from the machine at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Reads at the end of the machine, which may have left a pipe full.
const LAST_READS: usize = 64;

/// The console's pipe, its files and its followers.
#[derive(Debug)]
pub(super) struct Console {
    pipe: OwnedFd,
    log: LogWriter,
    followers: BTreeMap<u32, Follower>,
    next: u32,
}

impl Console {
    /// A console, and the end of its pipe that the machine writes to.
    pub(super) fn create(folder: &EnclaveFolder) -> io::Result<(Self, OwnedFd)> {
        let (pipe, machine_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let console = Self { pipe, log: LogWriter::create(folder)?, followers: BTreeMap::new(), next: 0 };
        Ok((console, machine_end))
    }

    /// Readable when the machine has written.
    pub(super) fn pipe(&self) -> impl AsFd {
        self.pipe.as_fd()
    }

    /// Takes what the machine wrote. False once nobody can write any more.
    pub(super) fn take(&mut self, folder: &EnclaveFolder, poller: &Poller) -> io::Result<bool> {
        let more = self.read(folder)?;
        let numbers: Vec<u32> = self.followers.keys().copied().collect();
        for number in numbers {
            self.serve(number, poller);
        }
        Ok(!matches!(more, Read::End))
    }

    /// Takes what is left when the machine has ended.
    pub(super) fn take_rest(&mut self, folder: &EnclaveFolder, poller: &Poller) -> io::Result<()> {
        for _ in 0..LAST_READS {
            if !matches!(self.read(folder)?, Read::Some) {
                break;
            }
        }
        self.take(folder, poller).map(|_| ())
    }

    /// A new follower's end of its stream, which gives the console from the first byte.
    pub(super) fn follow(&mut self, folder: &EnclaveFolder, poller: &Poller) -> io::Result<OwnedFd> {
        if self.followers.len() >= MAX_FOLLOWERS {
            return Err(io::Error::other(format!("{MAX_FOLLOWERS} commands follow this console already")));
        }
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let follower = Follower::new(folder, ours)?;
        poller.add(&follower, Source::Follower(number), Interest::END)?;
        self.followers.insert(number, follower);
        self.serve(number, poller);
        Ok(theirs)
    }

    /// Sends a follower what it has not got yet, and forgets it once it is gone.
    pub(super) fn serve(&mut self, number: u32, poller: &Poller) {
        let Some(follower) = self.followers.get_mut(&number) else {
            return;
        };
        let write = match follower.send() {
            Followed::AllSent => false,
            Followed::StreamFull => true,
            Followed::Gone => {
                self.followers.remove(&number);
                return;
            }
        };
        if poller.change(&*follower, Source::Follower(number), Interest { read: false, write }).is_err() {
            self.followers.remove(&number);
        }
    }

    /// Ends the streams of the followers that have everything. True once there are none left.
    pub(super) fn release(&mut self) -> bool {
        self.followers.retain(|_, follower| follower.send() == Followed::StreamFull);
        self.followers.is_empty()
    }

    fn read(&mut self, folder: &EnclaveFolder) -> io::Result<Read> {
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(&self.pipe, &mut buffer) {
            Ok(0) => Ok(Read::End),
            Ok(read) => {
                self.log.append(folder, buffer.get(..read).unwrap_or_default())?;
                Ok(Read::Some)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }
}

enum Read {
    Some,
    Nothing,
    End,
}
