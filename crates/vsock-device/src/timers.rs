//! Deadlines, all on one timerfd.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::poll::Source;

/// The deadlines that have been set. One thing may have several; whoever set them knows which still counts.
#[derive(Debug)]
pub(crate) struct Timers {
    timer: OwnedFd,
    deadlines: BTreeSet<(Instant, Source)>,
    armed: Option<Instant>,
}

impl Timers {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer, deadlines: BTreeSet::new(), armed: None })
    }

    /// Readable when a deadline may have passed.
    pub(crate) fn event_source(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Sets a deadline.
    pub(crate) fn set(&mut self, deadline: Instant, source: Source) {
        self.deadlines.insert((deadline, source));
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.arm(deadline);
        }
    }

    /// Takes back a deadline.
    pub(crate) fn cancel(&mut self, deadline: Instant, source: Source) {
        self.deadlines.remove(&(deadline, source));
    }

    /// The next deadline that has passed by `now`, if any. When there is none, the timer is set for the next one.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(Instant, Source)> {
        let first = *self.deadlines.first()?;
        if first.0 <= now {
            self.deadlines.pop_first();
            return Some(first);
        }
        self.arm(first.0);
        None
    }

    /// The timer has fired: makes it unreadable.
    pub(crate) fn acknowledge(&mut self) {
        let mut count = [0; 8];
        let _not_fired = rustix::io::read(&self.timer, &mut count).is_err();
        self.armed = None;
    }

    fn arm(&mut self, deadline: Instant) {
        // Zero would disarm the timer.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: timespec(left) };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once) {
            Ok(_) => self.armed = Some(deadline),
            Err(error) => tracing::warn!(%error, "cannot set the timer of the vsock device"),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn deadlines_come_in_order_and_only_those_that_have_passed() {
        let mut timers = Timers::new().unwrap();
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_millis(1), now + Duration::from_secs(3600));
        timers.set(later, Source::Kick(2));
        timers.set(soon, Source::Kick(1));
        timers.set(soon, Source::Kick(3));
        timers.cancel(soon, Source::Kick(3));
        let mut polled = [PollFd::from_borrowed_fd(timers.event_source(), PollFlags::IN)];
        poll(&mut polled, None).unwrap();
        timers.acknowledge();
        let now = Instant::now();
        assert_eq!(timers.expired(now), Some((soon, Source::Kick(1))));
        assert_eq!(timers.expired(now), None);
        assert_eq!(timers.armed, Some(later));
    }
}
