//! SHA-256 digests by which container images name their parts.

use core::fmt;
use core::str::FromStr;

use sha2::{Digest as _, Sha256};

/// What a digest begins with as text. Other algorithms exist in the specification and hardly anywhere else.
const ALGORITHM: &str = "sha256:";

/// A digest, as text `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest of the form sha256:<64 hexadecimal digits>")]
pub struct NotADigest(String);

impl Digest {
    /// The digest of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that a hash ends in.
    #[must_use]
    pub fn finish(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// The 64 hexadecimal digits, which are a file's name in layouts.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let wrong = || NotADigest(text.chars().take(100).collect());
        let digits = text.strip_prefix(ALGORITHM).ok_or_else(wrong)?;
        // Upper-case digits would name another file.
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| wrong())?;
        Ok(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sha256sum` of nothing.
    const NOTHING: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        assert_eq!(Digest::of(b"").to_string(), NOTHING);
        assert_eq!(NOTHING.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn what_could_name_another_file_is_no_digest() {
        let digits = &NOTHING[7..];
        for text in [
            "",
            digits,
            &NOTHING[..70],
            &format!("{NOTHING}0"),
            &format!("sha512:{digits}{digits}"),
            &NOTHING.to_uppercase(),
            &NOTHING.replace("e3b0", "E3B0"),
            &NOTHING.replace("e3b0c4", "../../"),
            &NOTHING.replace('e', "é"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
