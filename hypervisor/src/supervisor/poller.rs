//! One epoll for everything that the supervisor waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;

/// Events taken at once.
const MAX_EVENTS: usize = 32;

/// What woke the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A signal to this process.
    Signal,
    /// The command that started the enclave.
    Starter,
    /// The virtual machine process's messages.
    Machine,
    /// Its end.
    MachineExit,
    /// Its standard error.
    MachineWords,
    /// The security module's messages.
    Security,
    /// Its end.
    SecurityExit,
    /// Its standard error.
    SecurityWords,
    /// The thread that loads the image.
    Loader,
    /// The console's pipe.
    Console,
    /// A host program connects to the guest.
    Vsock,
    /// A command connects.
    Control,
    /// A connected command.
    Conversation(u32),
    /// A command that follows the console.
    Follower(u32),
}

impl Source {
    const fn to_data(self) -> u64 {
        let (kind, number) = match self {
            Self::Signal => (0, 0),
            Self::Starter => (1, 0),
            Self::Machine => (2, 0),
            Self::MachineExit => (3, 0),
            Self::MachineWords => (4, 0),
            Self::Security => (5, 0),
            Self::SecurityExit => (6, 0),
            Self::SecurityWords => (7, 0),
            Self::Loader => (8, 0),
            Self::Console => (9, 0),
            Self::Vsock => (10, 0),
            Self::Control => (11, 0),
            Self::Conversation(number) => (12, number),
            Self::Follower(number) => (13, number),
        };
        (kind << 32) | number as u64
    }

    fn from_data(data: u64) -> Option<Self> {
        let number = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        Some(match data >> 32 {
            0 => Self::Signal,
            1 => Self::Starter,
            2 => Self::Machine,
            3 => Self::MachineExit,
            4 => Self::MachineWords,
            5 => Self::Security,
            6 => Self::SecurityExit,
            7 => Self::SecurityWords,
            8 => Self::Loader,
            9 => Self::Console,
            10 => Self::Vsock,
            11 => Self::Control,
            12 => Self::Conversation(number),
            13 => Self::Follower(number),
            _ => return None,
        })
    }
}

/// What is waited for at a descriptor, besides its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    /// It can be read.
    pub(super) read: bool,
    /// It can be written.
    pub(super) write: bool,
}

impl Interest {
    /// Reading alone.
    pub(super) const READ: Self = Self { read: true, write: false };
    /// The other end's departure alone.
    pub(super) const END: Self = Self { read: false, write: false };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// The epoll. Level-triggered: what is not taken up now comes again.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Waits for a descriptor too. It must be removed before it is closed if others hold it as well.
    pub(super) fn add(&self, descriptor: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(source.to_data()), interest.flags())?)
    }

    /// Changes what is waited for.
    pub(super) fn change(&self, descriptor: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(source.to_data()), interest.flags())?)
    }

    /// Stops waiting for a descriptor; one that is not waited for is fine.
    pub(super) fn remove(&self, descriptor: impl AsFd) {
        // The only failure is that it is not there.
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Blocks until something happens or `deadline` passes; then the list is empty.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<Source>> {
        let timeout = deadline.map(|deadline| {
            // Rounded up to what epoll counts in, so that it does not wake just before the deadline.
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut events: Vec<Event> = Vec::with_capacity(MAX_EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // The structure is packed: its field is copied, not borrowed.
        Ok(events.iter().filter_map(|event| Source::from_data({ event.data }.u64())).collect())
    }
}
