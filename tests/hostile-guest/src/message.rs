//! vsock packets and NSM requests that are nearly right.

use crate::random::Random;

/// Bytes of a packet's header.
const HEADER: u32 = 44;

/// Operations: what opens and uses connections above all, so that they live for a while.
const OPERATIONS: [u64; 12] = [1, 1, 1, 1, 6, 7, 2, 3, 4, 0, 8, 0xFFFF];
const DATA: u64 = 5;

/// Whom the guest's ports speak to: the host's services, host programs, and ports from which the host itself connects.
const PEERS: [(u64, u64); 8] =
    [(3, 9000), (2, 9001), (2, 5000), (3, 5001), (3, 1 << 30), (2, 5002), (3, (1 << 30) + 1), (2, 5003)];

/// A packet that asks for one more connection.
pub(crate) fn vsock_request(random: &mut Random, guest_cid: u64) -> (Vec<u8>, u32) {
    let (peer, peer_port) = random.one_of(&PEERS);
    let ends = [(guest_cid, peer), (random.below(1 << 16), peer_port)];
    (packet(ends, (0, 1, 1), (0, 65536, 0)), HEADER)
}

/// A packet (VIRTIO 1.2 section 5.10.6): its beginning, and how many bytes it is to have in all.
pub(crate) fn vsock(random: &mut Random, guest_cid: u64) -> (Vec<u8>, u32) {
    // Few ports, each with its own peer, so that packets meet connections.
    let port = random.below(24);
    let (mut peer, mut peer_port) = random.one_of(&PEERS);
    if let Some(usual) = usize::try_from(port).ok().and_then(|port| PEERS.get(port % PEERS.len()))
        && !random.once_in(8)
    {
        (peer, peer_port) = *usual;
    }
    if random.once_in(40) {
        peer = random.one_of(&[0, 1, 4, guest_cid, u64::MAX]);
    }
    let source = if random.once_in(80) { random.bits() } else { guest_cid };
    let operation = if random.once_in(3) { random.one_of(&OPERATIONS) } else { DATA };
    let kind = if random.once_in(80) { random.below(4) } else { 1 };
    let said: &[u8] = match peer_port {
        9000 => &[0xB7],
        9001 if random.once_in(4) => b"failed \x1b[2J\n",
        9001 => b"exited 0\n",
        _ => random.one_of(&[b"x", b"four", b"and so on"]),
    };
    let mut length = u64::try_from(said.len()).unwrap_or(0);
    if operation != DATA {
        length = 0;
    } else if peer_port < 9000 {
        length = random.one_of(&[1, 1024, 4096, 65000, 65000]);
    }
    let mut bytes = HEADER.saturating_add(u32::try_from(length).unwrap_or(0));
    if random.once_in(50) {
        length = random.one_of(&[0, 1, 4096, 65536, 1 << 31, u64::from(u32::MAX)]);
    }
    if random.once_in(50) {
        bytes = random.one_of(&[0, 43, 44, 45, 4140]);
    }
    let credit = random.one_of(&[262_144, 65536, u64::from(u32::MAX), 1, 0]);
    let forwarded = if random.once_in(50) { random.bits() } else { 0 };
    let flags = random.below(4);
    let ends = [(source, peer), (port.saturating_add(1024), peer_port)];
    let mut packet = packet(ends, (length, kind, operation), (flags, credit, forwarded));
    packet.extend_from_slice(said);
    (packet, bytes)
}

/// A header: CIDs and ports, each from and to; length, type and operation; flags and credit.
fn packet(
    ends: [(u64, u64); 2],
    (length, kind, operation): (u64, u64, u64),
    rest: (u64, u64, u64),
) -> Vec<u8> {
    let [cids, ports] = ends;
    let mut packet = Vec::with_capacity(64);
    packet.extend_from_slice(&cids.0.to_le_bytes());
    packet.extend_from_slice(&cids.1.to_le_bytes());
    for word in [ports.0, ports.1, length] {
        packet.extend_from_slice(&low_word(word));
    }
    packet.extend_from_slice(&low_half(kind));
    packet.extend_from_slice(&low_half(operation));
    for word in [rest.0, rest.1, rest.2] {
        packet.extend_from_slice(&low_word(word));
    }
    packet
}

/// A request in CBOR, whole or damaged.
pub(crate) fn nsm(random: &mut Random) -> Vec<u8> {
    let known: &[u8] = random.one_of(&[
        b"\x69GetRandom",
        b"\x6BDescribeNSM",
        b"\xA1\x6BDescribePCR\xA1\x65index\x00",
        b"\xA1\x69ExtendPCR\xA2\x65index\x10\x64data\x41\x00",
        b"\xA1\x67LockPCR\xA1\x65index\x10",
        b"\xA1\x68LockPCRs\xA1\x65range\x18\x20",
        b"\xA1\x6BAttestation\xA3\x69user_data\xF6\x65nonce\x41\x00\x6Apublic_key\xF6",
        b"",
        b"\x9F\x9F\x9F\x9F\x9F\x9F\x9F\x9F\x9F",
        b"\x5B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    ]);
    let mut request = known.to_vec();
    if random.once_in(3) {
        let index = usize::try_from(random.below(64)).unwrap_or(0);
        if let Some(byte) = request.get_mut(index) {
            *byte = random.bits().to_le_bytes()[0];
        }
    }
    request
}

fn low_word(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

fn low_half(value: u64) -> [u8; 2] {
    let [a, b, ..] = value.to_le_bytes();
    [a, b]
}
