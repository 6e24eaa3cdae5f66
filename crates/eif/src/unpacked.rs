//! How many bytes a ramdisk unpacks to, told from its first and last bytes alone.
//!
//! Formats: zstd (RFC 8878, 3.1.1), gzip (RFC 1952, 2.3). A ramdisk of several pieces, or compressed otherwise, tells nothing: then
//! it counts as it is stored, and is marked as perhaps larger. The figure decides how much memory is asked for, never what is read.

/// Bytes at the start of a ramdisk that tell all there is to tell.
pub const START_LEN: usize = 18;

/// Bytes at its end.
pub const END_LEN: usize = 4;

/// What gzip files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What zstd frames begin with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What uncompressed archives begin with: newc without and with checksums.
const NEWC: [&[u8]; 2] = [b"070701", b"070702"];

/// The size of a ramdisk once it is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes.
    pub bytes: u64,
    /// Whether it is perhaps more.
    pub at_least: bool,
}

impl Unpacked {
    /// Of a ramdisk of `length` bytes with this start (of [`START_LEN`] bytes, or all of a shorter one) and this end (of [`END_LEN`]).
    #[must_use]
    pub fn of(start: &[u8], end: &[u8], length: u64) -> Self {
        let plain = NEWC.iter().any(|magic| start.starts_with(magic)) || length == 0;
        let told = if plain {
            Some(length)
        } else if let Some(frame) = start.strip_prefix(&ZSTD) {
            frame_content_size(frame)
        } else if start.starts_with(&GZIP) {
            end.first_chunk().map(|size| gzip_size(u32::from_le_bytes(*size), length))
        } else {
            None
        };
        match told {
            Some(bytes) => Self { bytes, at_least: false },
            None => Self { bytes: length, at_least: true },
        }
    }

    /// Of a whole ramdisk.
    #[must_use]
    pub fn of_bytes(ramdisk: &[u8]) -> Self {
        let start = ramdisk.get(..START_LEN).unwrap_or(ramdisk);
        let end = ramdisk.last_chunk::<END_LEN>().map_or(ramdisk, |end| end);
        Self::of(start, end, ramdisk.len() as u64)
    }

    /// The sum with another.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), at_least: self.at_least || other.at_least }
    }
}

/// The content's size in a frame's header, behind the magic number.
fn frame_content_size(frame: &[u8]) -> Option<u64> {
    let (descriptor, rest) = frame.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    let window = usize::from(!single_segment);
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let field = rest.get(window.checked_add(dictionary)?..)?;
    match descriptor >> 6 {
        0 if single_segment => field.first().map(|byte| u64::from(*byte)),
        0 => None,
        1 => field.first_chunk().map(|bytes| u64::from(u16::from_le_bytes(*bytes)).saturating_add(256)),
        2 => field.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
        _ => field.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
    }
}

/// gzip notes the size without what is above 32 bits; content hardly ever grows by compression.
fn gzip_size(noted: u32, length: u64) -> u64 {
    let above = length >> 32;
    let size = (above << 32) | u64::from(noted);
    // A little less than its own compressed form is possible, 4 GiB less is not.
    if size.saturating_add(1 << 31) < length { size.saturating_add(1 << 32) } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exactly(bytes: u64) -> Unpacked {
        Unpacked { bytes, at_least: false }
    }

    #[test]
    fn an_uncompressed_archive_has_its_own_size() {
        assert_eq!(Unpacked::of_bytes(&[&b"070701"[..], &[b'0'; 200]].concat()), exactly(206));
        assert_eq!(Unpacked::of_bytes(b""), exactly(0));
    }

    #[test]
    fn every_form_of_a_zstd_header_tells_its_size() {
        // Descriptor, window if there is one, dictionary, size: RFC 8878, 3.1.1.1.
        for (header, size) in [
            (&[0x20, 200][..], 200),
            (&[0x40, 0x58, 0x01, 0x02], 256 + 0x201),
            (&[0x60, 0x01, 0x02], 256 + 0x201),
            (&[0xa0, 1, 2, 3, 4], 0x0403_0201),
            (&[0xa3, 9, 9, 9, 9, 1, 2, 3, 4], 0x0403_0201),
            (&[0x82, 0x58, 9, 9, 1, 0, 0, 0], 1),
            (&[0xe0, 0, 0, 0, 0, 0, 1, 0, 0], 1 << 40),
        ] {
            assert_eq!(Unpacked::of_bytes(&[&ZSTD[..], header].concat()), exactly(size), "{header:x?}");
        }
    }

    #[test]
    fn gzip_tells_its_size_at_its_end() {
        let stored =
            [&GZIP[..], &[8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 1, 2, 3, 4], &700_000_u32.to_le_bytes()].concat();
        assert_eq!(Unpacked::of_bytes(&stored), exactly(700_000));
    }

    #[test]
    fn gzip_of_more_than_4_gib_is_not_taken_for_less() {
        assert_eq!(gzip_size(5, 1000), 5);
        assert_eq!(gzip_size(5, (4 << 30) - 1), (4 << 30) + 5);
        assert_eq!(gzip_size(5, (4 << 30) + 9), (4 << 30) + 5);
    }

    #[test]
    fn what_tells_nothing_is_perhaps_more_than_it_is_stored_as() {
        for stored in [&b"BZh91AY&SY"[..], b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58], &ZSTD, b"x"]
        {
            let expected = Unpacked { bytes: stored.len() as u64, at_least: true };
            assert_eq!(Unpacked::of_bytes(stored), expected, "{stored:x?}");
        }
    }
}
