//! A decision that explains itself. Its texts are safe to log: control characters escaped, lengths bounded.

use core::fmt;

use serde::Serialize;

use super::document::Effect;
use super::text::quoted;

/// Most characters of a reason: two registers, an ARN, and the words around them.
pub const MAX_REASON: usize = 800;
/// Most lines of an explanation; further statements are counted.
pub const MAX_LINES: usize = 200;

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// In the policy of the key.
    Key,
    /// In the policy of the caller.
    Identity,
}

/// What a statement had to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is about the request.
    Matched,
    /// It is about the request by naming the caller's account: an Allow leaves it to the caller's policy.
    Delegated,
    /// It is not.
    Unmatched,
}

/// An element or a condition that keeps a statement from matching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mismatch {
    /// `Principal`, `Action`, `Resource`, or `Condition`, its operator and its key.
    pub element: String,
    /// What the statement asks for.
    pub expected: String,
    /// What the request has.
    pub presented: String,
}

/// What one statement had to do with a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatementReport {
    /// Whose policy it stands in.
    pub policy: Source,
    /// Its place in the policy, counted from 0.
    pub statement: usize,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// What it does when it matches.
    pub effect: Effect,
    /// Whether it did.
    pub outcome: Outcome,
    /// Why it did not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<Mismatch>,
}

/// What was decided about a request, and what each statement had to do with it. Displayed, it is lines for the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Decision {
    allowed: bool,
    reason: String,
    statements: Vec<StatementReport>,
}

impl Decision {
    pub(super) fn new(allowed: bool, reason: String, statements: Vec<StatementReport>) -> Self {
        Self { allowed, reason: shortened(reason), statements }
    }

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
}

impl StatementReport {
    /// How messages call the statement.
    pub(super) fn name(&self) -> String {
        let policy = match self.policy {
            Source::Key => "key policy",
            Source::Identity => "identity policy",
        };
        let sid = self.sid.as_deref().map_or_else(String::new, |sid| format!(" {}", quoted(sid)));
        format!("{policy}, Statement[{}]{sid}", self.statement)
    }

    fn lines(&self, lines: &mut Vec<String>) {
        let outcome = match self.outcome {
            Outcome::Matched => "matches",
            Outcome::Delegated => "matches the caller's account: the identity policy decides",
            Outcome::Unmatched => "does not match",
        };
        lines.push(format!("  {} ({}) {outcome}", self.name(), self.effect));
        for mismatch in &self.mismatches {
            lines.push(format!("    {}", mismatch.element));
            lines.push(format!("      expected:  {}", mismatch.expected));
            lines.push(format!("      presented: {}", mismatch.presented));
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, presented {}", self.element, self.expected, self.presented)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        write!(f, "{verdict}: {}", self.reason)?;
        let mut lines = Vec::new();
        for (index, report) in self.statements.iter().enumerate() {
            if lines.len() >= MAX_LINES {
                let left = self.statements.len().saturating_sub(index);
                lines.push(format!("  and {left} more statements"));
                break;
            }
            report.lines(&mut lines);
        }
        lines.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

fn shortened(reason: String) -> String {
    if reason.chars().count() <= MAX_REASON {
        return reason;
    }
    reason.chars().take(MAX_REASON).chain(['\u{2026}']).collect()
}
