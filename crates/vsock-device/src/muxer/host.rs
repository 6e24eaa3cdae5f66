//! What happens at the host's end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::Muxer;
use crate::connection::{Broken, HostSide, Key, Phase};
use crate::handshake::{Handshake, Said};
use crate::host::{ConnectRequest, HostEnd, HostEvent};
use crate::poll::{Occurrence, Readiness, Source};
use crate::services::CID_PARENT;
use crate::slab::Token;

/// Ports of the host's end for connections that the host begins: from here up, as Firecracker does, so that they
/// cannot be mistaken for ports that somebody listens on.
pub(super) const FIRST_LOCAL_PORT: u32 = 1 << 30;

/// The most events of the host's end that are dealt with in one turn.
const HOST_EVENTS: usize = 64;

impl<H: HostEnd> Muxer<H> {
    /// Deals with an event. Kicks need nothing: the device looks at its queues whenever it works.
    pub(crate) fn take_event(&mut self, event: &Occurrence) {
        match event.source {
            Source::Kick(_) | Source::Again => {}
            Source::Host => self.take_host_events(),
            Source::Timer => self.take_timeouts(),
            Source::Connection(token) => self.take_readiness(token, event.ready),
            Source::Handshake(token) => self.take_handshake(token),
        }
    }

    fn take_host_events(&mut self) {
        for _ in 0..HOST_EVENTS {
            match self.host.next_event() {
                Some(HostEvent::Connected { request, stream }) => self.connected(request, stream),
                Some(HostEvent::Refused { request }) => {
                    if let Some(token) = self.connecting(request) {
                        self.break_off(token, Broken("nobody listens there"));
                    }
                }
                Some(HostEvent::Incoming { stream }) => self.incoming(stream),
                None => return,
            }
        }
    }

    fn connected(&mut self, request: ConnectRequest, stream: OwnedFd) {
        let Some(token) = self.connecting(request) else { return };
        if self.attach(token, stream) {
            self.accept(token);
        }
    }

    /// Gives a connection its stream. False if that failed: the connection is then broken off.
    fn attach(&mut self, token: Token, stream: OwnedFd) -> bool {
        if let Err(error) = self.poller.watch_stream(stream.as_fd(), Source::Connection(token)) {
            tracing::warn!(%error, "cannot watch a stream");
            self.break_off(token, Broken("the host cannot watch the stream"));
            return false;
        }
        if let Some(connection) = self.connections.get_mut(token) {
            connection.host = HostSide::Stream(stream);
        }
        true
    }

    /// The connection that a request of ours was for, if it still waits for the answer.
    fn connecting(&mut self, request: ConnectRequest) -> Option<Token> {
        let Some(Source::Connection(token)) = Source::decode(request.0) else { return None };
        let connection = self.connections.get_mut(token)?;
        let waits = connection.phase == Phase::Connecting && matches!(connection.host, HostSide::Pending);
        waits.then_some(token)
    }

    fn take_readiness(&mut self, token: Token, ready: Readiness) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        let before = connection.backlog_bytes();
        connection.take_readiness(ready.readable, ready.writable, ready.hung_up);
        let left = connection.backlog_bytes();
        if connection.phase == Phase::Draining {
            if left == 0 && !connection.owed.reset {
                return self.remove(token);
            } else if left == 0 {
                connection.phase = Phase::Resetting;
            } else if left < before {
                self.set_deadline(token, self.limits.linger);
            }
        }
        self.stand_in_line(token);
    }

    fn incoming(&mut self, stream: OwnedFd) {
        let deadline = Instant::now() + self.limits.handshake;
        if !self.active || self.handshakes.is_full() {
            tracing::debug!("closed a host program's connection: no driver, or too many at a time");
            return;
        }
        let Some(token) = self.handshakes.insert(Handshake { stream, deadline }) else { return };
        self.timers.set(deadline, Source::Handshake(token));
        let Some(handshake) = self.handshakes.get_mut(token) else { return };
        let watched = self.poller.watch_stream(handshake.stream.as_fd(), Source::Handshake(token));
        if let Err(error) = watched {
            tracing::warn!(%error, "cannot watch a stream");
            self.drop_handshake(token);
        }
    }

    fn take_handshake(&mut self, token: Token) {
        let Some(handshake) = self.handshakes.get_mut(token) else { return };
        match handshake.read() {
            Said::Incomplete => {}
            Said::Nonsense => drop(self.drop_handshake(token)),
            Said::Port(port) => {
                if let Some(stream) = self.drop_handshake(token) {
                    self.offer(stream, port);
                }
            }
        }
    }

    pub(super) fn drop_handshake(&mut self, token: Token) -> Option<OwnedFd> {
        let handshake = self.handshakes.remove(token)?;
        self.poller.forget(handshake.stream.as_fd());
        self.timers.cancel(handshake.deadline, Source::Handshake(token));
        Some(handshake.stream)
    }

    /// Offers the guest a connection to its `port`.
    fn offer(&mut self, stream: OwnedFd, port: u32) {
        let Some(key) = self.local_key(port) else { return };
        let Some(token) = self.add(key, Phase::Offering, HostSide::Pending) else {
            tracing::debug!(port, "closed a host program's connection: the enclave has too many");
            return;
        };
        if self.attach(token, stream) {
            if let Some(connection) = self.connections.get_mut(token) {
                connection.owed.request = true;
            }
            self.set_deadline(token, self.limits.connect);
            self.stand_in_line(token);
        } else {
            self.remove(token);
        }
    }

    /// An unused port of the host for a connection to `guest_port`. Such connections come from the parent's CID, as
    /// applications made for AWS expect.
    fn local_key(&mut self, guest_port: u32) -> Option<Key> {
        // There are more ports than connections, so that this many tries always find one.
        for _ in 0..=self.limits.connections {
            let host_port = self.next_local_port;
            let next = host_port.wrapping_add(1);
            self.next_local_port = if next == u32::MAX { FIRST_LOCAL_PORT } else { next };
            let key = Key { host_cid: CID_PARENT, host_port, guest_cid: self.guest_cid, guest_port };
            if !self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }
}
