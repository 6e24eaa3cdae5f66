//! What sections an image may have, in which order, and how large: checked as they come by.
//!
//! Reader and writer share these rules, so nothing is written that would not be read.

use thiserror::Error;

use crate::header::{CURRENT_VERSION, SectionKind};

/// Most bytes of a kernel. Ten times what the largest known kernels with all drivers built in need.
pub const MAX_KERNEL_SIZE: u64 = 1 << 30;

/// Most bytes of a command line; Linux itself takes far fewer (2048 on x86_64).
pub const MAX_CMDLINE_SIZE: u64 = 64 << 10;

/// Most bytes of a signature section (`SIGNATURE_MAX_SIZE` of the specification).
pub const MAX_SIGNATURE_SIZE: u64 = 32_768;

/// Most bytes of metadata, which is kept in memory and parsed as JSON.
pub const MAX_METADATA_SIZE: u64 = 16 << 20;

/// A set of sections that makes no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// A kind that may come once came again.
    #[error("the image has a second {0} section; exactly one is allowed")]
    Duplicate(SectionKind),
    /// A ramdisk came before the kernel.
    #[error("a ramdisk section comes before the kernel section; the kernel must come first")]
    RamdiskBeforeKernel,
    /// A section that must be there is not.
    #[error("the image has no {0} section; rebuild it")]
    Missing(SectionKind),
    /// A section is larger than its kind may be.
    #[error("the {kind} section has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// What the section holds.
        kind: SectionKind,
        /// Bytes of its data.
        size: u64,
        /// Most bytes that are taken.
        limit: u64,
    },
}

/// The sections admitted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    kernel: bool,
    cmdline: bool,
    ramdisk: bool,
    signature: bool,
    metadata: bool,
}

impl Rules {
    /// Admits the next section in file order.
    pub(crate) fn admit(&mut self, kind: SectionKind, size: u64) -> Result<(), RuleError> {
        check_size(kind, size)?;
        let seen = match kind {
            SectionKind::Ramdisk if !self.kernel => return Err(RuleError::RamdiskBeforeKernel),
            SectionKind::Ramdisk => {
                self.ramdisk = true;
                return Ok(());
            }
            SectionKind::Kernel => &mut self.kernel,
            SectionKind::Cmdline => &mut self.cmdline,
            SectionKind::Signature => &mut self.signature,
            SectionKind::Metadata => &mut self.metadata,
        };
        if *seen {
            return Err(RuleError::Duplicate(kind));
        }
        *seen = true;
        Ok(())
    }

    /// Checks that nothing is missing from an image of this version.
    pub(crate) fn complete(&self, version: u16) -> Result<(), RuleError> {
        let needed = [
            (SectionKind::Kernel, self.kernel),
            (SectionKind::Cmdline, self.cmdline),
            (SectionKind::Ramdisk, self.ramdisk),
            (SectionKind::Metadata, self.metadata || version < CURRENT_VERSION),
        ];
        needed
            .into_iter()
            .find(|(_, present)| !present)
            .map_or(Ok(()), |(kind, _)| Err(RuleError::Missing(kind)))
    }
}

/// Checks a section's size against the limit of its kind.
pub(crate) fn check_size(kind: SectionKind, size: u64) -> Result<(), RuleError> {
    let limit = match kind {
        SectionKind::Kernel => MAX_KERNEL_SIZE,
        SectionKind::Cmdline => MAX_CMDLINE_SIZE,
        SectionKind::Signature => MAX_SIGNATURE_SIZE,
        SectionKind::Metadata => MAX_METADATA_SIZE,
        SectionKind::Ramdisk => u64::MAX,
    };
    if size > limit { Err(RuleError::TooLarge { kind, size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SectionKind::{Cmdline, Kernel, Metadata, Ramdisk, Signature};

    fn judge(version: u16, kinds: &[SectionKind]) -> Result<(), RuleError> {
        let mut rules = Rules::default();
        kinds.iter().try_for_each(|kind| rules.admit(*kind, 1))?;
        rules.complete(version)
    }

    #[test]
    fn any_order_with_ramdisks_after_the_kernel_is_legal() {
        for kinds in [
            &[Kernel, Cmdline, Metadata, Ramdisk, Ramdisk, Signature][..],
            &[Metadata, Kernel, Ramdisk, Cmdline],
            &[Signature, Cmdline, Kernel, Ramdisk, Metadata, Ramdisk],
        ] {
            assert_eq!(judge(4, kinds), Ok(()), "{kinds:?}");
        }
        assert_eq!(judge(3, &[Kernel, Cmdline, Ramdisk]), Ok(()));
    }

    #[test]
    fn duplicates_omissions_and_an_early_ramdisk_are_refused() {
        assert_eq!(judge(4, &[Kernel, Kernel]), Err(RuleError::Duplicate(Kernel)));
        assert_eq!(judge(4, &[Cmdline, Cmdline]), Err(RuleError::Duplicate(Cmdline)));
        assert_eq!(judge(4, &[Signature, Signature]), Err(RuleError::Duplicate(Signature)));
        assert_eq!(judge(4, &[Metadata, Metadata]), Err(RuleError::Duplicate(Metadata)));
        assert_eq!(judge(4, &[Ramdisk, Kernel]), Err(RuleError::RamdiskBeforeKernel));
        assert_eq!(judge(4, &[]), Err(RuleError::Missing(Kernel)));
        assert_eq!(judge(4, &[Kernel]), Err(RuleError::Missing(Cmdline)));
        assert_eq!(judge(4, &[Kernel, Cmdline]), Err(RuleError::Missing(Ramdisk)));
        assert_eq!(judge(4, &[Kernel, Cmdline, Ramdisk]), Err(RuleError::Missing(Metadata)));
    }

    #[test]
    fn each_limit_holds_at_its_edge() {
        for (kind, limit) in [
            (Kernel, MAX_KERNEL_SIZE),
            (Cmdline, MAX_CMDLINE_SIZE),
            (Signature, MAX_SIGNATURE_SIZE),
            (Metadata, MAX_METADATA_SIZE),
        ] {
            assert_eq!(check_size(kind, limit), Ok(()));
            assert_eq!(
                check_size(kind, limit + 1),
                Err(RuleError::TooLarge { kind, size: limit + 1, limit })
            );
        }
    }
}
