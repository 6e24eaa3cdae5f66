//! The operations that can answer for a recipient.
//!
//! AWS KMS API Reference: the operations with a request parameter `Recipient` and a response element `CiphertextForRecipient`.

/// What every operation's name begins with in the header `X-Amz-Target`.
pub const TARGET_PREFIX: &str = "TrentService.";

/// An operation whose answer holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretOperation {
    /// Opens a ciphertext.
    Decrypt,
    /// Agrees on a secret with somebody's public key.
    DeriveSharedSecret,
    /// Makes a data key.
    GenerateDataKey,
    /// Makes a data key pair.
    GenerateDataKeyPair,
    /// Makes random bytes.
    GenerateRandom,
}

impl SecretOperation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Decrypt,
        Self::DeriveSharedSecret,
        Self::GenerateDataKey,
        Self::GenerateDataKeyPair,
        Self::GenerateRandom,
    ];

    /// The operation of this name, as it follows [`TARGET_PREFIX`]; none if it is another operation.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "Decrypt",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::GenerateDataKeyPair => "GenerateDataKeyPair",
            Self::GenerateRandom => "GenerateRandom",
        }
    }

    /// The member of the answer that holds the secret when there is no recipient.
    #[must_use]
    pub const fn secret_member(self) -> &'static str {
        match self {
            Self::Decrypt | Self::GenerateDataKey | Self::GenerateRandom => "Plaintext",
            Self::DeriveSharedSecret => "SharedSecret",
            Self::GenerateDataKeyPair => "PrivateKeyPlaintext",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_five_operations_of_awss_reference_carry_a_recipient() {
        let members = [
            ("Decrypt", "Plaintext"),
            ("DeriveSharedSecret", "SharedSecret"),
            ("GenerateDataKey", "Plaintext"),
            ("GenerateDataKeyPair", "PrivateKeyPlaintext"),
            ("GenerateRandom", "Plaintext"),
        ];
        for (name, member) in members {
            assert_eq!(SecretOperation::named(name).unwrap().secret_member(), member);
        }
        for other in ["Encrypt", "ReEncrypt", "GenerateDataKeyWithoutPlaintext", "decrypt", "", "Decrypt "] {
            assert_eq!(SecretOperation::named(other), None, "{other}");
        }
    }
}
