//! How much attention the virtual machine process gets: a process that floods the supervisor slows itself down, not
//! the supervisor's other work.

use std::time::{Duration, Instant};

/// Messages taken in one window.
const MESSAGES: u32 = 1000;

/// Length of a window.
const WINDOW: Duration = Duration::from_millis(100);

/// Messages that may still be taken in this window.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    window_end: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MESSAGES, window_end: now + WINDOW }
    }

    /// Begins a new window if this one is over.
    pub(super) fn refresh(&mut self, now: Instant) {
        if now >= self.window_end {
            *self = Self::new(now);
        }
    }

    /// Takes one message's worth. False if the window has no more.
    pub(super) fn take(&mut self) -> bool {
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }

    /// When messages may be taken again, if not now.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        (self.left == 0).then_some(self.window_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_pauses_until_the_window_ends() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for _ in 0..MESSAGES {
            assert!(budget.paused_until().is_none());
            assert!(budget.take());
        }
        assert!(!budget.take());
        assert_eq!(budget.paused_until(), Some(start + WINDOW));
        budget.refresh(start + WINDOW / 2);
        assert!(!budget.take());
        budget.refresh(start + WINDOW);
        assert!(budget.take());
    }
}
