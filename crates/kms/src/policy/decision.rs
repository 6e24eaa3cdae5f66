//! A decision that explains itself. Its texts are safe to log: control characters escaped, lengths bounded.

use core::fmt;

use serde::Serialize;

use super::document::Effect;

/// What was decided about a request, and what each statement had to do with it. Displayed, it is lines for the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Decision {
    allowed: bool,
    reason: String,
    statements: Vec<StatementReport>,
}

/// What one statement had to do with a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatementReport {
    effect: Effect,
}

impl Decision {
    /// True if the request may be done.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        self.allowed
    }

    /// One line: what decided. Fit for the audit log's `reason`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What each statement had to do with it, key policy first.
    #[must_use]
    pub fn statements(&self) -> &[StatementReport] {
        &self.statements
    }

    pub(super) fn denied(reason: &str) -> Self {
        Self { allowed: false, reason: reason.to_owned(), statements: Vec::new() }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
