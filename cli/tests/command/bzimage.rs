//! A kernel for images that are never booted: its header alone (Linux, Documentation/arch/x86/boot.rst).

/// The smallest kernel there is: a bzImage that lies at 16 MiB and takes 20.
pub(crate) fn smallest_bzimage() -> Vec<u8> {
    let mut kernel = vec![0; 0x800];
    let fields: [(usize, &[u8]); 12] = [
        (0x1f1, &[1]),
        (0x1f4, &[0x40]),
        (0x1fe, &[0x55, 0xaa, 0, 0x6a]),
        (0x202, b"HdrS"),
        (0x206, &[0x0f, 0x02]),
        (0x211, &[1]),
        (0x22c, &[0xff, 0xff, 0xff, 0x7f]),
        (0x232, &[0x20, 0]),
        (0x234, &[1, 0, 3]),
        (0x238, &[0xff, 0x07]),
        (0x25b, &[1]),
        (0x262, &[0x40, 1]),
    ];
    for (offset, bytes) in fields {
        kernel[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    kernel
}
