//! Platform configuration registers: values, indices and the extend operation.
//!
//! A PCR is a SHA-384 digest that can only be replaced by `SHA384(old || data)`. The security module
//! has 32 of them. Specification: AWS Nitro Enclaves user guide, "Cryptographic attestation".

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};
use thiserror::Error;

/// Bytes in one PCR: the length of a SHA-384 digest.
pub const PCR_LEN: usize = 48;

/// Number of PCRs in a security module (`max_pcrs` of DescribeNSM).
pub const PCR_COUNT: u8 = 32;

/// The value of one PCR. Written and serialised as 96 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pcr([u8; PCR_LEN]);

impl Pcr {
    /// The value of a register that was never extended.
    pub const ZERO: Self = Self([0; PCR_LEN]);

    /// Takes the 48 bytes of a register as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PCR_LEN]) -> Self {
        Self(bytes)
    }

    /// The 48 bytes of the register.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; PCR_LEN] {
        &self.0
    }

    /// True if the register was never extended (or stands for a debug enclave's hidden measurement).
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The register after extending it with `data`: `SHA384(self || data)`.
    #[must_use]
    pub fn extend(&self, data: &[u8]) -> Self {
        Self(Sha384::new().chain_update(self.0).chain_update(data).finalize().into())
    }

    /// The register that measures content with this SHA-384 digest: zero, extended once by the digest.
    ///
    /// PCR 0, 1, 2 and 8 are made so; note the double hash.
    #[must_use]
    pub fn measuring(content_digest: &[u8; PCR_LEN]) -> Self {
        Self::ZERO.extend(content_digest)
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pcr({self})")
    }
}

/// A text that is not the value of a PCR.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("a PCR is written as 96 hexadecimal digits; this text is not ({0})")]
pub struct ParsePcrError(hex::FromHexError);

impl FromStr for Pcr {
    type Err = ParsePcrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; PCR_LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(ParsePcrError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Pcr {
    type Error = ParsePcrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pcr> for String {
    fn from(pcr: Pcr) -> Self {
        pcr.to_string()
    }
}

/// The number of a PCR, known to be below [`PCR_COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// `None` if there is no such register.
    #[must_use]
    pub fn new(index: u64) -> Option<Self> {
        u8::try_from(index).ok().filter(|index| *index < PCR_COUNT).map(Self)
    }

    /// The number, 0..=31.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Every index in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PCR_COUNT).map(Self)
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was measured of one image: the registers that the image alone decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurements {
    /// PCR 0: kernel, command line and every ramdisk.
    #[serde(rename = "PCR0")]
    pub pcr0: Pcr,
    /// PCR 1: kernel, command line and the first ramdisk.
    #[serde(rename = "PCR1")]
    pub pcr1: Pcr,
    /// PCR 2: every ramdisk but the first.
    #[serde(rename = "PCR2")]
    pub pcr2: Pcr,
    /// PCR 8: the signing certificate, in a signed image.
    #[serde(rename = "PCR8", default, skip_serializing_if = "Option::is_none")]
    pub pcr8: Option<Pcr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_and_instance_registers_match_the_published_values() {
        // AWS user guide, "Where to get an enclave's measurements".
        assert_eq!(
            Pcr::ZERO.extend(b"arn:aws:iam::123456789012:role/Webserver").to_string(),
            "78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6"
        );
        assert_eq!(
            Pcr::ZERO.extend(b"i-1234567890abcdef0").to_string(),
            "08f996b5d43e047a9eb51e7f548bfee7e164fd7dc8f65541f2ac09d6545ac812719327281c401a67a10fcba87ae79ce0"
        );
    }

    #[test]
    fn the_second_ramdisk_register_of_an_image_without_one_measures_nothing() {
        let nothing: [u8; PCR_LEN] = Sha384::digest(b"").into();
        assert_eq!(
            Pcr::measuring(&nothing).to_string(),
            "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
        );
    }

    #[test]
    fn text_that_is_not_96_digits_is_refused() {
        for text in ["", "00", &"0".repeat(95), &"0".repeat(97), &"g".repeat(96)] {
            assert!(text.parse::<Pcr>().is_err(), "{text:?} was taken for a PCR");
        }
        assert_eq!("0".repeat(96).parse(), Ok(Pcr::ZERO));
    }

    #[test]
    fn an_index_past_the_last_register_does_not_exist() {
        assert_eq!(PcrIndex::new(31).map(PcrIndex::get), Some(31));
        assert_eq!(PcrIndex::new(32), None);
        assert_eq!(PcrIndex::new(u64::MAX), None);
    }
}
