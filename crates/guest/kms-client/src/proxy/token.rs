//! The token that programs show before they are given credentials.
//!
//! An application that can be made to fetch a URL (server-side request forgery) could otherwise be made to fetch the credentials. SDKs
//! take the token from `AWS_CONTAINER_AUTHORIZATION_TOKEN` and send it as it is in the header `Authorization`: "Container credential
//! provider" in the [AWS SDKs and Tools Reference Guide].
//!
//! [AWS SDKs and Tools Reference Guide]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use getrandom::SysRng;
use rand_core::TryRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Random bytes in a token.
const BYTES: usize = 32;

/// A token of this start of the helper. It is never written anywhere but into the application's environment.
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// If the kernel has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        SysRng.try_fill_bytes(&mut *bytes)?;
        Ok(Self(Zeroizing::new(Base64UrlUnpadded::encode_string(&*bytes))))
    }

    /// As programs must show it: letters, digits, `-` and `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is it. Takes as long wherever the difference is.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = Token::new().unwrap();
        let text = token.as_str();
        assert!(token.is(text.as_bytes()));
        for other in
            ["", "Bearer ", &text[1..], &text[..text.len() - 1], &format!("{text} "), &"A".repeat(text.len())]
        {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn each_token_is_another_with_256_bits_that_may_stand_in_a_header() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(Base64UrlUnpadded::decode_vec(one.as_str()).unwrap().len(), 32);
    }

    #[test]
    fn a_token_does_not_show_in_messages() {
        let token = Token::new().unwrap();
        assert!(!format!("{token:?}").contains(token.as_str()));
    }
}
