//! One entry of a log, named so that it can be kept elsewhere.

use serde::Serialize;
use thiserror::Error;

use super::Hash;

/// One entry, named by its number and the SHA-256 of its line. In text: `NUMBER:HEX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Head {
    /// The entry's number, counted from 1; 0 in an empty log.
    pub number: u64,
    /// The SHA-256 of its line.
    pub hash: Hash,
}

impl core::fmt::Display for Head {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.number, hex::encode(self.hash))
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

/// A text that names no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an entry is named by its number, a colon and 64 hexadecimal digits, as `enclave kms log verify` prints it"
)]
pub struct ParseHeadError;

impl core::str::FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, digits) = text.split_once(':').ok_or(ParseHeadError)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| ParseHeadError)?;
        Ok(Self { number: number.parse().map_err(|_| ParseHeadError)?, hash })
    }
}
