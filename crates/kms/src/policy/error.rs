//! Why a policy is refused.

use thiserror::Error;

/// A policy that is not put: where, what is wrong, what to write instead. Callers get it as MalformedPolicyDocumentException.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{position}: {problem}")]
pub struct PolicyError {
    position: String,
    problem: String,
}

impl PolicyError {
    /// The position is a path into the policy, such as `Statement[0].Action`, or a line and a column.
    pub(super) fn new(position: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { position: position.into(), problem: problem.into() }
    }
}
