//! A policy as it is kept after reading.

use core::fmt;
use std::collections::BTreeSet;

use serde::Serialize;

use super::action::ActionPattern;
use super::condition::Condition;
use super::error::PolicyError;
use super::parse::{Owner, statements};
use super::pattern::Pattern;
use super::principals::Principal;

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
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// The policy of a caller: no statement has a Principal.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityPolicy {
    pub(super) statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    /// Empty in the policy of a caller: it is about that caller.
    pub(super) principals: Vec<Principal>,
    pub(super) actions: Listed<ActionPattern>,
    pub(super) resources: Listed<Pattern>,
    pub(super) conditions: Vec<Condition>,
}

/// An element that lists what it is about, or what it is not about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Listed<T> {
    /// `Action`, `Resource`.
    These(Vec<T>),
    /// `NotAction`, `NotResource`.
    AllBut(Vec<T>),
}

impl<T> Listed<T> {
    /// True if the element stands for what `matches` finds in its list.
    pub(super) fn covers(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::These(list) => list.iter().any(matches),
            Self::AllBut(list) => !list.iter().any(matches),
        }
    }
}

impl Policy {
    /// Reads the policy of a key.
    ///
    /// # Errors
    /// It is not JSON, too large, or holds anything that this service does not know.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        statements(json, Owner::Key).map(|statements| Self { statements })
    }

    /// The callers whom statements name: users, roles and sessions, each once.
    #[must_use]
    pub fn callers(&self) -> Vec<&str> {
        let named = self.principals().filter_map(|principal| match principal {
            Principal::Arn(arn) => Some(arn.as_str()),
            Principal::Everyone | Principal::Account(_) => None,
        });
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The first account that a statement names as a whole.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.principals().find_map(|principal| match principal {
            Principal::Account(account) => Some(account.as_str()),
            Principal::Everyone | Principal::Arn(_) => None,
        })
    }

    fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.statements.iter().flat_map(|statement| &statement.principals)
    }
}

impl IdentityPolicy {
    /// Reads the policy of a caller.
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        statements(json, Owner::Identity).map(|statements| Self { statements })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        })
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
