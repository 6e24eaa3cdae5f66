//! The header of every packet: VIRTIO 1.2 section 5.10.6 (`struct virtio_vsock_hdr`), little endian.

/// Length of the header.
pub const HEADER_BYTES: usize = 44;

/// The only type we serve (section 5.10.6.6).
pub const TYPE_STREAM: u16 = 1;

/// The sender of a shutdown will not receive any more (section 5.10.6.6.1).
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// The sender of a shutdown will not send any more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Both.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet asks for (section 5.10.6, `VIRTIO_VSOCK_OP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Opens a connection.
    Request = 1,
    /// Accepts it.
    Response = 2,
    /// Ends it at once, or refuses it.
    Reset = 3,
    /// Half-closes it.
    Shutdown = 4,
    /// Carries bytes.
    ReadWrite = 5,
    /// Tells the credit.
    CreditUpdate = 6,
    /// Asks for the peer's credit.
    CreditRequest = 7,
}

impl Operation {
    /// The operation with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::ReadWrite => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

/// A private copy of a packet's header. Nothing in it has been checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Who sends it.
    pub src_cid: u64,
    /// Who shall get it.
    pub dst_cid: u64,
    /// The sender's port.
    pub src_port: u32,
    /// The receiver's port.
    pub dst_port: u32,
    /// Bytes that follow the header.
    pub length: u32,
    /// [`TYPE_STREAM`], or something we do not serve.
    pub kind: u16,
    /// An [`Operation`], or something unknown.
    pub operation: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// The sender's buffer for this connection, in bytes.
    pub buf_alloc: u32,
    /// How many bytes the sender has taken out of that buffer, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: u64::from_le_bytes(fields.take()),
            dst_cid: u64::from_le_bytes(fields.take()),
            src_port: u32::from_le_bytes(fields.take()),
            dst_port: u32::from_le_bytes(fields.take()),
            length: u32::from_le_bytes(fields.take()),
            kind: u16::from_le_bytes(fields.take()),
            operation: u16::from_le_bytes(fields.take()),
            flags: u32::from_le_bytes(fields.take()),
            buf_alloc: u32::from_le_bytes(fields.take()),
            fwd_cnt: u32::from_le_bytes(fields.take()),
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = bytes.as_mut_slice();
        for field in [
            self.src_cid.to_le_bytes().as_slice(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.length.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.operation.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ] {
            let Some((target, tail)) = rest.split_at_mut_checked(field.len()) else { break };
            target.copy_from_slice(field);
            rest = tail;
        }
        bytes
    }

    /// The reset that answers this packet, for which there is no connection.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            kind: self.kind,
            operation: Operation::Reset.number(),
            ..Self::default()
        }
    }
}

/// Fields one after another.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets taken from the specification's structure, one distinct byte pattern a field.
    #[test]
    fn fields_are_where_the_specification_puts_them() {
        let mut bytes = [0; HEADER_BYTES];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(index).unwrap();
        }
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.src_cid, 0x0706_0504_0302_0100);
        assert_eq!(header.dst_cid, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(header.src_port, 0x1312_1110);
        assert_eq!(header.dst_port, 0x1716_1514);
        assert_eq!(header.length, 0x1b1a_1918);
        assert_eq!(header.kind, 0x1d1c);
        assert_eq!(header.operation, 0x1f1e);
        assert_eq!(header.flags, 0x2322_2120);
        assert_eq!(header.buf_alloc, 0x2726_2524);
        assert_eq!(header.fwd_cnt, 0x2b2a_2928);
        assert_eq!(header.to_bytes(), bytes);
    }

    #[test]
    fn operations_keep_their_numbers() {
        for number in 0..=u16::MAX {
            match Operation::from_number(number) {
                Some(operation) => assert_eq!(operation.number(), number),
                None => assert!(number == 0 || number > 7),
            }
        }
    }

    #[test]
    fn a_reset_goes_back_the_way_the_packet_came() {
        let header = Header {
            src_cid: 16,
            dst_cid: 2,
            src_port: 1000,
            dst_port: 80,
            length: 5,
            kind: 2,
            operation: 1,
            flags: 7,
            buf_alloc: 9,
            fwd_cnt: 8,
        };
        let expected = Header {
            src_cid: 2,
            dst_cid: 16,
            src_port: 80,
            dst_port: 1000,
            kind: 2,
            operation: 3,
            ..Header::default()
        };
        assert_eq!(header.reset(), expected);
    }
}
