//! What a guest can do to the world outside: accesses of a few bytes.

/// How many bytes an access has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Width {
    /// 1.
    Byte,
    /// 2.
    Word,
    /// 4, which is what registers of devices want.
    #[default]
    Double,
    /// 8.
    Quad,
}

/// One access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Writes the low bytes of `value` to a guest physical address: a register, or the driver's own memory.
    Store {
        /// Guest physical.
        address: u64,
        /// Bytes written.
        width: Width,
        /// The value.
        value: u64,
    },
    /// Reads from a guest physical address.
    Load {
        /// Guest physical.
        address: u64,
        /// Bytes read.
        width: Width,
    },
    /// Writes to an I/O port (a quad counts as a double).
    Out {
        /// The port.
        port: u16,
        /// Bytes written.
        width: Width,
        /// The value.
        value: u32,
    },
    /// Writes one byte after the other from memory to an I/O port, in one instruction.
    OutString {
        /// The port.
        port: u16,
        /// Guest physical.
        address: u64,
        /// How many.
        count: u16,
    },
    /// Reads from an I/O port (a quad counts as a double).
    In {
        /// The port.
        port: u16,
        /// Bytes read.
        width: Width,
    },
    /// Copies bytes from one guest physical address to another in one instruction.
    Copy {
        /// Guest physical.
        from: u64,
        /// Guest physical.
        to: u64,
        /// How many.
        count: u16,
    },
}
