//! How much memory an image needs, said before anything is started.
//!
//! The figure is the supervisor's own: the same code reads the kernel's header. What the supervisor then measures and boots it
//! reads itself; nothing of what is read here is used for that.

use std::fs::File;

use eif::header::SectionKind;
use eif::rules::MAX_KERNEL_SIZE;
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
}

impl Needs {
    /// Reads the section table and the kernel. `None` if the file is no image that could be booted: the
    /// supervisor says why.
    pub(crate) fn of(image: &File) -> Option<Self> {
        let (mut kernel, mut ramdisks) = (None, 0u64);
        for section in Sections::of(image).ok()?.iter() {
            match section.kind {
                SectionKind::Kernel => kernel = Some(read_kernel(image, section)?),
                SectionKind::Ramdisk => ramdisks = ramdisks.checked_add(section.size)?,
                _ => {}
            }
        }
        Some(Self { total: kernel?.memory_needed(ramdisks), ramdisks })
    }

    /// With less than this, in MiB, the image is refused; what the application itself uses comes on top.
    pub(crate) const fn least_mib(&self) -> u64 {
        mib(self.total)
    }

    /// Where the figure comes from, for people.
    pub(crate) fn explained(&self) -> String {
        let ramdisks = mib(self.ramdisks);
        format!("ramdisks of {ramdisks} MiB, packed and unpacked; the rest for the kernel")
    }
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
        image_of(&[(1, kernel), (3, b"RAMDISK-ONE"), (3, b"RAMDISK-TWO")])
    }

    #[test]
    fn needs_come_from_the_section_table_and_the_kernels_own_word() {
        let needs = Needs::of(&image(&smallest_bzimage())).unwrap();
        assert_eq!(needs.ramdisks, 22);
        assert!(needs.least_mib() > 20 + 16, "the kernel lies at 16 MiB and takes 20: {needs:?}");
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
