//! Writing CBOR whose every byte is decided here.
//!
//! NSM messages and attestation documents are compared byte for byte with AWS's, so key order, definite
//! lengths and the width of each integer must not depend on a serialiser's taste. Specification: RFC 8949;
//! reading is done with ciborium, which accepts every legal encoding.

/// How deep arrays and maps may nest in what is read. Documents and NSM messages nest three deep.
pub const MAX_DEPTH: usize = 8;

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
/// Additional information that announces an argument of eight bytes.
const EIGHT_BYTES: u8 = 27;

/// Collects CBOR items in the order in which they are written.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The bytes written so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Begins a definite array; `length` items must follow.
    pub fn array(&mut self, length: usize) -> &mut Self {
        self.length(ARRAY, length)
    }

    /// Begins a definite map; `length` pairs of key and value must follow.
    pub fn map(&mut self, length: usize) -> &mut Self {
        self.length(MAP, length)
    }

    /// A definite text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.length(TEXT, text.len());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A definite byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(BYTES, bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte string, or null if there is none.
    pub fn optional_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.simple(NULL),
        }
    }

    /// An unsigned integer in its shortest form.
    pub fn unsigned(&mut self, value: u64) -> &mut Self {
        self.head(UNSIGNED, value)
    }

    /// The negative integer `-1 - value` in its shortest form.
    pub fn negative(&mut self, value: u64) -> &mut Self {
        self.head(NEGATIVE, value)
    }

    /// An unsigned integer in eight bytes however small it is.
    pub fn unsigned_in_eight_bytes(&mut self, value: u64) -> &mut Self {
        self.0.push(UNSIGNED | EIGHT_BYTES);
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.simple(if value { TRUE } else { FALSE })
    }

    fn simple(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn length(&mut self, major: u8, length: usize) -> &mut Self {
        // A usize is at most 64 bits wide on every platform that Rust knows.
        self.head(major, u64::try_from(length).unwrap_or(u64::MAX))
    }

    /// Writes major type and argument in the shortest form.
    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        if let Ok(small @ 0..24) = u8::try_from(argument) {
            self.0.push(major | small);
        } else if let Ok(byte) = u8::try_from(argument) {
            self.0.extend_from_slice(&[major | 24, byte]);
        } else if let Ok(word) = u16::try_from(argument) {
            self.0.push(major | 25);
            self.0.extend_from_slice(&word.to_be_bytes());
        } else if let Ok(word) = u32::try_from(argument) {
            self.0.push(major | 26);
            self.0.extend_from_slice(&word.to_be_bytes());
        } else {
            self.0.push(major | EIGHT_BYTES);
            self.0.extend_from_slice(&argument.to_be_bytes());
        }
        self
    }
}

/// Reads exactly one CBOR item: nested at most [`MAX_DEPTH`] deep and with nothing after it.
///
/// Memory is bounded by the input's length, so bound that first.
#[must_use]
pub fn read_exactly_one(bytes: &[u8]) -> Option<ciborium::Value> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new();
        write(&mut writer);
        hex::encode(writer.finish())
    }

    #[test]
    fn integers_take_the_shortest_form_of_rfc_8949_appendix_a() {
        for (value, expected) in [
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (255, "18ff"),
            (256, "190100"),
            (65_535, "19ffff"),
            (65_536, "1a00010000"),
            (4_294_967_295, "1affffffff"),
            (1_000_000_000_000, "1b000000e8d4a51000"),
            (u64::MAX, "1bffffffffffffffff"),
        ] {
            assert_eq!(written(|w| _ = w.unsigned(value)), expected);
        }
        assert_eq!(written(|w| _ = w.negative(34)), "3822");
    }

    #[test]
    fn a_fixed_width_integer_keeps_its_width() {
        assert_eq!(written(|w| _ = w.unsigned_in_eight_bytes(1)), "1b0000000000000001");
    }

    #[test]
    fn strings_containers_and_simple_values_follow_rfc_8949_appendix_a() {
        assert_eq!(written(|w| _ = w.text("IETF")), "6449455446");
        assert_eq!(written(|w| _ = w.bytes(&[1, 2, 3, 4])), "4401020304");
        assert_eq!(written(|w| _ = w.optional_bytes(None)), "f6");
        assert_eq!(written(|w| _ = w.array(25)), "9819");
        assert_eq!(written(|w| _ = w.map(9)), "a9");
        assert_eq!(written(|w| _ = w.boolean(true).boolean(false)), "f5f4");
    }

    #[test]
    fn depth_is_bounded_and_trailing_bytes_are_refused() {
        let nested = |depth| [vec![0x81; depth], vec![0x00]].concat();
        assert!(read_exactly_one(&nested(MAX_DEPTH)).is_some());
        assert!(read_exactly_one(&nested(MAX_DEPTH + 1)).is_none());
        assert!(read_exactly_one(&nested(100_000)).is_none());
        assert!(read_exactly_one(&[0x00, 0x00]).is_none());
        assert!(read_exactly_one(&[]).is_none());
    }

    #[test]
    fn a_length_that_promises_more_than_there_is_does_not_allocate_it() {
        for head in [0x5b, 0x7b, 0x9b, 0xbb] {
            assert!(read_exactly_one(&[head, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_none());
        }
    }
}
