//! What happens when nothing happens: deadlines of connections and handshakes.

use std::time::{Duration, Instant};

use super::Muxer;
use crate::connection::{Broken, Phase};
use crate::host::HostEnd;
use crate::poll::Source;
use crate::slab::Token;

impl<H: HostEnd> Muxer<H> {
    pub(super) fn take_timeouts(&mut self) {
        self.timers.acknowledge();
        let now = Instant::now();
        while let Some((deadline, source)) = self.timers.expired(now) {
            match source {
                Source::Handshake(token) => drop(self.drop_handshake(token)),
                Source::Connection(token) => self.connection_timed_out(token, deadline),
                _ => {}
            }
        }
    }

    fn connection_timed_out(&mut self, token: Token, deadline: Instant) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.deadline != Some(deadline) {
            return;
        }
        connection.deadline = None;
        match connection.phase {
            Phase::Connecting => self.break_off(token, Broken("the host's end did not answer in time")),
            // A guest that was never asked need not hear that the question is off.
            Phase::Offering if connection.owed.request => self.remove(token),
            Phase::Offering => self.break_off(token, Broken("the guest did not answer in time")),
            Phase::Established if connection.awaits_close() => {
                self.break_off(token, Broken("the guest did not close in time"));
            }
            Phase::Established => {
                if connection.ask_again(self.limits.credit_answer) && self.guest_answers != Some(true) {
                    tracing::debug!("the guest does not answer when it is asked for credit");
                    self.guest_answers = Some(false);
                    connection.peer.trust(true);
                }
                self.stand_in_line(token);
            }
            Phase::Draining if connection.owed.reset => {
                self.break_off(token, Broken("the host program did not read in time"));
            }
            Phase::Draining => self.remove(token),
            Phase::Resetting => {}
        }
    }

    pub(super) fn set_deadline(&mut self, token: Token, after: Duration) {
        self.clear_deadline(token);
        let Some(connection) = self.connections.get_mut(token) else { return };
        let deadline = Instant::now() + after;
        connection.deadline = Some(deadline);
        self.timers.set(deadline, Source::Connection(token));
    }

    pub(super) fn clear_deadline(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if let Some(deadline) = connection.deadline.take() {
            self.timers.cancel(deadline, Source::Connection(token));
        }
    }
}
