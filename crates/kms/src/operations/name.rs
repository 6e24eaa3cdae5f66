//! How requests name keys: by id, by ARN, by alias, by the ARN of an alias.

use core::fmt;

use crate::error::{ErrorKind, KmsError};
use crate::key::KeyId;

/// Longest name of a key (`KeyIdType`), in bytes.
pub(super) const MAX_KEY_NAME: usize = 2048;
/// Longest name of an alias (`AliasNameType`), in bytes.
const MAX_ALIAS: usize = 256;
/// How every alias begins.
const ALIAS: &str = "alias/";
/// How the aliases begin that are AWS's own.
const RESERVED: &str = "alias/aws/";
/// What a key's part of an ARN begins with.
const KEY: &str = "key/";

/// A name, taken apart. That it is right does not mean that the key is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyName {
    Id(KeyId),
    Alias(AliasName),
}

/// The name of an alias, with its `alias/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AliasName(String);

/// Where this service's keys are: what all of its ARNs have in common.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `arn:aws:kms:REGION:ACCOUNT:`
    prefix: String,
}

impl Place {
    pub(super) fn new(region: &str, account: &str) -> Self {
        Self { prefix: format!("arn:aws:kms:{region}:{account}:") }
    }

    pub(super) fn key_arn(&self, key: &KeyId) -> String {
        format!("{}{KEY}{key}", self.prefix)
    }

    pub(super) fn alias_arn(&self, alias: &AliasName) -> String {
        format!("{}{alias}", self.prefix)
    }

    /// Any name of a key.
    pub(super) fn parse(&self, name: &str) -> Result<KeyName, KmsError> {
        if name.is_empty() || name.len() > MAX_KEY_NAME {
            return Err(KmsError::new(
                ErrorKind::Validation,
                format!("the name of a key has 1 to {MAX_KEY_NAME} bytes"),
            ));
        }
        let local = if name.starts_with("arn:") { self.local(name)? } else { name };
        if local.starts_with(ALIAS) {
            return AliasName::parse(local).map(KeyName::Alias);
        }
        // Within an ARN a key is key/ID, by itself it is ID.
        let id = if local.len() == name.len() { Some(local) } else { local.strip_prefix(KEY) };
        id.and_then(|id| id.parse().ok()).map(KeyName::Id).ok_or_else(|| invalid(name))
    }

    /// The name of a key where AWS takes no alias.
    pub(super) fn parse_without_alias(&self, name: &str) -> Result<KeyId, KmsError> {
        match self.parse(name)? {
            KeyName::Id(id) => Ok(id),
            KeyName::Alias(_) => Err(invalid(name)),
        }
    }

    /// What follows region and account in an ARN of ours.
    fn local<'a>(&self, arn: &'a str) -> Result<&'a str, KmsError> {
        if arn.split(':').count() < 6 {
            return Err(KmsError::new(ErrorKind::InvalidArn, format!("{arn} is not a valid ARN")));
        }
        arn.strip_prefix(&self.prefix).ok_or_else(|| {
            KmsError::new(
                ErrorKind::NotFound,
                format!("{arn} is in another place: ARNs here begin with {}", self.prefix),
            )
        })
    }
}

impl AliasName {
    /// Reads the name of an alias that may be there.
    pub(super) fn parse(name: &str) -> Result<Self, KmsError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        match name.strip_prefix(ALIAS) {
            Some(rest) if !rest.is_empty() && name.len() <= MAX_ALIAS && rest.bytes().all(legal) => {
                Ok(Self(name.to_owned()))
            }
            _ => Err(KmsError::new(
                ErrorKind::Validation,
                format!(
                    "an alias is alias/ and letters, digits, ':', '/', '_' and '-', \
                     at most {MAX_ALIAS} bytes"
                ),
            )),
        }
    }

    /// Reads the name of an alias that is to be made, changed or removed: not one of AWS's own.
    pub(super) fn parse_own(name: &str) -> Result<Self, KmsError> {
        let alias = Self::parse(name)?;
        if name.starts_with(RESERVED) {
            return Err(KmsError::new(
                ErrorKind::InvalidAliasName,
                format!("aliases that begin with {RESERVED} are reserved"),
            ));
        }
        Ok(alias)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn invalid(name: &str) -> KmsError {
    KmsError::new(ErrorKind::NotFound, format!("Invalid keyId '{name}'"))
}
