//! All connections of one enclave: which packet belongs to which, and whose turn it is.
//!
//! Packets from the guest are dealt with at once, whatever the state of the guest's receive queue: what they make due
//! is remembered, either by their connection or, if there is none, in a bounded list of resets. So neither direction
//! can stall the other, as happens where one queue waits for the other.

mod guest;
mod host;
mod time;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use self::host::FIRST_LOCAL_PORT;
use crate::connection::{Broken, Connection, HostSide, Interest, Key, Phase};
use crate::handshake::Handshake;
use crate::host::HostEnd;
use crate::limits::{CREDIT_BYTES, GENEROUS_CONNECTIONS, Limits, SMALL_CREDIT_BYTES};
use crate::packet::Header;
use crate::poll::{Poller, Source};
use crate::services::GuestReport;
use crate::slab::{Slab, Token};
use crate::timers::Timers;

/// Who is told what the guest reports.
pub(crate) type Reporter = Box<dyn FnMut(GuestReport) + Send>;

/// All connections, and what they wait for.
pub(crate) struct Muxer<H> {
    guest_cid: u64,
    host: H,
    reporter: Reporter,
    heartbeat_reported: bool,
    end_reported: bool,
    limits: Limits,
    pub(crate) poller: Poller,
    timers: Timers,
    connections: Slab<Box<Connection>>,
    by_key: HashMap<Key, Token>,
    generous: usize,
    handshakes: Slab<Handshake>,
    /// Connections that have something for the guest, in turn.
    pub(crate) line: VecDeque<Token>,
    /// Resets that belong to no connection.
    pub(crate) resets: VecDeque<Header>,
    next_local_port: u32,
    /// Whether there is a driver to talk to.
    pub(crate) active: bool,
    /// Whether the guest answers when it is asked for its credit, once that is known.
    guest_answers: Option<bool>,
}

impl<H: std::fmt::Debug> std::fmt::Debug for Muxer<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Muxer")
            .field("guest_cid", &self.guest_cid)
            .field("host", &self.host)
            .field("connections", &self.connections.len())
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}

impl<H: HostEnd> Muxer<H> {
    pub(crate) fn new(guest_cid: u64, host: H, reporter: Reporter, limits: Limits) -> io::Result<Self> {
        let poller = Poller::new()?;
        let timers = Timers::new()?;
        poller.watch(host.event_source(), Source::Host)?;
        poller.watch(timers.event_source(), Source::Timer)?;
        Ok(Self {
            guest_cid,
            host,
            reporter,
            heartbeat_reported: false,
            end_reported: false,
            connections: Slab::new(limits.connections),
            by_key: HashMap::new(),
            generous: 0,
            handshakes: Slab::new(limits.handshakes),
            limits,
            poller,
            timers,
            line: VecDeque::new(),
            resets: VecDeque::new(),
            next_local_port: FIRST_LOCAL_PORT,
            active: false,
            guest_answers: None,
        })
    }

    /// The number of connections, in any state.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The bytes that are kept for host programs.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.connections.iter().map(|connection| connection.backlog_bytes()).sum()
    }

    /// The driver is gone: so are all connections, except that host programs may read on what a guest has sent before
    /// it closed.
    pub(crate) fn reset(&mut self) {
        self.active = false;
        self.guest_answers = None;
        self.resets.clear();
        self.line.clear();
        for token in self.connections.tokens() {
            let Some(connection) = self.connections.get_mut(token) else { continue };
            connection.in_line = false;
            connection.owed.reset = false;
            if connection.phase == Phase::Draining {
                let key = connection.key;
                self.by_key.remove(&key);
            } else {
                self.remove(token);
            }
        }
        for token in self.handshakes.tokens() {
            self.drop_handshake(token);
        }
    }

    fn add(&mut self, key: Key, phase: Phase, host: HostSide) -> Option<Token> {
        let generous = self.generous < GENEROUS_CONNECTIONS;
        let buf_alloc = if generous { CREDIT_BYTES } else { SMALL_CREDIT_BYTES };
        let mut connection = Box::new(Connection::new(key, phase, host, buf_alloc));
        connection.peer.trust(self.guest_answers == Some(false));
        let token = self.connections.insert(connection)?;
        self.generous += usize::from(generous);
        self.by_key.insert(key, token);
        Some(token)
    }

    /// Forgets a connection and closes its stream.
    pub(crate) fn remove(&mut self, token: Token) {
        self.clear_deadline(token);
        let Some(connection) = self.connections.remove(token) else { return };
        if let Some(stream) = connection.stream() {
            self.poller.forget(stream);
        }
        self.generous -= usize::from(connection.own.buf_alloc() == CREDIT_BYTES);
        if self.by_key.get(&connection.key) == Some(&token) {
            self.by_key.remove(&connection.key);
        }
    }

    /// The reset that a connection owed has been sent.
    pub(crate) fn reset_sent(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.phase == Phase::Draining {
            let key = connection.key;
            self.by_key.remove(&key);
        } else {
            self.remove(token);
        }
    }

    /// Resets a connection. Its stream is closed at once, so that the host program learns of it.
    fn break_off(&mut self, token: Token, reason: Broken) {
        self.clear_deadline(token);
        let Some(connection) = self.connections.get_mut(token) else { return };
        tracing::debug!(reason = reason.0, port = connection.key.host_port, "vsock connection reset");
        connection.break_off();
        if let HostSide::Stream(stream) = std::mem::replace(&mut connection.host, HostSide::Pending) {
            self.poller.forget(stream.as_fd());
        }
        self.stand_in_line(token);
    }

    pub(crate) fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        self.connections.get_mut(token).map(AsMut::as_mut)
    }

    /// Puts a connection in line if it has something for the guest, once.
    pub(crate) fn stand_in_line(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.in_line || !self.active {
            return;
        }
        let mut retry = None;
        if connection.interest() == Interest::Credit {
            retry = connection.ask_for_credit(self.limits.credit_retry);
        }
        if connection.interest() == Interest::Packet {
            connection.in_line = true;
            self.line.push_back(token);
            self.shorten_line();
        }
        if let Some(delay) = retry {
            self.set_deadline(token, delay);
        }
    }

    /// Connections that have gone leave their numbers in line until their turn comes, which it does only if the guest
    /// offers buffers. This keeps a guest that does not from making the line grow.
    fn shorten_line(&mut self) {
        if self.line.len() > 2 * self.limits.connections {
            let connections = &mut self.connections;
            self.line.retain(|token| connections.get_mut(*token).is_some());
        }
    }

    /// The host's end has been closed for the guest: it gets some time to close its own.
    pub(crate) fn await_close(&mut self, token: Token) {
        self.set_deadline(token, self.limits.close);
    }

    /// Resets a connection whose stream failed.
    pub(crate) fn stream_failed(&mut self, token: Token) {
        self.break_off(token, Broken("the host program broke the connection"));
    }

    pub(crate) fn event_source(&self) -> BorrowedFd<'_> {
        self.poller.event_source()
    }
}
