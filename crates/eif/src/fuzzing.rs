//! What the fuzz target and the test that replays its corpus both run.

use std::io::Cursor;

use crate::describe::describe;
use crate::load::measure;
use crate::rewrite::{copy, unsign};

/// Takes bytes for an image and does with them everything that is done with a stranger's image.
///
/// # Panics
/// If a copy of an intact image is not the same byte for byte, or it or what is left without the signature measures
/// otherwise: what a fuzzer looks for.
pub fn image(bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let Ok(loaded) = measure(bytes, length) else {
        assert!(
            copy(bytes, length, Cursor::new(Vec::new())).is_err(),
            "an image that cannot be read was copied"
        );
        return;
    };
    let _ = describe(&loaded);
    let copied = copy(bytes, length, Cursor::new(Vec::new()));
    let copied = copied.map(|copied| (copied.output.into_inner(), copied.measurements, copied.length));
    assert!(
        copied.is_ok_and(|(output, measurements, copied_length)| {
            // A wrong checksum is mended by the copy; everything else stays.
            let same = !loaded.checksum.matches() || output == bytes;
            same && measurements == loaded.measurements && copied_length == length
        }),
        "the copy of an image is another image"
    );
    let unsigned = unsign(bytes, length, Cursor::new(Vec::new()));
    assert_eq!(
        unsigned.is_ok(),
        loaded.checksum.matches(),
        "a damaged image was rewritten, or a sound one was not"
    );
    let Ok(unsigned) = unsigned else { return };
    let unsigned = unsigned.output.into_inner();
    let again = measure(unsigned.as_slice(), u64::try_from(unsigned.len()).unwrap_or(u64::MAX));
    assert!(
        again.is_ok_and(|again| {
            again.checksum.matches()
                && again.signature.is_none()
                && again.metadata == loaded.metadata
                && again.measurements == loaded.measurements
        }),
        "an image without its signature is another image"
    );
}
