//! One connection between a port of the guest and something at the host's end: its state, its credit, and what it
//! still owes the guest.
//!
//! ```text
//! guest asks: Connecting --host end answers--> Established --reset owed--> Resetting --reset sent--> gone
//! host asks:  Offering ----guest accepts-----> Established --guest has closed, host still reads--> Draining --> gone
//! ```
//! Nothing is queued for the guest: a connection remembers in [`Owed`] which control packets are due and makes them
//! when the guest has a buffer for them. So the guest cannot make the host's memory grow by not offering buffers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use virtio::{Buffers, GuestIoError, IoVecs};
use vm_memory::GuestMemoryMmap;

use crate::credit::{OwnCredit, PeerCredit};
use crate::packet::{
    HEADER_BYTES, Header, Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};
use crate::services::{GuestReport, Service};

/// A backlog that has been emptied keeps no more memory than this.
const KEPT_BACKLOG_BYTES: usize = 4096;

/// Both ends of a connection. Connections are told apart by all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) host_cid: u64,
    pub(crate) host_port: u32,
    pub(crate) guest_cid: u64,
    pub(crate) guest_port: u32,
}

impl Key {
    /// The connection that a packet from the guest belongs to.
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            host_cid: header.dst_cid,
            host_port: header.dst_port,
            guest_cid: header.src_cid,
            guest_port: header.src_port,
        }
    }
}

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The guest has asked; the host's end has not answered.
    Connecting,
    /// The host has asked; the guest has not answered.
    Offering,
    /// Bytes flow.
    Established,
    /// The guest has closed; bytes it sent before are still on their way to the host program.
    Draining,
    /// Over, but for the reset that is owed.
    Resetting,
}

/// What answers at the host's end.
#[derive(Debug)]
pub(crate) enum HostSide {
    /// Not known yet.
    Pending,
    /// A host program.
    Stream(OwnedFd),
    /// The device itself.
    Service(Service),
}

/// Control packets that are due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each packet of the protocol")]
pub(crate) struct Owed {
    pub(crate) request: bool,
    pub(crate) response: bool,
    pub(crate) credit_update: bool,
    pub(crate) credit_request: bool,
    pub(crate) reset: bool,
}

/// The guest broke the protocol, or the connection cannot go on: it is to be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// What a connection would send if the guest had a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Nothing.
    None,
    /// A packet is due, or bytes can be read and there is credit for them.
    Packet,
    /// Bytes can be read, but there is no credit.
    Credit,
}

/// The bytes of a packet from the guest, still in its memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) memory: &'a GuestMemoryMmap,
    pub(crate) buffers: &'a Buffers,
    pub(crate) length: usize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: Key,
    pub(crate) phase: Phase,
    pub(crate) host: HostSide,
    pub(crate) owed: Owed,
    pub(crate) peer: PeerCredit,
    pub(crate) own: OwnCredit,
    /// What the host's socket did not take: never more than the credit given.
    backlog: VecDeque<u8>,
    /// The stream may have something to read.
    pub(crate) readable: bool,
    /// Both directions of the stream have ended.
    hung_up: bool,
    /// The host will send no more, and everything it sent has been read.
    host_ended: bool,
    /// The host program does not read any more.
    host_deaf: bool,
    /// The host program has been told that the guest sends no more. Telling it again would be an event of the stream
    /// again, and so on for ever.
    told_host: bool,
    guest_shutdown: u32,
    sent_shutdown: u32,
    /// Whether the guest is to be asked what it has consumed, or was asked and has not moved since.
    asked_for_credit: bool,
    credit_retries: u32,
    /// When the question that has not been answered was put to the guest.
    unanswered_since: Option<Instant>,
    /// Whether the connection stands in line for the guest's buffers.
    pub(crate) in_line: bool,
    pub(crate) deadline: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(key: Key, phase: Phase, host: HostSide, buf_alloc: u32) -> Self {
        Self {
            key,
            phase,
            host,
            owed: Owed::default(),
            peer: PeerCredit::default(),
            own: OwnCredit::new(buf_alloc),
            backlog: VecDeque::new(),
            readable: false,
            hung_up: false,
            host_ended: false,
            host_deaf: false,
            told_host: false,
            guest_shutdown: 0,
            sent_shutdown: 0,
            asked_for_credit: false,
            credit_retries: 0,
            unanswered_since: None,
            in_line: false,
            deadline: None,
        }
    }

    pub(crate) fn stream(&self) -> Option<BorrowedFd<'_>> {
        match &self.host {
            HostSide::Stream(stream) => Some(stream.as_fd()),
            _ => None,
        }
    }

    /// The connection can only be reset.
    pub(crate) fn break_off(&mut self) {
        self.phase = Phase::Resetting;
        self.owed = Owed { reset: true, ..Owed::default() };
        self.drop_backlog();
    }

    // ---- from the guest ------------------------------------------------------------------------------------------

    /// Takes the credit that every packet of the guest carries. True if that moved something.
    pub(crate) fn take_credit(&mut self, header: &Header) -> Result<bool, Broken> {
        let before = self.peer.in_flight();
        self.peer
            .update(header.buf_alloc, header.fwd_cnt)
            .map_err(|_| Broken("the guest counts bytes that it was not sent"))?;
        self.forwarded(0);
        let moved = self.peer.in_flight() < before;
        if moved {
            self.asked_for_credit = false;
            self.credit_retries = 0;
        }
        Ok(moved)
    }

    /// The guest has sent a credit update. True if it can only be the answer to a question: guests that do not know
    /// the question send updates only when something has moved.
    pub(crate) fn take_credit_update(&mut self, moved: bool) -> bool {
        self.unanswered_since.take().is_some() && !moved
    }

    /// Takes the payload of a packet: to the host program as far as its socket takes it, the rest to the backlog.
    pub(crate) fn take_payload(&mut self, payload: Payload<'_>) -> Result<Option<GuestReport>, Broken> {
        let bytes = u32::try_from(payload.length).map_err(|_| Broken("a packet beyond all credit"))?;
        if self.guest_shutdown & SHUTDOWN_SEND != 0 {
            return Err(Broken("bytes after the guest said that it would send no more"));
        }
        self.own.receive(bytes).map_err(|_| Broken("more bytes than there was credit for"))?;
        let (report, forwarded) = match &mut self.host {
            HostSide::Pending => return Err(Broken("bytes before the connection was made")),
            HostSide::Service(service) => (serve(service, payload)?, payload.length),
            HostSide::Stream(_) if self.host_deaf => (None, payload.length),
            HostSide::Stream(_) => (None, self.take_stream_payload(payload)?),
        };
        self.forwarded(forwarded);
        Ok(report)
    }

    /// How many of the bytes need not be kept.
    fn take_stream_payload(&mut self, payload: Payload<'_>) -> Result<usize, Broken> {
        let mut sent = 0;
        if self.backlog.is_empty() {
            match self.send_payload(payload) {
                Ok(count) => sent = count,
                Err(GuestIoError::Memory(_)) => return Err(Broken("a payload outside memory")),
                Err(GuestIoError::Socket(error)) => {
                    self.lose_reader(&error);
                    return Ok(payload.length);
                }
            }
        }
        self.keep(payload, sent)?;
        Ok(sent)
    }

    fn send_payload(&self, payload: Payload<'_>) -> Result<usize, GuestIoError> {
        let Some(stream) = self.stream() else { return Ok(0) };
        let mut sent = 0;
        while sent < payload.length {
            let mut vectors = IoVecs::new(payload.memory);
            vectors.push(payload.buffers, HEADER_BYTES + sent, payload.length - sent)?;
            match vectors.send(stream) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) if error.would_block() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Copies what the socket did not take.
    fn keep(&mut self, payload: Payload<'_>, from: usize) -> Result<(), Broken> {
        let mut at = from;
        let mut chunk = [0; 4096];
        while at < payload.length {
            let wanted = chunk.len().min(payload.length - at);
            let target = chunk.get_mut(..wanted).unwrap_or_default();
            let outside = Broken("a payload outside memory");
            let count =
                payload.buffers.read(payload.memory, HEADER_BYTES + at, target).map_err(|_| outside)?;
            if count == 0 {
                return Err(outside);
            }
            self.make_room(count);
            self.backlog.extend(target.get(..count).unwrap_or_default());
            at += count;
        }
        Ok(())
    }

    /// Lets the backlog grow as a vector does, but not beyond the credit.
    fn make_room(&mut self, bytes: usize) {
        let needed = self.backlog.len() + bytes;
        let capacity = self.backlog.capacity();
        if needed > capacity {
            let credit = usize::try_from(self.own.buf_alloc()).unwrap_or(usize::MAX);
            let grown = (2 * capacity).min(credit).max(needed);
            self.backlog.reserve_exact(grown - self.backlog.len());
        }
    }

    /// The guest will not send, or not receive, or neither, any more.
    pub(crate) fn take_shutdown(&mut self, flags: u32) -> Result<(), Broken> {
        self.guest_shutdown |= flags & SHUTDOWN_BOTH;
        if self.guest_shutdown == SHUTDOWN_BOTH {
            self.close_for_guest();
            return Ok(());
        }
        if let HostSide::Service(service) = &self.host
            && self.guest_shutdown & SHUTDOWN_SEND != 0
            && !service.is_finished()
        {
            return Err(Broken("the guest stopped before it had said anything"));
        }
        if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
            self.host_ended = true;
            self.sent_shutdown |= SHUTDOWN_SEND;
            self.shut(Shutdown::Read);
        }
        self.finish_sending();
        Ok(())
    }

    /// The guest has closed: it is owed a reset at once, and its last bytes still go to the host program.
    fn close_for_guest(&mut self) {
        let undelivered = !self.backlog.is_empty();
        self.phase = if undelivered { Phase::Draining } else { Phase::Resetting };
        self.owed = Owed { reset: true, ..Owed::default() };
    }

    // ---- from the host -------------------------------------------------------------------------------------------

    /// The stream says what it can do.
    pub(crate) fn take_readiness(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.readable |= readable;
        self.hung_up |= hung_up;
        if writable {
            self.flush();
        }
    }

    /// Sends the backlog as far as the socket takes it.
    fn flush(&mut self) {
        while let Some(stream) = self.stream() {
            let (front, _) = self.backlog.as_slices();
            if front.is_empty() {
                break;
            }
            match rustix::io::retry_on_intr(|| send(stream, front, NEVER_WAIT)) {
                Ok(count) => {
                    self.backlog.drain(..count);
                    self.forwarded(count);
                }
                Err(Errno::AGAIN) => return,
                Err(error) => return self.lose_reader(&error.into()),
            }
        }
        if self.backlog.capacity() > KEPT_BACKLOG_BYTES {
            self.backlog = VecDeque::new();
        }
        self.finish_sending();
    }

    /// The host program does not take bytes any more: what it did not take is lost, as in any broken connection.
    fn lose_reader(&mut self, error: &io::Error) {
        tracing::debug!(%error, port = self.key.host_port, "a host program stopped reading");
        self.host_deaf = true;
        self.readable = true;
        self.drop_backlog();
    }

    fn drop_backlog(&mut self) {
        let lost = self.backlog.len();
        self.backlog = VecDeque::new();
        self.forwarded(lost);
    }

    /// Once everything has been delivered, tells the host program that the guest sends no more.
    fn finish_sending(&mut self) {
        let finished = self.guest_shutdown & SHUTDOWN_SEND != 0 && self.backlog.is_empty();
        if finished && !std::mem::replace(&mut self.told_host, true) {
            self.shut(Shutdown::Write);
        }
    }

    fn shut(&self, how: Shutdown) {
        if let Some(stream) = self.stream()
            && let Err(error) = shutdown(stream, how)
        {
            tracing::debug!(%error, port = self.key.host_port, "the host program has gone already");
        }
    }

    /// The host has sent its last byte.
    pub(crate) fn host_has_ended(&mut self) {
        self.host_ended = true;
        self.readable = false;
    }

    /// Bytes that are kept for the host program.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog.len()
    }

    fn forwarded(&mut self, bytes: usize) {
        // A backlog and a payload are at most as long as the credit, which is a u32.
        self.own.forward(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.own.worth_reporting(self.peer.buf_alloc()) && self.phase == Phase::Established {
            self.owed.credit_update = true;
        }
    }

    // ---- to the guest --------------------------------------------------------------------------------------------

    /// The header of a packet to the guest. Tells the credit, as every packet does.
    pub(crate) fn header(&mut self, operation: Operation, length: u32, flags: u32) -> Header {
        self.owed.credit_update = false;
        Header {
            src_cid: self.key.host_cid,
            dst_cid: self.key.guest_cid,
            src_port: self.key.host_port,
            dst_port: self.key.guest_port,
            length,
            kind: TYPE_STREAM,
            operation: operation.number(),
            flags,
            buf_alloc: self.own.buf_alloc(),
            fwd_cnt: self.own.report(),
        }
    }

    /// The next control packet that is due, and no longer is. Bytes come before credit packets, which they make
    /// superfluous, and before a shutdown, which follows them.
    pub(crate) fn next_control(&mut self, bytes_first: bool) -> Option<Header> {
        if self.owed.reset {
            self.owed.reset = false;
            return Some(self.header(Operation::Reset, 0, 0));
        }
        if std::mem::take(&mut self.owed.request) {
            return Some(self.header(Operation::Request, 0, 0));
        }
        if std::mem::take(&mut self.owed.response) {
            return Some(self.header(Operation::Response, 0, 0));
        }
        if bytes_first {
            return None;
        }
        let due = self.due_shutdown();
        if due & !self.sent_shutdown != 0 {
            self.sent_shutdown |= due;
            return Some(self.header(Operation::Shutdown, 0, self.sent_shutdown));
        }
        if std::mem::take(&mut self.owed.credit_request) {
            self.unanswered_since.get_or_insert_with(Instant::now);
            return Some(self.header(Operation::CreditRequest, 0, 0));
        }
        if self.owed.credit_update {
            return Some(self.header(Operation::CreditUpdate, 0, 0));
        }
        None
    }

    /// What the guest should know about the host's end by now.
    fn due_shutdown(&self) -> u32 {
        if self.phase != Phase::Established {
            return 0;
        }
        if let HostSide::Service(service) = &self.host {
            return if service.closes() { SHUTDOWN_BOTH } else { 0 };
        }
        let guest_finished = self.guest_shutdown & SHUTDOWN_SEND != 0 && self.backlog.is_empty();
        let nobody_reads = self.host_deaf || self.hung_up || (self.host_ended && guest_finished);
        let mut flags = 0;
        if self.host_ended {
            flags |= SHUTDOWN_SEND;
        }
        if nobody_reads {
            flags |= SHUTDOWN_RECEIVE;
        }
        flags
    }

    /// Whether the guest has been told that the host's end is closed, and should close its own.
    pub(crate) fn awaits_close(&self) -> bool {
        self.phase == Phase::Established && self.sent_shutdown == SHUTDOWN_BOTH
    }

    /// Whether bytes can be read at the host's end.
    pub(crate) fn has_bytes(&self) -> bool {
        if self.phase != Phase::Established || self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
            return false;
        }
        match &self.host {
            HostSide::Stream(_) => self.readable && !self.host_ended,
            HostSide::Service(service) => !service.reply().is_empty(),
            HostSide::Pending => false,
        }
    }

    /// Whether the guest may be sent bytes.
    pub(crate) fn has_credit(&self) -> bool {
        self.peer.next_packet(u32::MAX, 0, 0) > 0
    }

    /// What the connection has to send.
    pub(crate) fn interest(&self) -> Interest {
        let Owed { request, response, credit_update, credit_request, reset } = self.owed;
        let shutdown_due = self.due_shutdown() & !self.sent_shutdown != 0;
        if reset || request || response || credit_update || credit_request || shutdown_due {
            return Interest::Packet;
        }
        match (self.has_bytes(), self.has_credit()) {
            (false, _) => Interest::None,
            (true, true) => Interest::Packet,
            (true, false) => Interest::Credit,
        }
    }

    /// Bytes wait for credit: the guest is to be asked, unless it has been. Returns when to look again if nobody does
    /// yet, at first after `retry`: an answer may come before the guest's application reads, and what it reads later
    /// is not always told.
    pub(crate) fn ask_for_credit(&mut self, retry: Duration) -> Option<Duration> {
        self.ask_soon();
        if self.deadline.is_some() {
            return None;
        }
        let delay = retry.saturating_mul(1 << self.credit_retries.min(6));
        self.credit_retries = self.credit_retries.saturating_add(1);
        Some(delay)
    }

    /// The guest is to be asked what it has consumed, unless it has been.
    pub(crate) fn ask_soon(&mut self) {
        if !std::mem::replace(&mut self.asked_for_credit, true) {
            self.owed.credit_request = true;
        }
    }

    /// The time has come to ask again. True if the guest has left a question unanswered for longer than `patience`.
    pub(crate) fn ask_again(&mut self, patience: Duration) -> bool {
        self.asked_for_credit = false;
        self.unanswered_since.is_some_and(|since| since.elapsed() >= patience)
    }
}

/// A host program's socket may be one that blocks: a call never does. A peer that has gone is no reason for a signal.
pub(crate) const NEVER_WAIT: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Passes a payload to a service, which never has much to read.
fn serve(service: &mut Service, payload: Payload<'_>) -> Result<Option<GuestReport>, Broken> {
    let mut bytes = [0; crate::services::APPLICATION_END_LINE + 1];
    let wanted = payload.length.min(bytes.len());
    let target = bytes.get_mut(..wanted).unwrap_or_default();
    let count = payload
        .buffers
        .read(payload.memory, HEADER_BYTES, target)
        .map_err(|_| Broken("a payload outside memory"))?;
    service
        .consume(target.get(..count).unwrap_or_default())
        .map_err(|_| Broken("not what the service expects"))
}
