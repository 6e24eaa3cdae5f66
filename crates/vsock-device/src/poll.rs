//! Everything the device waits for, in one epoll set, whose descriptor is the device's event source.
//!
//! Streams are watched edge-triggered and registered once: what they reported is remembered in their connection
//! until the stream says that it has no more (`EAGAIN`). A stream that waits for credit therefore wakes nobody again
//! and again, and the hot path makes no calls to change what is watched.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::Timespec;

use crate::slab::{GENERATIONS, Token};

/// How many events one look takes. More stay in the set for the next.
const EVENTS: usize = 64;

/// What an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// The driver's notification for the queue with this number.
    Kick(u32),
    /// The host's end.
    Host,
    /// The timer.
    Timer,
    /// The device left work for its next turn.
    Again,
    /// The stream of a connection.
    Connection(Token),
    /// The stream of a host program that has not said which port it wants.
    Handshake(Token),
}

impl Source {
    pub(crate) fn encode(self) -> u64 {
        let (class, slot, generation) = match self {
            Self::Kick(queue) => (0, queue, 0),
            Self::Host => (1, 0, 0),
            Self::Timer => (2, 0, 0),
            Self::Again => (3, 0, 0),
            Self::Connection(token) => (4, token.slot, token.generation),
            Self::Handshake(token) => (5, token.slot, token.generation),
        };
        (class << 60) | (u64::from(generation % GENERATIONS) << 32) | u64::from(slot)
    }

    pub(crate) fn decode(data: u64) -> Option<Self> {
        let slot = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(data >> 32).ok()? % GENERATIONS;
        let token = Token { slot, generation };
        Some(match data >> 60 {
            0 => Self::Kick(slot),
            1 => Self::Host,
            2 => Self::Timer,
            3 => Self::Again,
            4 => Self::Connection(token),
            5 => Self::Handshake(token),
            _ => return None,
        })
    }
}

/// What a stream can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Bytes, the end of the stream or an error can be read.
    pub(crate) readable: bool,
    /// There is room for bytes.
    pub(crate) writable: bool,
    /// Both directions have ended.
    pub(crate) hung_up: bool,
}

/// Something has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occurrence {
    pub(crate) source: Source,
    pub(crate) ready: Readiness,
}

/// The epoll set.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    again: OwnedFd,
    events: Vec<Occurrence>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let again = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let poller = Self { epoll, again, events: Vec::with_capacity(EVENTS) };
        poller.watch(poller.again.as_fd(), Source::Again)?;
        Ok(poller)
    }

    pub(crate) fn event_source(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches a descriptor for something to read, level-triggered.
    pub(crate) fn watch(&self, descriptor: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let data = EventData::new_u64(source.encode());
        Ok(epoll::add(&self.epoll, descriptor, data, EventFlags::IN)?)
    }

    /// Watches the driver's notifications, edge-triggered: each is an event, and none has to be read away.
    pub(crate) fn watch_kick(&self, kick: BorrowedFd<'_>, queue: u32) -> io::Result<()> {
        let data = EventData::new_u64(Source::Kick(queue).encode());
        Ok(epoll::add(&self.epoll, kick, data, EventFlags::IN | EventFlags::ET)?)
    }

    /// Watches a stream for everything, edge-triggered.
    pub(crate) fn watch_stream(&self, stream: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let data = EventData::new_u64(source.encode());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, stream, data, flags)?)
    }

    /// Stops watching. Closing would not do where another process holds the same open file.
    pub(crate) fn forget(&self, descriptor: BorrowedFd<'_>) {
        if let Err(error) = epoll::delete(&self.epoll, descriptor) {
            tracing::debug!(%error, "a descriptor was not being watched");
        }
    }

    /// Keeps the event source readable until the next [`Self::take`].
    pub(crate) fn again(&self) {
        // A full counter is as readable as any.
        let _full = rustix::io::write(&self.again, &1u64.to_ne_bytes()).is_err();
    }

    /// Takes up to [`EVENTS`] events, without waiting. Give the list back with [`Self::recycle`].
    pub(crate) fn take(&mut self) -> io::Result<Vec<Occurrence>> {
        let mut occurrences = std::mem::take(&mut self.events);
        occurrences.clear();
        let mut space = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, space.as_mut_slice(), Some(&now)) {
            Ok((events, _)) => occurrences.extend(events.iter().filter_map(occurrence)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if occurrences.iter().any(|occurrence| occurrence.source == Source::Again) {
            let mut counter = [0; 8];
            let _taken_already = rustix::io::read(&self.again, &mut counter).is_err();
        }
        Ok(occurrences)
    }

    /// Keeps the list's memory for the next [`Self::take`].
    pub(crate) fn recycle(&mut self, occurrences: Vec<Occurrence>) {
        self.events = occurrences;
    }
}

fn occurrence(event: &Event) -> Option<Occurrence> {
    // The kernel's structure is packed: copy before use.
    let (flags, data) = (event.flags, event.data);
    let something_to_read = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
    let ready = Readiness {
        readable: flags.intersects(something_to_read),
        writable: flags.contains(EventFlags::OUT),
        hung_up: flags.contains(EventFlags::HUP),
    };
    Some(Occurrence { source: Source::decode(data.u64())?, ready })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_the_trip_through_the_kernel() {
        let token = Token { slot: u32::MAX, generation: GENERATIONS - 1 };
        for source in [
            Source::Kick(2),
            Source::Host,
            Source::Timer,
            Source::Again,
            Source::Connection(token),
            Source::Handshake(Token { slot: 0, generation: 1 }),
        ] {
            assert_eq!(Source::decode(source.encode()), Some(source));
        }
        assert_eq!(Source::decode(u64::MAX), None);
    }
}
