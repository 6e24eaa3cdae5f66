//! A second reading of image files, independent of the eif crate: what expectations are computed from.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha384};

/// Section types (AWS, enclave image format specification).
const KERNEL: u16 = 1;
const COMMAND_LINE: u16 = 2;
const RAMDISK: u16 = 3;

/// Where the section table starts in the header, and how many entries it has.
const TABLE: usize = 0x1c;
const COUNT: usize = 0x1a;

/// The measured sections of an image, in file order.
#[derive(Debug)]
pub struct ImageFile {
    sections: Vec<(u16, Vec<u8>)>,
}

impl ImageFile {
    /// Reads a well-formed image.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let number = |at: usize, length: usize| {
            bytes[at..at + length].iter().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
        };
        let sections = (0..number(COUNT, 2))
            .map(|index| {
                let at = number(TABLE + 8 * index, 8);
                let data = &bytes[at + 12..at + 12 + number(at + 4, 8)];
                (u16::try_from(number(at, 2)).unwrap(), data.to_vec())
            })
            .collect();
        Self { sections }
    }

    /// The kernel's command line.
    #[must_use]
    pub fn command_line(&self) -> String {
        let (_, data) = self.sections.iter().find(|(kind, _)| *kind == COMMAND_LINE).unwrap();
        String::from_utf8(data.clone()).unwrap()
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &[u8] {
        &self.sections.iter().find(|(kind, _)| *kind == KERNEL).unwrap().1
    }

    /// Every ramdisk, one behind the other: what a kernel gets as its initrd.
    #[must_use]
    pub fn ramdisks(&self) -> Vec<u8> {
        self.sections.iter().filter(|(kind, _)| *kind == RAMDISK).flat_map(|(_, data)| data.clone()).collect()
    }

    /// PCR 0, 1 and 2 as hexadecimal digits.
    #[must_use]
    pub fn pcrs(&self) -> [String; 3] {
        let mut hashes = [Sha384::new(), Sha384::new(), Sha384::new()];
        let mut ramdisks = 0;
        for (kind, data) in &self.sections {
            let measured_by: &[usize] = match *kind {
                KERNEL | COMMAND_LINE => &[0, 1],
                RAMDISK if ramdisks == 0 => &[0, 1],
                RAMDISK => &[0, 2],
                _ => &[],
            };
            ramdisks += usize::from(*kind == RAMDISK);
            for index in measured_by {
                hashes[*index].update(data);
            }
        }
        hashes.map(|hash| {
            hex::encode(Sha384::new().chain_update([0; 48]).chain_update(hash.finalize()).finalize())
        })
    }
}
