//! Known mistakes in policies that are valid.

use serde::Serialize;

use super::document::{IdentityPolicy, Policy};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// Not what was meant.
    Error,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The statement, counted from 0; none if it is about the policy as a whole.
    pub statement: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub advice: String,
}

/// The mistakes in the policy of a key.
#[must_use]
pub fn lint(_policy: &Policy) -> Vec<Finding> {
    Vec::new()
}

/// The mistakes in the policy of a caller.
#[must_use]
pub fn lint_identity(_policy: &IdentityPolicy) -> Vec<Finding> {
    Vec::new()
}
