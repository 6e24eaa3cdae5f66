//! A policy as it is kept after reading.

use serde::Serialize;

use super::error::PolicyError;

/// What a statement does to the requests that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Effect {
    /// Grants them.
    Allow,
    /// Refuses them, whatever else is granted.
    Deny,
}

/// The policy of a key: every statement has a Principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {}

/// The policy of a caller: no statement has a Principal.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityPolicy {}

impl Policy {
    /// Reads the policy of a key.
    ///
    /// # Errors
    /// It is not JSON, too large, or holds anything that this service does not know.
    pub fn parse(_json: &str) -> Result<Self, PolicyError> {
        Err(PolicyError::new("policy", "not readable yet"))
    }
}

impl IdentityPolicy {
    /// Reads the policy of a caller.
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn parse(_json: &str) -> Result<Self, PolicyError> {
        Err(PolicyError::new("policy", "not readable yet"))
    }
}

/// The policy that AWS gives a key made without one: the account may do everything, which leaves it to identity policies.
#[must_use]
pub fn default_key_policy(account: &str) -> String {
    format!(
        "{{\"Version\":\"2012-10-17\",\"Id\":\"key-default-1\",\"Statement\":[{{\"Sid\":\"Enable IAM User Permissions\",\"Effect\":\"Allow\",\
         \"Principal\":{{\"AWS\":\"arn:aws:iam::{account}:root\"}},\"Action\":\"kms:*\",\"Resource\":\"*\"}}]}}"
    )
}
