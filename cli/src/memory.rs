//! How much memory an image needs, said before anything is started.
//!
//! The figure is the supervisor's own: the same code reads the kernel's header. What the supervisor then measures and boots it
//! reads itself; nothing of what is read here is used for that.

use std::fs::File;
use std::os::unix::fs::FileExt;

use eif::header::{HEADER_LEN, Header, SECTION_HEADER_LEN, SectionHeader, SectionKind};
use eif::rules::MAX_KERNEL_SIZE;
use eif::unpacked::{END_LEN, START_LEN, Unpacked};
use enclave_hypervisor::arch::boot::Kernel;

const MIB: u64 = 1 << 20;

/// What an image takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// All of it: with less, the supervisor refuses the image.
    total: u64,
    /// All ramdisks as they are in the image.
    ramdisks: u64,
    /// What they unpack to.
    unpacked: Unpacked,
}

impl Needs {
    /// Reads the section table and the kernel. `None` if the file is no image that could be booted: the
    /// supervisor says why.
    pub(crate) fn of(image: &File) -> Option<Self> {
        let mut bytes = [0; HEADER_LEN];
        image.read_exact_at(&mut bytes, 0).ok()?;
        let header = Header::decode(&bytes).ok()?;
        let length = image.metadata().ok()?.len();
        let (mut kernel, mut ramdisks, mut unpacked) = (None, 0u64, Unpacked::default());
        for (offset, size) in
            header.section_offsets.iter().zip(header.section_sizes).take(header.section_count.into())
        {
            let mut section = [0; SECTION_HEADER_LEN];
            image.read_exact_at(&mut section, *offset).ok()?;
            let data = offset.checked_add(SECTION_HEADER_LEN as u64)?;
            data.checked_add(size).filter(|end| *end <= length)?;
            match SectionKind::from_code(SectionHeader::decode(&section).code) {
                Some(SectionKind::Kernel) => kernel = Some(read_kernel(image, data, size)?),
                Some(SectionKind::Ramdisk) => {
                    ramdisks = ramdisks.checked_add(size)?;
                    unpacked = unpacked.and(read_unpacked(image, data, size)?);
                }
                _ => {}
            }
        }
        Some(Self { total: kernel?.memory_needed(ramdisks, unpacked.bytes), ramdisks, unpacked })
    }

    /// With less than this, in MiB, the image is refused; what the application itself uses comes on top.
    pub(crate) const fn least_mib(&self) -> u64 {
        mib(self.total)
    }

    /// Where the figure comes from, for people.
    pub(crate) fn explained(&self) -> String {
        let (packed, unpacked) = (mib(self.ramdisks), mib(self.unpacked.bytes));
        if self.unpacked.at_least {
            return format!(
                "an estimate: ramdisks of {packed} MiB, of which one does not tell what it unpacks to; perhaps more is needed"
            );
        }
        if self.ramdisks == self.unpacked.bytes {
            return format!("ramdisks of {packed} MiB, packed and unpacked; the rest for the kernel");
        }
        format!("ramdisks of {packed} MiB that unpack to {unpacked} MiB; the rest for the kernel")
    }
}

fn read_unpacked(image: &File, data: u64, size: u64) -> Option<Unpacked> {
    let (mut start, mut end) = ([0; START_LEN], [0; END_LEN]);
    let small = usize::try_from(size).ok().and_then(|size| start.get_mut(..size.min(START_LEN)))?;
    image.read_exact_at(small, data).ok()?;
    let known = small.len();
    let end = match size.checked_sub(END_LEN as u64) {
        Some(at) => {
            image.read_exact_at(&mut end, data.checked_add(at)?).ok()?;
            end.as_slice()
        }
        None => &[],
    };
    Some(Unpacked::of(start.get(..known)?, end, size))
}

fn read_kernel(image: &File, data: u64, size: u64) -> Option<Kernel> {
    if size > MAX_KERNEL_SIZE {
        // No image may have one; a file with holes would claim it without having it.
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    image.read_exact_at(&mut bytes, data).ok()?;
    Kernel::parse(bytes).ok()
}

const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

/// Shared with the command's tests.
#[cfg(test)]
#[path = "../tests/command/bzimage.rs"]
mod bzimage;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::bzimage::smallest_bzimage;
    use super::*;

    /// Golden vector A of the format: a kernel of 6 bytes, two ramdisks of 11.
    fn image(kernel: &[u8]) -> File {
        image_with(kernel, b"RAMDISK-TWO")
    }

    fn image_with(kernel: &[u8], second: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut header = Header::decode(&header_bytes()).unwrap();
        let sections: [(u16, &[u8]); 3] = [(1, kernel), (3, b"07070100000"), (3, second)];
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
    fn needs_come_from_the_section_table_and_the_kernels_own_word() {
        let needs = Needs::of(&image(&smallest_bzimage())).unwrap();
        assert_eq!(needs.ramdisks, 22);
        assert!(needs.least_mib() > 20 + 16, "the kernel lies at 16 MiB and takes 20: {needs:?}");
    }

    #[test]
    fn a_compressed_ramdisk_counts_as_what_it_unpacks_to() {
        // A zstd frame of one segment whose header tells 64 MiB: RFC 8878, 3.1.1.1.
        let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(64_u32 << 20).to_le_bytes(), &[0; 16]].concat();
        let plain = Needs::of(&image_with(&smallest_bzimage(), b"070701")).unwrap();
        let compressed = Needs::of(&image_with(&smallest_bzimage(), &zstd)).unwrap();
        assert_eq!(
            compressed.least_mib() - plain.least_mib(),
            128,
            "its root takes at most half of the memory"
        );
        assert!(compressed.explained().contains("unpack to 65 MiB"), "{}", compressed.explained());
        let unknown = Needs::of(&image_with(&smallest_bzimage(), b"BZh91AY")).unwrap();
        assert!(unknown.explained().contains("estimate"), "{}", unknown.explained());
        assert!(!plain.explained().contains("estimate"), "{}", plain.explained());
    }

    #[test]
    fn a_kernel_that_cannot_be_booted_has_no_needs() {
        assert_eq!(Needs::of(&image(b"KERNEL")), None);
    }

    #[test]
    fn what_is_no_image_has_no_needs() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(Needs::of(&file), None);
        file.write_all(&[0; 4096]).unwrap();
        assert_eq!(Needs::of(&file), None);
        let whole = image(&smallest_bzimage());
        whole.set_len(HEADER_LEN as u64 + 20).unwrap();
        assert_eq!(Needs::of(&whole), None);
    }

    #[test]
    fn a_kernel_larger_than_any_may_be_is_not_read() {
        const CLAIMED: u64 = 1 << 43;
        let claiming = image(&smallest_bzimage());
        let mut bytes = [0; HEADER_LEN];
        claiming.read_exact_at(&mut bytes, 0).unwrap();
        let mut header = Header::decode(&bytes).unwrap();
        header.section_sizes[0] = CLAIMED;
        claiming.write_all_at(&header.encode(), 0).unwrap();
        claiming.set_len(CLAIMED + 4096).unwrap();
        assert_eq!(Needs::of(&claiming), None);
    }
}
