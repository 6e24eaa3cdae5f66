//! The fixed header at the start of an image and the small header before each section's data.
//!
//! All integers are big-endian. Specification: the README of AWS's `aws-nitro-enclaves-image-format`.

use core::fmt;

use thiserror::Error;

/// Bytes of the image header.
pub const HEADER_LEN: usize = 548;

/// Bytes of the image header that the checksum covers: all but the checksum itself, which is last.
pub const CHECKED_HEADER_LEN: usize = 544;

/// Bytes of the header before each section's data.
pub const SECTION_HEADER_LEN: usize = 12;

/// Entries of the section table.
pub const MAX_SECTIONS: usize = 32;

/// The first four bytes of an image.
pub const MAGIC: [u8; 4] = *b".eif";

/// The format version that is written today; the first that makes metadata mandatory.
pub const CURRENT_VERSION: u16 = 4;

/// The first version that was ever released. AWS's stack refuses 0 and 1.
pub const OLDEST_VERSION: u16 = 2;

/// The first version that has signature sections.
pub const OLDEST_SIGNED_VERSION: u16 = 3;

/// The header's flag word.
///
/// Only bit 0 is specified. The others are kept when an image is rewritten, and an image that has one is not booted.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// Bit 0: the kernel is for aarch64; x86_64 if it is clear.
    pub const AARCH64: Self = Self(1);

    /// Takes the word as it stands in the file.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The word as it stands in the file.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// True if the image says that it is for aarch64.
    #[must_use]
    pub const fn is_aarch64(self) -> bool {
        self.0 & Self::AARCH64.0 != 0
    }

    /// The bits whose meaning no public specification gives.
    #[must_use]
    pub const fn unknown(self) -> Self {
        Self(self.0 & !Self::AARCH64.0)
    }

    /// True if no bit is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Names the bits: `0x0240 (bits 6, 9)`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: Vec<String> =
            (0..u16::BITS).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        match bits.as_slice() {
            [] => write!(f, "0x0000"),
            [bit] => write!(f, "{:#06x} (bit {bit})", self.0),
            _ => write!(f, "{:#06x} (bits {})", self.0, bits.join(", ")),
        }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

/// The image header, with everything in it that has no meaning today as well, so that a rewritten image keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u16,
    /// Architecture and bits unknown to us.
    pub flags: Flags,
    /// Suggested memory in bytes; nothing uses it.
    pub default_mem: u64,
    /// Suggested number of CPUs; nothing uses it.
    pub default_cpus: u64,
    /// Reserved, 0 in every image seen.
    pub reserved: u16,
    /// How many entries of the two tables count.
    pub section_count: u16,
    /// Where each section's header begins in the file.
    pub section_offsets: [u64; MAX_SECTIONS],
    /// Bytes of each section's data, without its header.
    pub section_sizes: [u64; MAX_SECTIONS],
    /// Reserved, 0 in every image seen.
    pub unused: u32,
    /// CRC-32 of everything else in the file.
    pub crc32: u32,
}

impl Default for Header {
    /// What AWS's builder writes for x86_64, with no sections yet.
    fn default() -> Self {
        Self {
            version: CURRENT_VERSION,
            flags: Flags::default(),
            default_mem: 1 << 30,
            default_cpus: 2,
            reserved: 0,
            section_count: 0,
            section_offsets: [0; MAX_SECTIONS],
            section_sizes: [0; MAX_SECTIONS],
            unused: 0,
            crc32: 0,
        }
    }
}

/// Why 548 bytes are not the header of an image that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The first four bytes are others.
    #[error("this is not an enclave image: it begins with {0:02x?} instead of \".eif\"")]
    Magic([u8; 4]),
    /// A version that was never released or is not defined yet.
    #[error(
        "image format version {0} is not supported (versions {OLDEST_VERSION} to {CURRENT_VERSION} are); \
         rebuild the image"
    )]
    Version(u16),
    /// More sections than the table has entries.
    #[error("the header announces {0} sections; the format allows at most {MAX_SECTIONS}")]
    TooManySections(u16),
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If the magic, the version or the number of sections is not one that can be read.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let mut fields = Fields(bytes);
        let magic = fields.take();
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let header = Self {
            version: fields.u16(),
            flags: Flags::from_bits(fields.u16()),
            default_mem: fields.u64(),
            default_cpus: fields.u64(),
            reserved: fields.u16(),
            section_count: fields.u16(),
            section_offsets: core::array::from_fn(|_| fields.u64()),
            section_sizes: core::array::from_fn(|_| fields.u64()),
            unused: fields.u32(),
            crc32: fields.u32(),
        };
        if !(OLDEST_VERSION..=CURRENT_VERSION).contains(&header.version) {
            return Err(HeaderError::Version(header.version));
        }
        if usize::from(header.section_count) > MAX_SECTIONS {
            return Err(HeaderError::TooManySections(header.section_count));
        }
        Ok(header)
    }

    /// The header as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut rest = bytes.as_mut_slice();
        let mut put = |field: &[u8]| {
            if let Some((place, after)) = core::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                place.copy_from_slice(field);
                rest = after;
            }
        };
        put(&MAGIC);
        put(&self.version.to_be_bytes());
        put(&self.flags.bits().to_be_bytes());
        put(&self.default_mem.to_be_bytes());
        put(&self.default_cpus.to_be_bytes());
        put(&self.reserved.to_be_bytes());
        put(&self.section_count.to_be_bytes());
        self.section_offsets.iter().for_each(|offset| put(&offset.to_be_bytes()));
        self.section_sizes.iter().for_each(|size| put(&size.to_be_bytes()));
        put(&self.unused.to_be_bytes());
        put(&self.crc32.to_be_bytes());
        bytes
    }
}

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// A bzImage (x86_64) or an uncompressed Image (aarch64).
    Kernel,
    /// The kernel's command line, without a terminator.
    Cmdline,
    /// A cpio archive, plain or compressed.
    Ramdisk,
    /// Signatures over PCRs, with the certificate to check them.
    Signature,
    /// JSON about the image; not measured.
    Metadata,
}

impl SectionKind {
    /// The number that stands for it in a section header.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Kernel => 1,
            Self::Cmdline => 2,
            Self::Ramdisk => 3,
            Self::Signature => 4,
            Self::Metadata => 5,
        }
    }

    /// The kind that a number stands for, if any.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Kernel),
            2 => Some(Self::Cmdline),
            3 => Some(Self::Ramdisk),
            4 => Some(Self::Signature),
            5 => Some(Self::Metadata),
            _ => None,
        }
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Cmdline => "command line",
            Self::Ramdisk => "ramdisk",
            Self::Signature => "signature",
            Self::Metadata => "metadata",
        })
    }
}

/// The 12 bytes before each section's data, as they stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHeader {
    /// See [`SectionKind::from_code`].
    pub code: u16,
    /// Reserved, 0 in every image seen.
    pub flags: u16,
    /// Bytes of data that follow.
    pub size: u64,
}

impl SectionHeader {
    /// Reads a section header. What the fields say is for the caller to check.
    #[must_use]
    pub fn decode(bytes: &[u8; SECTION_HEADER_LEN]) -> Self {
        let mut fields = Fields(bytes);
        Self { code: fields.u16(), flags: fields.u16(), size: fields.u64() }
    }

    /// The section header as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; SECTION_HEADER_LEN] {
        let [c0, c1] = self.code.to_be_bytes();
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.size.to_be_bytes();
        [c0, c1, f0, f1, s0, s1, s2, s3, s4, s5, s6, s7]
    }
}

/// Big-endian fields taken one by one from bytes whose number the type fixes; past the end they are 0.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_a_round_trip_at_its_place() {
        let header = Header {
            version: 3,
            flags: Flags::from_bits(0x0341),
            default_mem: 0x0102_0304_0506_0708,
            default_cpus: 0x1112_1314_1516_1718,
            reserved: 0x2122,
            section_count: 32,
            section_offsets: core::array::from_fn(|i| 0x3000 + u64::try_from(i).unwrap()),
            section_sizes: core::array::from_fn(|i| 0x4000 + u64::try_from(i).unwrap()),
            unused: 0x5152_5354,
            crc32: 0x6162_6364,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).as_ref(), Ok(&header));
        assert_eq!(bytes[0x000..0x008], *b".eif\x00\x03\x03\x41");
        assert_eq!(bytes[0x018..0x01c], [0x21, 0x22, 0, 32]);
        assert_eq!(
            bytes[0x11c + 8 * 31..0x21c + 8],
            [0, 0, 0, 0, 0, 0, 0x40, 31, 0x51, 0x52, 0x53, 0x54, 0x61, 0x62, 0x63, 0x64]
        );
    }

    #[test]
    fn what_is_not_a_readable_header_is_refused_by_name() {
        let header = Header::default();
        let with = |change: fn(&mut Header)| {
            let mut changed = header.clone();
            change(&mut changed);
            Header::decode(&changed.encode()).unwrap_err()
        };
        assert_eq!(with(|h| h.version = 1), HeaderError::Version(1));
        assert_eq!(with(|h| h.version = 5), HeaderError::Version(5));
        assert_eq!(with(|h| h.section_count = 33), HeaderError::TooManySections(33));
        let mut bytes = header.encode();
        bytes[0] = b'E';
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Magic(*b"Eeif")));
    }

    #[test]
    fn flags_name_their_bits() {
        assert_eq!(Flags::from_bits(0x0241).unknown().to_string(), "0x0240 (bits 6, 9)");
        assert_eq!(Flags::from_bits(0x0100).to_string(), "0x0100 (bit 8)");
        assert!(Flags::AARCH64.unknown().is_empty() && Flags::AARCH64.is_aarch64());
    }
}
