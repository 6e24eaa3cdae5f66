//! The machines that container images are made for, as their manifests name them (OCI Image Specification 1.1, "Image Index").

use core::fmt;

/// A machine an image can be made for. Enclaves run Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// 64-bit x86: `linux/amd64`.
    Amd64,
    /// 64-bit ARM: `linux/arm64`.
    Arm64,
}

impl Platform {
    /// The architecture as Go and container images call it.
    #[must_use]
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// True if this machine runs its programs without emulation.
    #[must_use]
    pub fn is_of_this_machine(self) -> bool {
        match self {
            Self::Amd64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        }
    }

    /// The variants that are the plainest form of the architecture.
    #[must_use]
    pub const fn plain_variants(self) -> [&'static str; 2] {
        match self {
            Self::Amd64 => ["", "v1"],
            Self::Arm64 => ["", "v8"],
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())
    }
}
