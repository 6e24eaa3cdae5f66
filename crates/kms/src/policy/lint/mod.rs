//! Known mistakes in policies that are valid.
//!
//! What counts is what a request *without* a document can get: conditions on attestation are there to keep it out.

mod conditions;
mod overlap;

use serde::Serialize;

use self::overlap::{beside_attested, lockout};
use super::condition::operator::Comparison;
use super::condition::{Condition, values::Values};
use super::document::{Effect, IdentityPolicy, Listed, Policy, Statement};
use super::principals::Principal;

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
    /// The statement's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub advice: String,
}

/// The mistakes in the policy of a key, in the order of its statements.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Finding> {
    let mut findings = Findings::new(&policy.statements);
    for (index, statement) in policy.statements.iter().enumerate() {
        open_to_everyone(index, statement, &mut findings);
        aliases(index, statement, &mut findings);
    }
    lockout(&policy.statements, &mut findings);
    findings.of_any_policy()
}

/// The mistakes in the policy of a caller, in the order of its statements.
#[must_use]
pub fn lint_identity(policy: &IdentityPolicy) -> Vec<Finding> {
    Findings::new(&policy.statements).of_any_policy()
}

/// Findings as they are made.
struct Findings<'a> {
    statements: &'a [Statement],
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    const fn new(statements: &'a [Statement]) -> Self {
        Self { statements, found: Vec::new() }
    }

    fn add(
        &mut self,
        severity: Severity,
        statement: Option<usize>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let sid = statement
            .and_then(|index| self.statements.get(index))
            .and_then(|statement| statement.sid.clone());
        self.found.push(Finding { severity, statement, sid, what: what.into(), advice: advice.into() });
    }

    /// What can be wrong whoever's policy it is; then everything in order.
    fn of_any_policy(mut self) -> Vec<Finding> {
        for (index, statement) in self.statements.iter().enumerate() {
            all_but(index, statement, &mut self);
            conditions::check(index, statement, &mut self);
        }
        beside_attested(self.statements, &mut self);
        self.found.sort_by_key(|finding| (finding.statement, core::cmp::Reverse(finding.severity)));
        self.found
    }
}

fn open_to_everyone(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    let everyone = statement.principals.contains(&Principal::Everyone);
    if statement.effect == Effect::Allow && everyone && statement.conditions.is_empty() {
        findings.add(
            Severity::Error,
            Some(index),
            "Principal \"*\" without a Condition: every caller that the service knows is allowed",
            "name the callers, or add a Condition on kms:RecipientAttestation:ImageSha384",
        );
    }
}

fn aliases(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    let (Listed::These(resources) | Listed::AllBut(resources)) = &statement.resources;
    if resources.iter().any(|pattern| pattern.as_str().contains(":alias/")) {
        findings.add(
            Severity::Warning,
            Some(index),
            "Resource names an alias, but requests are judged by the ARN of the key, also those that name an alias",
            "write \"*\", which in the policy of a key is that key; to ask for the alias, add a Condition on kms:RequestAlias",
        );
    }
}

fn all_but(index: usize, statement: &Statement, findings: &mut Findings<'_>) {
    if statement.effect == Effect::Allow && matches!(statement.actions, Listed::AllBut(_)) {
        findings.add(
            Severity::Warning,
            Some(index),
            "Allow with NotAction: everything else is allowed, kms:PutKeyPolicy and what is yet to come included",
            "list what is allowed under Action",
        );
    }
}

impl Statement {
    fn covers(&self, action: &str) -> bool {
        self.actions.covers(|pattern| pattern.matches(action))
    }

    /// True if a request without a document cannot match.
    fn is_attested(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.key.register().is_some() && !condition.holds_without_document())
    }

    /// True if it matches each request without a document that its principals, actions and resources are about.
    fn always_without_document(&self) -> bool {
        let attested =
            |condition: &Condition| condition.key.register().is_some() && condition.holds_without_document();
        self.conditions.iter().all(attested)
    }
}

impl Condition {
    /// For a condition on attestation: whether it holds for a request without a document.
    fn holds_without_document(&self) -> bool {
        match self.values {
            Values::Null(absent) => absent,
            _ => self.operator.if_exists || self.operator.is_negated(),
        }
    }

    /// True if it asks for particular values.
    fn pins(&self) -> bool {
        self.operator.comparison != Comparison::Null
            && !self.operator.is_negated()
            && !self.operator.if_exists
    }
}
