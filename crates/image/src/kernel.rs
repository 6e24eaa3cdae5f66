//! What can be told of a kernel by looking at it.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use eif::header::Flags;

use crate::error::BuildError;

/// Bytes looked at: the version of a bzImage may stand up to 64 KiB behind its setup header.
pub(crate) const LOOKED_AT: u64 = 68 << 10;

/// `boot_flag` and `header` of the x86 setup header (Documentation/arch/x86/boot.rst).
const BZIMAGE_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");

/// Where a bzImage says where its version stands, less 0x200.
const BZIMAGE_VERSION: usize = 0x20e;

/// An arm64 Image (Documentation/arch/arm64/booting.rst).
const ARM64_MAGIC: (usize, &[u8]) = (0x38, b"ARM\x64");

const ELF_MAGIC: (usize, &[u8]) = (0, b"\x7fELF");

/// `e_machine` of a little-endian ELF file for 64-bit Arm (`EM_AARCH64`, include/uapi/linux/elf-em.h).
const ELF_AARCH64: (usize, &[u8]) = (0x12, &[183, 0]);

/// What a kernel or program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit Intel and AMD.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Architecture {
    /// This machine's; none if enclaves do not run on it.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Its name in container images (Go's GOARCH).
    #[must_use]
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The variants that container images for every machine of the architecture have, if they name one.
    #[must_use]
    pub const fn plain_variants(self) -> [&'static str; 2] {
        match self {
            Self::X86_64 => ["", "v1"],
            Self::Aarch64 => ["", "v8"],
        }
    }
}

impl core::fmt::Display for Architecture {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// A kernel that has been looked at.
#[derive(Debug)]
pub struct Kernel {
    /// The file, at its start.
    pub file: File,
    /// What it runs on.
    pub architecture: Architecture,
    /// Its version, if it says so: bzImages do.
    pub version: Option<String>,
}

impl Kernel {
    /// Opens a kernel.
    ///
    /// # Errors
    /// If it cannot be read or is none.
    pub fn open(path: &Path) -> Result<Self, BuildError> {
        let mut file = File::open(path).map_err(BuildError::file(path, "opening the kernel"))?;
        let mut start = Vec::new();
        let read = file.by_ref().take(LOOKED_AT).read_to_end(&mut start).and_then(|_| file.rewind());
        read.map_err(BuildError::file(path, "reading the kernel"))?;
        let has = |(at, magic): (usize, &[u8])| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let aarch64 = has(ARM64_MAGIC) || (has(ELF_MAGIC) && has(ELF_AARCH64));
        let architecture = if aarch64 { Architecture::Aarch64 } else { Architecture::X86_64 };
        if !has(BZIMAGE_MAGIC) && !has(ELF_MAGIC) && !has(ARM64_MAGIC) {
            return Err(BuildError::NotAKernel(path.to_owned()));
        }
        let version = if has(BZIMAGE_MAGIC) { bzimage_version(&start) } else { None };
        Ok(Self { file, architecture, version })
    }

    /// Header flags of an image with it.
    #[must_use]
    pub fn flags(&self) -> Flags {
        match self.architecture {
            Architecture::X86_64 => Flags::default(),
            Architecture::Aarch64 => Flags::AARCH64,
        }
    }
}

/// The first word of the version text: "6.12.63" of "6.12.63 (user@host) #1 ...".
pub(crate) fn bzimage_version(start: &[u8]) -> Option<String> {
    let pointer = start.get(BZIMAGE_VERSION..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
    let text = start.get(usize::from(pointer).checked_add(0x200)?..)?;
    let word = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
    let word = core::str::from_utf8(word).ok()?;
    (pointer != 0 && !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic())).then(|| word.to_owned())
}
