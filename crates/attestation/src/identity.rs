//! The names of a host and of one enclave on it.
//!
//! Formats are those of AWS, so that software which takes a `module_id` or an EnclaveID apart goes on
//! working: an instance id is `i-` and 17 hexadecimal digits, an enclave is a 64-bit number whose upper 48
//! bits are the milliseconds since the Unix epoch at its start, `module_id` joins the two.

use core::fmt;
use core::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::TryCryptoRng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pcr::Pcr;

/// Hexadecimal digits after `i-` in an instance id.
const INSTANCE_DIGITS: usize = 17;
/// Longest role name, in bytes: the longest ARN that AWS documents for a resource.
const MAX_ROLE_LEN: usize = 2048;
/// Low bits of an enclave number that are random, so that two started in one millisecond differ.
const RANDOM_BITS: u32 = 16;

/// A text that is not the name it should be, or randomness that could not be had for a new one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Not an instance id.
    #[error("{0:?} is not an instance id: write i- and 17 lower-case hexadecimal digits")]
    InstanceId(String),
    /// Not a role.
    #[error("a role is 1 to 2048 printable ASCII characters, such as arn:aws:iam::123456789012:role/Name")]
    Role,
    /// Not an enclave id.
    #[error("{0:?} is not an enclave id: write i-<17 digits>-enc<1 to 16 digits>, all hexadecimal")]
    EnclaveId(String),
    /// The random number generator failed.
    #[error("no randomness for a new id: the random number generator failed")]
    Randomness,
    /// The clock shows a time before 1970 or after the year 10000.
    #[error("the clock is outside the years 1970 to 9999: set it")]
    Clock,
}

/// The id of a host: `i-` and 17 lower-case hexadecimal digits. PCR 4 is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// Makes a new id from `rng`.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`] if the generator fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, IdentityError> {
        let mut bytes = [0; INSTANCE_DIGITS.div_ceil(2)];
        rng.try_fill_bytes(&mut bytes).map_err(|_| IdentityError::Randomness)?;
        let digits: String = hex::encode(bytes).chars().take(INSTANCE_DIGITS).collect();
        Ok(Self(format!("i-{digits}")))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of PCR 4 on this host.
    #[must_use]
    pub fn pcr4(&self) -> Pcr {
        Pcr::ZERO.extend(self.0.as_bytes())
    }
}

impl FromStr for InstanceId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("i-") {
            Some(digits) if digits.len() == INSTANCE_DIGITS && digits.bytes().all(is_lower_hex) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(IdentityError::InstanceId(shortened(text))),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The role that a host acts in, such as the ARN of an IAM role. PCR 3 is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Role(String);

impl Role {
    /// The role as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of PCR 3 in this role.
    #[must_use]
    pub fn pcr3(&self) -> Pcr {
        Pcr::ZERO.extend(self.0.as_bytes())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if printable && (1..=MAX_ROLE_LEN).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::Role)
        }
    }
}

impl TryFrom<String> for Role {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of one enclave on one host.
///
/// It is written in two ways: `Display` is the EnclaveID of the command line, whose number has no leading
/// zeros; [`Self::module_id`] is the form in documents, whose number always has 16 digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnclaveId {
    instance: InstanceId,
    number: u64,
}

impl EnclaveId {
    /// Makes a new id for an enclave that starts now.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`] if the generator fails, [`IdentityError::Clock`] if `now` cannot be the time.
    pub fn generate<R: TryCryptoRng + ?Sized>(
        instance: InstanceId,
        now: SystemTime,
        rng: &mut R,
    ) -> Result<Self, IdentityError> {
        let since_epoch = now.duration_since(UNIX_EPOCH).map_err(|_| IdentityError::Clock)?;
        let milliseconds = u64::try_from(since_epoch.as_millis()).map_err(|_| IdentityError::Clock)?;
        if milliseconds.leading_zeros() < RANDOM_BITS {
            return Err(IdentityError::Clock);
        }
        let mut low = [0; 2];
        rng.try_fill_bytes(&mut low).map_err(|_| IdentityError::Randomness)?;
        let number = (milliseconds << RANDOM_BITS) | u64::from(u16::from_be_bytes(low));
        Ok(Self { instance, number })
    }

    /// The host's part of the id.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The id as `module_id` of documents: the number padded to 16 digits.
    #[must_use]
    pub fn module_id(&self) -> String {
        format!("{}-enc{:016x}", self.instance, self.number)
    }
}

impl fmt::Display for EnclaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-enc{:x}", self.instance, self.number)
    }
}

impl FromStr for EnclaveId {
    type Err = IdentityError;

    /// Reads both forms.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || IdentityError::EnclaveId(shortened(text));
        let (instance, digits) = text.split_once("-enc").ok_or_else(error)?;
        if !(1..=16).contains(&digits.len()) || !digits.bytes().all(is_lower_hex) {
            return Err(error());
        }
        let number = u64::from_str_radix(digits, 16).map_err(|_| error())?;
        Ok(Self { instance: instance.parse().map_err(|_| error())?, number })
    }
}

impl TryFrom<String> for EnclaveId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EnclaveId> for String {
    fn from(id: EnclaveId) -> Self {
        id.to_string()
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The beginning of `text`, short enough for an error message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use getrandom::SysRng;

    fn instance() -> InstanceId {
        "i-0bee92034f3d60691".parse().unwrap()
    }

    #[test]
    fn pcr_3_and_4_match_the_published_values() {
        // AWS user guide, "Where to get an enclave's measurements".
        let role: Role = "arn:aws:iam::123456789012:role/Webserver".parse().unwrap();
        assert!(role.pcr3().to_string().starts_with("78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb"));
        let id: InstanceId = "i-1234567890abcdef0".parse().unwrap();
        assert!(id.pcr4().to_string().starts_with("08f996b5d43e047a9eb51e7f548bfee7e164fd7d"));
        // Read from real documents.
        assert!(instance().pcr4().to_string().starts_with("5ecf4fb14c100ccc"));
    }

    #[test]
    fn the_two_forms_of_an_enclave_id_differ_in_padding_alone() {
        let id: EnclaveId = "i-0bee92034f3d60691-enc01943c5eaab3ad6a".parse().unwrap();
        assert_eq!(id.to_string(), "i-0bee92034f3d60691-enc1943c5eaab3ad6a");
        assert_eq!(id.module_id(), "i-0bee92034f3d60691-enc01943c5eaab3ad6a");
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.instance(), &instance());
    }

    #[test]
    fn an_enclave_number_holds_its_start_in_milliseconds() {
        let start = Duration::from_millis(1_614_963_688_469);
        let id = EnclaveId::generate(instance(), UNIX_EPOCH + start, &mut SysRng).unwrap();
        assert_eq!(id.number >> RANDOM_BITS, 1_614_963_688_469);
    }

    #[test]
    fn a_clock_before_1970_or_past_48_bits_is_refused() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        let far = UNIX_EPOCH + Duration::from_millis(1 << 48);
        for now in [before, far] {
            assert_eq!(EnclaveId::generate(instance(), now, &mut SysRng), Err(IdentityError::Clock));
        }
    }

    #[test]
    fn new_instance_ids_are_well_formed_and_differ() {
        let first = InstanceId::generate(&mut SysRng).unwrap();
        let second = InstanceId::generate(&mut SysRng).unwrap();
        assert_eq!(first.as_str().parse(), Ok(first.clone()));
        assert_ne!(first, second);
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "",
            "i-",
            "i-0bee92034f3d6069",
            "i-0bee92034f3d606911",
            "i-0BEE92034f3d60691",
            "x-0bee92034f3d60691",
        ] {
            assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
        }
        for text in ["", "a\nb", "\u{e9}", &"a".repeat(MAX_ROLE_LEN + 1)] {
            assert!(text.parse::<Role>().is_err(), "{text:?}");
        }
        assert!("a".repeat(MAX_ROLE_LEN).parse::<Role>().is_ok());
        for digits in ["", "00000000000000000", "+1", "1G"] {
            assert!(format!("i-0bee92034f3d60691-enc{digits}").parse::<EnclaveId>().is_err(), "{digits:?}");
        }
        assert!("i-0bee92034f3d60691".parse::<EnclaveId>().is_err());
    }
}
