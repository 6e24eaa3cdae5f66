//! Packets to the guest: each connection in turn gets a bounded share of the guest's receive buffers.

use virtio::{DeviceError, GuestIoError};

use crate::connection::{Connection, HostSide};
use crate::host::HostEnd;
use crate::muxer::Muxer;
use crate::packet::Operation;
use crate::rx::{RxBuffers, guest_memory};
use crate::slab::Token;

/// How many turns connections get in one call, so that a call takes a bounded time. A turn is at most one read of
/// [`crate::rx::BURST_PACKETS`] packets.
const TURNS: usize = 64;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The connection had its share, or has nothing more.
    Done,
    /// There are no more buffers: the connection stays first in line.
    Starved,
}

/// What came out of reading at the host's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    /// Some were sent, or there are none now.
    Moved,
    Failed,
}

/// Serves connections until nobody waits, there are no buffers, or everybody had enough for one call. True if there is
/// more to do at once.
pub(crate) fn deliver<H: HostEnd>(muxer: &mut Muxer<H>, rx: &mut RxBuffers) -> Result<bool, DeviceError> {
    rx.queue().disable_notification()?;
    let mut turns = TURNS;
    loop {
        let starved = send_resets(muxer, rx, &mut turns)? || serve_line(muxer, rx, &mut turns)?;
        if !starved {
            return Ok(!muxer.line.is_empty() || !muxer.resets.is_empty());
        }
        if !rx.queue().enable_notification()? {
            return Ok(false);
        }
    }
}

/// True if there were not enough buffers.
fn send_resets<H: HostEnd>(
    muxer: &mut Muxer<H>,
    rx: &mut RxBuffers,
    turns: &mut usize,
) -> Result<bool, DeviceError> {
    // Half of the turns at most: a guest that makes resets due all the time does not silence its connections.
    while *turns > TURNS / 2 {
        let Some(reset) = muxer.resets.front() else { break };
        if !rx.send(reset)? {
            return Ok(true);
        }
        muxer.resets.pop_front();
        *turns -= 1;
    }
    Ok(false)
}

/// True if there were not enough buffers.
fn serve_line<H: HostEnd>(
    muxer: &mut Muxer<H>,
    rx: &mut RxBuffers,
    turns: &mut usize,
) -> Result<bool, DeviceError> {
    while *turns > 0 {
        let Some(token) = muxer.line.front().copied() else { break };
        if serve(muxer, rx, token)? == Turn::Starved {
            return Ok(true);
        }
        muxer.line.pop_front();
        if let Some(connection) = muxer.connection(token) {
            connection.in_line = false;
            muxer.stand_in_line(token);
        }
        *turns -= 1;
    }
    Ok(false)
}

/// Gives one connection its turn.
fn serve<H: HostEnd>(muxer: &mut Muxer<H>, rx: &mut RxBuffers, token: Token) -> Result<Turn, DeviceError> {
    if !rx.available()? {
        return Ok(Turn::Starved);
    }
    let Some(connection) = muxer.connection(token) else { return Ok(Turn::Done) };
    let bytes = connection.has_bytes() && connection.has_credit();
    if let Some(header) = connection.next_control(bytes) {
        let closing = connection.awaits_close();
        rx.send(&header)?;
        if header.operation == Operation::Reset.number() {
            muxer.reset_sent(token);
        } else if header.operation == Operation::Shutdown.number() && closing {
            muxer.await_close(token);
        }
        return Ok(Turn::Done);
    }
    if !bytes {
        return Ok(Turn::Done);
    }
    match send_bytes(connection, rx)? {
        Bytes::Moved => Ok(Turn::Done),
        Bytes::Failed => {
            muxer.stream_failed(token);
            Ok(Turn::Done)
        }
    }
}

/// Moves bytes from the host's end straight into the guest's buffers, as many as credit and buffers allow.
fn send_bytes(connection: &mut Connection, rx: &mut RxBuffers) -> Result<Bytes, DeviceError> {
    let peer = &connection.peer;
    let reply = match &connection.host {
        HostSide::Service(service) => u32::try_from(service.reply().len()).unwrap_or(0),
        _ => u32::MAX,
    };
    let plan = rx.plan(|room, plan| {
        peer.next_packet(room, plan.bytes, plan.packets).min(reply.saturating_sub(plan.bytes))
    })?;
    if plan.packets == 0 {
        // There was a buffer, but one without room for bytes.
        return Err(DeviceError::Protocol("a receive buffer has no room for bytes"));
    }
    let count = match &mut connection.host {
        HostSide::Pending => return Ok(Bytes::Moved),
        HostSide::Service(service) => {
            let count = rx.write(service.reply()).map_err(guest_memory)?;
            service.replied(count);
            count
        }
        HostSide::Stream(_) => match connection.stream().map(|stream| rx.read(&plan, stream)) {
            Some(Ok(count)) if count > 0 => count,
            Some(Err(error)) if error.would_block() => {
                connection.readable = false;
                return Ok(Bytes::Moved);
            }
            Some(Err(GuestIoError::Memory(error))) => return Err(guest_memory(error.into())),
            Some(Err(GuestIoError::Socket(_))) => return Ok(Bytes::Failed),
            Some(Ok(_)) | None => {
                connection.host_has_ended();
                return Ok(Bytes::Moved);
            }
        },
    };
    let bytes = u32::try_from(count).unwrap_or(u32::MAX).min(plan.bytes);
    rx.finish(&plan, bytes, |length| {
        let header = connection.header(Operation::ReadWrite, length, 0);
        connection.peer.sent(length);
        header
    })?;
    if connection.peer.half_used() {
        connection.ask_soon();
    }
    Ok(Bytes::Moved)
}
