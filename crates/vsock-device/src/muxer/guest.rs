//! What packets from the guest do.

use super::Muxer;
use crate::connection::{Broken, Connection, HostSide, Key, NEVER_WAIT, Payload, Phase};
use crate::host::{ConnectRequest, HostEnd};
use crate::packet::{Header, Operation, TYPE_STREAM};
use crate::poll::Source;
use crate::services::{CID_HOST, CID_PARENT, GuestReport, Service};
use crate::slab::Token;

impl<H: HostEnd> Muxer<H> {
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

    pub(super) fn accept(&mut self, token: Token) {
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
        let sent = connection.stream().map(|stream| rustix::net::send(stream, answer.as_bytes(), NEVER_WAIT));
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
