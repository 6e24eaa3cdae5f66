//! The hashes behind PCR 0, 1 and 2, taken while an image passes by.
//!
//! PCR 0 measures the data of kernel, command line and all ramdisks in file order; PCR 1 those of kernel, command line
//! and first ramdisk; PCR 2 those of the other ramdisks. Section headers, metadata and signature are not measured.
//! Specification: the README of AWS's `aws-nitro-enclaves-image-format`; worked example in docs/measured-boot.md.

use attestation::pcr::Pcr;
use sha2::{Digest, Sha384};

use crate::header::SectionKind;

/// Which registers a measured section goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Kernel, command line or first ramdisk: PCR 0 and PCR 1.
    Boot,
    /// Any other ramdisk: PCR 0 and PCR 2.
    Application,
}

/// Tells the part of each section, in file order.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    had_ramdisk: bool,
}

impl Parts {
    /// The part of the next section; `None` if sections of this kind are not measured.
    pub fn next(&mut self, kind: SectionKind) -> Option<Part> {
        match kind {
            SectionKind::Kernel | SectionKind::Cmdline => Some(Part::Boot),
            SectionKind::Ramdisk if core::mem::replace(&mut self.had_ramdisk, true) => {
                Some(Part::Application)
            }
            SectionKind::Ramdisk => Some(Part::Boot),
            SectionKind::Signature | SectionKind::Metadata => None,
        }
    }
}

/// PCR 0 and PCR 1 from one hash: their inputs are the same until the second ramdisk, where the state is cloned. After
/// that only a late command line goes into both.
#[derive(Debug, Clone, Default)]
pub(crate) struct BootHasher {
    image: Sha384,
    boot: Option<Sha384>,
}

impl BootHasher {
    pub(crate) fn update(&mut self, part: Part, data: &[u8]) {
        match part {
            Part::Application => {
                self.boot.get_or_insert_with(|| self.image.clone());
            }
            Part::Boot => {
                if let Some(boot) = &mut self.boot {
                    boot.update(data);
                }
            }
        }
        self.image.update(data);
    }

    /// PCR 0 and PCR 1.
    pub(crate) fn finish(self) -> (Pcr, Pcr) {
        let boot = self.boot.unwrap_or_else(|| self.image.clone());
        (register(self.image), register(boot))
    }
}

/// The register that measures what was hashed.
pub(crate) fn register(hasher: Sha384) -> Pcr {
    Pcr::measuring(&hasher.finalize().into())
}
