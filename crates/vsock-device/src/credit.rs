//! Credit: how many bytes may be under way in each direction (VIRTIO 1.2 section 5.10.6.3). All counters run modulo
//! 2^32.
//!
//! Bytes are not all that a peer must be spared. Linux keeps every packet in a buffer of its own and, since 6.12.92
//! (CVE-2026-23086), resets a connection whose packets cost too much beside the bytes in them: 576 bytes each against
//! `buf_alloc`, in the first versions of that change together with the bytes. The protocol has no word for this. So
//! [`PeerCredit`] counts each packet that the peer may still hold, charges it [`PACKET_OVERHEAD`], and waits, while
//! the bytes gather in the host's socket, rather than send small packets to a peer that does not keep up.
//!
//! A peer that is waited for in this way has to say what it has consumed. Linux does so by itself only when its buffer
//! is empty (since 6.8) or at least 64 KiB of it have become free that it has not told of, so it has to be asked. Old
//! kernels (before 5.16) do not answer; they do not count packets either, and for them [`PeerCredit::trust`] ends the
//! counting.

use std::collections::VecDeque;

/// What a packet costs the peer beside its bytes: Linux's `SKB_TRUESIZE(0)`, which is 576 on 64-bit machines, and a
/// margin.
pub(crate) const PACKET_OVERHEAD: u32 = 640;

/// The most packets that we let the peer hold, whatever buffer it says it has. Bounds our own memory of them.
pub(crate) const MAX_PACKETS: usize = 256;

/// With packets under way, the least that is worth another one, unless it fills a receive buffer.
const WORTH_A_PACKET: u32 = 4096;

/// The peer has claimed to have consumed bytes that it was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditLie;

/// What we may send to the peer.
#[derive(Debug, Default)]
pub(crate) struct PeerCredit {
    buf_alloc: u32,
    sent: u32,
    consumed: u32,
    /// For each packet that may still be with the peer, `sent` as it was after it.
    packets: VecDeque<u32>,
    /// Whether packets are not counted.
    trusting: bool,
}

impl PeerCredit {
    /// Takes `buf_alloc` and `fwd_cnt` of a packet from the peer.
    ///
    /// # Errors
    /// The peer counts bytes that were not sent. Counts that merely lag behind are normal: a peer with many threads
    /// sends its packets in another order than it made them.
    pub(crate) fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) -> Result<(), CreditLie> {
        self.buf_alloc = buf_alloc;
        let advance = fwd_cnt.wrapping_sub(self.consumed);
        if advance > self.in_flight() {
            let lags = self.consumed.wrapping_sub(fwd_cnt) <= i32::MAX.unsigned_abs();
            return if lags { Ok(()) } else { Err(CreditLie) };
        }
        self.consumed = fwd_cnt;
        let left = self.in_flight();
        while self.packets.front().is_some_and(|tail| self.sent.wrapping_sub(*tail) >= left) {
            self.packets.pop_front();
        }
        Ok(())
    }

    /// The peer's buffer, in bytes, as it said last.
    pub(crate) fn buf_alloc(&self) -> u32 {
        self.buf_alloc
    }

    /// From now on, only bytes count (`trusting`), or packets as well.
    pub(crate) fn trust(&mut self, trusting: bool) {
        self.trusting = trusting;
        if trusting {
            self.packets.clear();
        }
    }

    /// Whether so much is under way that it is time to ask the peer what it has consumed.
    pub(crate) fn half_used(&self) -> bool {
        let packets = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
        let cost = self.in_flight().saturating_add(packets.saturating_mul(PACKET_OVERHEAD));
        cost > self.buf_alloc / 2 || self.packets.len() >= MAX_PACKETS / 2
    }

    /// Bytes that the peer has not consumed, as far as we know.
    pub(crate) fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.consumed)
    }

    /// How many bytes the next packet may carry, if the receive buffer has room for `capacity` and `planned_packets`
    /// with `planned_bytes` go before it. Zero: wait until the peer has consumed something.
    pub(crate) fn next_packet(&self, capacity: u32, planned_bytes: u32, planned_packets: usize) -> u32 {
        let under_way = self.in_flight().saturating_add(planned_bytes);
        let free = self.buf_alloc.saturating_sub(under_way);
        let packets = self.packets.len() + planned_packets;
        if under_way == 0 {
            // A peer with next to no room gets what there is: waiting would not make it more.
            let overhead = if free > 4 * PACKET_OVERHEAD { PACKET_OVERHEAD } else { 0 };
            return capacity.min(free - overhead);
        }
        if packets >= MAX_PACKETS && !self.trusting {
            return 0;
        }
        let overhead = match u32::try_from(packets + 1) {
            _ if self.trusting => 0,
            Ok(packets) => packets.saturating_mul(PACKET_OVERHEAD),
            Err(_) => u32::MAX,
        };
        let spare = free.saturating_sub(overhead);
        let least = capacity.min(WORTH_A_PACKET).min(self.buf_alloc / 4);
        if spare < least { 0 } else { capacity.min(spare) }
    }

    /// A packet with `bytes` has been sent; `bytes` is at most what [`Self::next_packet`] allowed.
    pub(crate) fn sent(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
        if !self.trusting {
            self.packets.push_back(self.sent);
        }
    }
}

/// The peer has sent more than it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditExceeded;

/// What the peer may send to us.
#[derive(Debug)]
pub(crate) struct OwnCredit {
    buf_alloc: u32,
    received: u32,
    forwarded: u32,
    reported: u32,
}

impl OwnCredit {
    pub(crate) fn new(buf_alloc: u32) -> Self {
        Self { buf_alloc, received: 0, forwarded: 0, reported: 0 }
    }

    /// Our buffer for the connection.
    pub(crate) fn buf_alloc(&self) -> u32 {
        self.buf_alloc
    }

    /// The peer has sent `bytes`.
    ///
    /// # Errors
    /// They are more than the buffer has room for.
    pub(crate) fn receive(&mut self, bytes: u32) -> Result<(), CreditExceeded> {
        let buffered = self.received.wrapping_sub(self.forwarded);
        if bytes > self.buf_alloc.saturating_sub(buffered) {
            return Err(CreditExceeded);
        }
        self.received = self.received.wrapping_add(bytes);
        Ok(())
    }

    /// `bytes` have left the buffer.
    pub(crate) fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the peer should be told what has left, even if there is nothing else to send: half of the buffer is
    /// free that it does not know of. Less needs no word: then the peer knows of the other half. `peer_buf_alloc` is
    /// the peer's own buffer: recent Linux sends no more than that at a time, however large ours is.
    pub(crate) fn worth_reporting(&self, peer_buf_alloc: u32) -> bool {
        let used = self.buf_alloc.min(peer_buf_alloc);
        self.forwarded.wrapping_sub(self.reported) >= (used / 2).max(1)
    }

    /// The count for a header that is about to be sent.
    pub(crate) fn report(&mut self) -> u32 {
        self.reported = self.forwarded;
        self.forwarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(buf_alloc: u32, start: u32) -> PeerCredit {
        PeerCredit { buf_alloc, sent: start, consumed: start, packets: VecDeque::new(), trusting: false }
    }

    #[test]
    fn the_first_packet_may_use_all_credit_and_none_more() {
        let mut credit = peer(100, 0);
        assert_eq!(credit.next_packet(4096, 0, 0), 100);
        assert_eq!(credit.next_packet(60, 0, 0), 60);
        credit.sent(100);
        assert_eq!(credit.next_packet(4096, 0, 0), 0);
        credit.update(100, 100).unwrap();
        assert_eq!(credit.next_packet(4096, 0, 0), 100);
        credit.update(0, 100).unwrap();
        assert_eq!(credit.next_packet(4096, 0, 0), 0);
    }

    #[test]
    fn counters_wrap() {
        let mut credit = peer(1 << 16, u32::MAX - 10);
        credit.sent(100);
        assert_eq!(credit.in_flight(), 100);
        credit.update(1 << 16, 50).unwrap();
        assert_eq!(credit.in_flight(), 39);
        assert_eq!(credit.packets.len(), 1);
        credit.update(1 << 16, 89).unwrap();
        assert_eq!((credit.in_flight(), credit.packets.len()), (0, 0));

        let mut own =
            OwnCredit { buf_alloc: 100, received: u32::MAX, forwarded: u32::MAX, reported: u32::MAX };
        own.receive(100).unwrap();
        assert_eq!(own.receive(1), Err(CreditExceeded));
        own.forward(100);
        assert!(own.worth_reporting(u32::MAX));
        assert_eq!(own.report(), 99);
        own.receive(100).unwrap();
    }

    #[test]
    fn consuming_what_was_not_sent_is_a_lie_and_lagging_is_not() {
        let mut credit = peer(1000, 0);
        credit.sent(10);
        assert_eq!(credit.update(1000, 11), Err(CreditLie));
        credit.update(1000, 10).unwrap();
        credit.update(1000, 5).unwrap();
        assert_eq!(credit.in_flight(), 0);
        assert_eq!(credit.update(1000, 11), Err(CreditLie));
    }

    /// What Linux 6.12.92 and later allow: 576 bytes a packet, in the strictest version beside the bytes.
    #[test]
    fn many_small_packets_never_cost_the_peer_more_than_its_buffer() {
        for size in [1, 64, 500, 3776, 65536, 1 << 20] {
            let mut credit = peer(256 * 1024, 0);
            let (mut packets, mut bytes) = (0u32, 0u32);
            loop {
                let allowed = credit.next_packet(size, 0, 0);
                if allowed == 0 {
                    break;
                }
                credit.sent(allowed);
                packets += 1;
                bytes += allowed;
                assert!(packets * 576 + bytes <= 256 * 1024, "{packets} packets with {bytes} bytes");
            }
            // Nor does the rule waste the peer's room.
            assert!(packets == 256 || packets * 640 + bytes > 250 * 1024, "{packets} packets, {bytes} bytes");
        }
    }

    #[test]
    fn a_peer_with_little_room_gets_no_crumbs() {
        let mut credit = peer(64 * 1024, 0);
        credit.sent(60 * 1024);
        assert_eq!(credit.next_packet(3776, 0, 0), 0);
        credit.update(64 * 1024, 8 * 1024).unwrap();
        assert_eq!(credit.next_packet(3776, 0, 0), 3776);
        assert_eq!(credit.next_packet(3776, 3776 * 2, 2), 0);
    }

    #[test]
    fn a_peer_that_is_trusted_is_limited_by_bytes_alone() {
        let mut credit = peer(256 * 1024, 0);
        while credit.next_packet(10, 0, 0) > 0 {
            credit.sent(10);
        }
        assert!(credit.in_flight() < 3000 && credit.half_used());
        credit.trust(true);
        for _ in 0..1000 {
            assert_eq!(credit.next_packet(10, 0, 0), 10);
            credit.sent(10);
        }
        assert!(credit.packets.is_empty());
        credit.trust(false);
        credit.sent(credit.next_packet(10, 0, 0));
        assert_eq!(credit.packets.len(), 1);
    }

    #[test]
    fn half_the_buffer_unreported_is_worth_a_packet() {
        let mut own = OwnCredit::new(1000);
        own.receive(1000).unwrap();
        own.forward(499);
        assert!(!own.worth_reporting(1 << 20));
        own.forward(1);
        assert!(own.worth_reporting(1 << 20));
        assert_eq!(own.report(), 500);
        assert!(!own.worth_reporting(1 << 20));
    }

    #[test]
    fn a_peer_with_a_small_buffer_of_its_own_is_told_sooner() {
        let mut own = OwnCredit::new(256 * 1024);
        own.receive(64).unwrap();
        own.forward(64);
        assert!(own.worth_reporting(128));
        assert!(!own.worth_reporting(130));
        own.report();
        assert!(!own.worth_reporting(0));
    }
}
