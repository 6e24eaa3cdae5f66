//! How much memory an image needs, estimated from its section table before anything is started.
//!
//! The supervisor refuses what cannot be placed; this estimate is for people, who choose `--memory`. The guest's
//! kernel unpacks every ramdisk into memory before it frees the packed one: both must fit at once.

use std::fs::File;
use std::os::unix::fs::FileExt;

use eif::header::{HEADER_LEN, Header, SECTION_HEADER_LEN, SectionHeader, SectionKind};

const MIB: u64 = 1 << 20;
/// Where a bzImage says how much memory its kernel takes until it manages memory itself
/// (Documentation/arch/x86/boot.rst, `init_size`), and where its magic is.
const INIT_SIZE_OFFSET: u64 = 0x260;
const MAGIC_OFFSET: u64 = 0x202;
const MAGIC: [u8; 4] = *b"HdrS";
/// What the guest's kernel and its first processes take besides: measured with the small kernel, with room.
const KERNEL_WORKING_SET: u64 = 24 * MIB;
/// The kernel keeps 64 bytes on each page of 4 KiB: one part in so many.
const PAGE_RECORDS: u64 = 64;

/// What an image takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The kernel, unpacked.
    pub(crate) kernel: u64,
    /// All ramdisks as they are in the image.
    pub(crate) ramdisks: u64,
}

impl Needs {
    /// Reads the section table. `None` if the file is no image that could be booted: the supervisor says why.
    pub(crate) fn of(image: &File) -> Option<Self> {
        let mut bytes = [0; HEADER_LEN];
        image.read_exact_at(&mut bytes, 0).ok()?;
        let header = Header::decode(&bytes).ok()?;
        let length = image.metadata().ok()?.len();
        let mut needs = Self { kernel: 0, ramdisks: 0 };
        for (offset, size) in
            header.section_offsets.iter().zip(header.section_sizes).take(header.section_count.into())
        {
            let mut section = [0; SECTION_HEADER_LEN];
            image.read_exact_at(&mut section, *offset).ok()?;
            let data = offset.checked_add(SECTION_HEADER_LEN as u64)?;
            data.checked_add(size).filter(|end| *end <= length)?;
            match SectionKind::from_code(SectionHeader::decode(&section).code) {
                Some(SectionKind::Kernel) => needs.kernel = unpacked_kernel(image, data, size),
                Some(SectionKind::Ramdisk) => needs.ramdisks = needs.ramdisks.checked_add(size)?,
                _ => {}
            }
        }
        Some(needs)
    }

    /// Less than this holds kernel and ramdisks in no arrangement, in MiB.
    pub(crate) fn least_mib(&self) -> u64 {
        mib(self.kernel.saturating_add(self.ramdisks).saturating_add(MIB))
    }

    /// With this the image boots, in MiB; what the application itself uses comes on top.
    pub(crate) fn comfortable_mib(&self) -> u64 {
        let fixed =
            self.kernel.saturating_add(self.ramdisks.saturating_mul(2)).saturating_add(KERNEL_WORKING_SET);
        mib(fixed.saturating_add(fixed / PAGE_RECORDS))
    }

    /// Where the figure comes from, for people.
    pub(crate) fn explained(&self) -> String {
        format!(
            "kernel {} MiB, ramdisks {} MiB packed and as much unpacked, {} MiB for the kernel's own use",
            mib(self.kernel),
            mib(self.ramdisks),
            mib(KERNEL_WORKING_SET),
        )
    }
}

fn unpacked_kernel(image: &File, data: u64, size: u64) -> u64 {
    let mut magic = [0; MAGIC.len()];
    let mut init_size = [0; 4];
    let read = |buffer: &mut [u8], at: u64| {
        at + (buffer.len() as u64) <= size && image.read_exact_at(buffer, data.saturating_add(at)).is_ok()
    };
    if read(&mut magic, MAGIC_OFFSET) && magic == MAGIC && read(&mut init_size, INIT_SIZE_OFFSET) {
        return size.max(u32::from_le_bytes(init_size).into());
    }
    size
}

const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Golden vector A of the format: a kernel of 6 bytes, two ramdisks of 11.
    fn image(kernel: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut header = Header::decode(&header_bytes()).unwrap();
        let sections: [(u16, &[u8]); 3] = [(1, kernel), (3, b"RAMDISK-ONE"), (3, b"RAMDISK-TWO")];
        let mut offset = HEADER_LEN as u64;
        header.section_count = 3;
        for (index, (_, data)) in sections.iter().enumerate() {
            header.section_offsets[index] = offset;
            header.section_sizes[index] = data.len() as u64;
            offset += (SECTION_HEADER_LEN + data.len()) as u64;
        }
        file.write_all(&header.encode()).unwrap();
        for (code, data) in sections {
            let section = SectionHeader { code, flags: 0, size: data.len() as u64 };
            file.write_all(&section.encode()).unwrap();
            file.write_all(data).unwrap();
        }
        file
    }

    fn header_bytes() -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(b".eif\0\x04\0\0");
        bytes[0x1b] = 3;
        for (index, page) in [0x10, 0x11, 0x12].into_iter().enumerate() {
            bytes[0x1c + index * 8 + 6] = page;
        }
        bytes
    }

    #[test]
    fn sizes_come_from_the_section_table() {
        assert_eq!(Needs::of(&image(b"KERNEL")), Some(Needs { kernel: 6, ramdisks: 22 }));
    }

    #[test]
    fn a_compressed_kernel_counts_unpacked() {
        let mut kernel = vec![0; 0x300];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x260..0x264].copy_from_slice(&(20u32 << 20).to_le_bytes());
        let needs = Needs::of(&image(&kernel)).unwrap();
        assert_eq!(needs.kernel, 20 << 20);
        assert_eq!(needs.least_mib(), 22);
        assert!(needs.comfortable_mib() > needs.least_mib());
    }

    #[test]
    fn what_is_no_image_has_no_needs() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Needs::of(&file), None);
        file.write_all(&[0; 4096]).unwrap();
        assert_eq!(Needs::of(&file), None);
        let whole = image(b"KERNEL");
        whole.set_len(HEADER_LEN as u64 + 20).unwrap();
        assert_eq!(Needs::of(&whole), None);
    }
}
