//! How much memory an image needs, said before anything is started.
//!
//! The figure is the supervisor's own: the same code reads the kernel's header. What the supervisor then measures and boots it
//! reads itself; nothing of what is read here is used for that.

use std::fs::File;

use eif::header::SectionKind;
use eif::rules::MAX_KERNEL_SIZE;
use eif::unpacked::{END_LEN, START_LEN, Unpacked};
use enclave_hypervisor::arch::boot::Kernel;

use crate::sections::{Section, Sections};

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
        let (mut kernel, mut ramdisks, mut unpacked) = (None, 0u64, Unpacked::default());
        for section in Sections::of(image).ok()?.iter() {
            match section.kind {
                SectionKind::Kernel => kernel = Some(read_kernel(image, section)?),
                SectionKind::Ramdisk => {
                    ramdisks = ramdisks.checked_add(section.size)?;
                    unpacked = unpacked.and(read_unpacked(image, section)?);
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

fn read_unpacked(image: &File, section: &Section) -> Option<Unpacked> {
    let (start, end) = section.ends(image, START_LEN, END_LEN).ok()?;
    Some(Unpacked::of(&start, &end, section.size))
}

/// No image may have a kernel above the limit; a file with holes would claim it without having it.
fn read_kernel(image: &File, section: &Section) -> Option<Kernel> {
    Kernel::parse(section.read(image, MAX_KERNEL_SIZE).ok()?).ok()
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
    use std::os::unix::fs::FileExt;

    use eif::header::{HEADER_LEN, Header};

    use super::bzimage::smallest_bzimage;
    use super::*;
    use crate::sections::tests::image_of;

    /// An image with this kernel and two ramdisks of 11 bytes.
    fn image(kernel: &[u8]) -> File {
        image_with(kernel, b"RAMDISK-TWO")
    }

    fn image_with(kernel: &[u8], second: &[u8]) -> File {
        image_of(&[(1, kernel), (3, b"07070100000"), (3, second)])
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
