//! All connections of one enclave: which packet belongs to which, and whose turn it is.
//!
//! Packets from the guest are dealt with at once, whatever the state of the guest's receive queue: what they make due
//! is remembered, either by their connection or, if there is none, in a bounded list of resets. So neither direction
//! can stall the other, as happens where one queue waits for the other.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::connection::{Broken, Connection, HostSide, Interest, Key, Payload, Phase};
use crate::handshake::{Handshake, Said};
use crate::host::{ConnectRequest, HostEnd, HostEvent};
use crate::limits::{CREDIT_BYTES, GENEROUS_CONNECTIONS, Limits, SMALL_CREDIT_BYTES};
use crate::packet::{Header, Operation, TYPE_STREAM};
use crate::poll::{Occurrence, Poller, Readiness, Source};
use crate::services::{CID_HOST, CID_PARENT, GuestReport, Service};
use crate::slab::{Slab, Token};
use crate::timers::Timers;

/// Who is told what the guest reports.
pub(crate) type Reporter = Box<dyn FnMut(GuestReport) + Send>;

/// Ports of the host's end for connections that the host begins: from here up, as Firecracker does, so that they
/// cannot be mistaken for ports that somebody listens on.
const FIRST_LOCAL_PORT: u32 = 1 << 30;

/// The most events of the host's end that are dealt with in one turn.
const HOST_EVENTS: usize = 64;

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

    // ---- from the guest ------------------------------------------------------------------------------------------

    /// Deals with a packet from the guest.
    pub(crate) fn take_packet(&mut self, header: &Header, payload: Payload<'_>) {
        if header.src_cid != self.guest_cid {
            tracing::debug!(cid = header.src_cid, "dropped a packet that pretends to come from elsewhere");
            return;
        }
        let operation = Operation::from_number(header.operation);
        let ours = header.dst_cid == CID_HOST || header.dst_cid == CID_PARENT;
        let key = Key::of(header);
        let known = self.by_key.get(&key).copied().filter(|_| ours);
        match (known, operation) {
            (Some(token), operation) => self.take_known(token, header, operation, payload),
            (None, Some(Operation::Reset)) => {}
            (None, Some(Operation::Request)) if ours && header.kind == TYPE_STREAM => {
                self.take_request(key, header);
            }
            (None, _) => self.refuse(header),
        }
    }

    /// A packet of a connection that there is.
    fn take_known(
        &mut self,
        token: Token,
        header: &Header,
        operation: Option<Operation>,
        payload: Payload<'_>,
    ) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if operation == Some(Operation::Reset) {
            return self.guest_has_reset(token);
        }
        if matches!(connection.phase, Phase::Resetting | Phase::Draining) {
            return;
        }
        match take(connection, header, operation, payload) {
            Ok(taken) => {
                match taken {
                    Taken::Nothing => {}
                    Taken::Report(report) => self.report(report),
                    Taken::Answer => {
                        connection.peer.trust(false);
                        self.guest_answers = Some(true);
                    }
                }
                self.after_packet(token, operation);
            }
            Err(broken) => self.break_off(token, broken),
        }
    }

    /// What a packet changes beyond its own connection.
    fn after_packet(&mut self, token: Token, operation: Option<Operation>) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        match connection.phase {
            Phase::Established if operation == Some(Operation::Response) => {
                self.answer_program(token);
            }
            Phase::Draining => self.set_deadline(token, self.limits.linger),
            _ => {}
        }
        self.stand_in_line(token);
    }

    fn guest_has_reset(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        connection.owed.reset = false;
        let key = connection.key;
        if connection.phase == Phase::Draining {
            self.by_key.remove(&key);
        } else {
            self.remove(token);
        }
    }

    /// The guest wants to connect.
    fn take_request(&mut self, key: Key, header: &Header) {
        let service = Service::at(key.host_cid, key.host_port);
        let host = service.map_or(HostSide::Pending, HostSide::Service);
        let Some(token) = self.add(key, Phase::Connecting, host) else {
            tracing::debug!(port = key.host_port, "refused a connection: the enclave has too many");
            return self.refuse(header);
        };
        let Some(connection) = self.connections.get_mut(token) else { return };
        if let Err(broken) = connection.take_credit(header) {
            return self.break_off(token, broken);
        }
        if matches!(connection.host, HostSide::Service(_)) {
            self.accept(token);
        } else {
            self.set_deadline(token, self.limits.connect);
            self.host.connect(ConnectRequest(Source::Connection(token).encode()), key.host_port);
        }
    }

    fn accept(&mut self, token: Token) {
        self.clear_deadline(token);
        if let Some(connection) = self.connections.get_mut(token) {
            connection.phase = Phase::Established;
            connection.owed.response = true;
        }
        self.stand_in_line(token);
    }

    /// Answers a packet that belongs to no connection.
    fn refuse(&mut self, header: &Header) {
        if self.resets.len() < self.limits.resets {
            self.resets.push_back(header.reset());
        } else {
            tracing::debug!("dropped a reset: the guest takes none");
        }
    }

    /// The guest accepted a connection that a host program wanted.
    fn answer_program(&mut self, token: Token) {
        self.clear_deadline(token);
        let Some(connection) = self.connections.get_mut(token) else { return };
        let answer = format!("OK {}\n", connection.key.guest_port);
        let sent = connection
            .stream()
            .map(|stream| rustix::net::send(stream, answer.as_bytes(), crate::connection::NEVER_WAIT));
        // Nothing was sent to the program before, so a socket without room for a line is no socket to serve.
        if sent != Some(Ok(answer.len())) {
            self.break_off(token, Broken("the host program takes no answer"));
        }
    }

    fn report(&mut self, report: GuestReport) {
        let reported = match report {
            GuestReport::Heartbeat => &mut self.heartbeat_reported,
            GuestReport::ApplicationEnded(_) => &mut self.end_reported,
        };
        if !std::mem::replace(reported, true) {
            (self.reporter)(report);
        }
    }

    // ---- from the host -------------------------------------------------------------------------------------------

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
        use std::os::fd::AsFd;
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
        use std::os::fd::AsFd;
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

    fn drop_handshake(&mut self, token: Token) -> Option<OwnedFd> {
        use std::os::fd::AsFd;
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

    // ---- time ----------------------------------------------------------------------------------------------------

    fn take_timeouts(&mut self) {
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

    pub(crate) fn set_deadline(&mut self, token: Token, after: Duration) {
        self.clear_deadline(token);
        let Some(connection) = self.connections.get_mut(token) else { return };
        let deadline = Instant::now() + after;
        connection.deadline = Some(deadline);
        self.timers.set(deadline, Source::Connection(token));
    }

    fn clear_deadline(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        if let Some(deadline) = connection.deadline.take() {
            self.timers.cancel(deadline, Source::Connection(token));
        }
    }

    // ---- the table -----------------------------------------------------------------------------------------------

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
            use std::os::fd::AsFd;
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

/// What a packet says beyond its connection.
enum Taken {
    /// Nothing.
    Nothing,
    /// The guest tells a service something.
    Report(GuestReport),
    /// The guest answers when it is asked for its credit.
    Answer,
}

/// Applies a packet to its connection.
fn take(
    connection: &mut Connection,
    header: &Header,
    operation: Option<Operation>,
    payload: Payload<'_>,
) -> Result<Taken, Broken> {
    if header.kind != TYPE_STREAM {
        return Err(Broken("not a stream packet"));
    }
    let moved = connection.take_credit(header)?;
    match (connection.phase, operation) {
        (Phase::Offering, Some(Operation::Response)) => connection.phase = Phase::Established,
        (Phase::Established, Some(Operation::ReadWrite)) => {
            if usize::try_from(header.length) != Ok(payload.length) {
                return Err(Broken("a packet is shorter than it says"));
            }
            return Ok(connection.take_payload(payload)?.map_or(Taken::Nothing, Taken::Report));
        }
        (Phase::Established, Some(Operation::Shutdown)) => connection.take_shutdown(header.flags)?,
        (Phase::Established, Some(Operation::CreditUpdate)) => {
            if connection.take_credit_update(moved) {
                return Ok(Taken::Answer);
            }
        }
        (Phase::Established, Some(Operation::CreditRequest)) => connection.owed.credit_update = true,
        _ => return Err(Broken("an operation that is not possible in this state")),
    }
    Ok(Taken::Nothing)
}
