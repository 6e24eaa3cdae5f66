//! The element Principal: whom a statement of a key's policy is about.
//!
//! Specification: AWS IAM user guide, "AWS JSON policy elements: Principal".

use core::fmt;

use super::arn::{Arn, is_account, is_partition};
use super::error::PolicyError;
use super::text::quoted;

/// One principal of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// `*`.
    Everyone,
    /// An account: its 12 digits, or the ARN of its root. An Allow leaves it to the account's identity policies.
    Account(String),
    /// A user, a role or a session.
    Arn(String),
}

/// How a principal stands for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// It names the caller, or everyone.
    Direct,
    /// It names the caller's account.
    Account,
}

impl Principal {
    pub(super) fn parse(text: &str, at: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Everyone);
        }
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let refuse = |problem: &str| Err(PolicyError::new(at, format!("{} {problem}", quoted(text))));
        if text.contains(['*', '?']) {
            return refuse(
                "has a wildcard, which a Principal cannot; use \"*\" with a Condition on aws:PrincipalArn",
            );
        }
        let Some(arn) = Arn::parse(text) else {
            return refuse("is no principal; write an ARN, an account's 12 digits or \"*\"");
        };
        if !is_partition(arn.partition) || !arn.region.is_empty() || !is_account(arn.account) {
            return refuse(
                "is no principal's ARN; they read arn:aws:iam::ACCOUNT:..., the account in 12 digits",
            );
        }
        if arn.service == "iam" && arn.resource == "root" {
            return Ok(Self::Account(arn.account.to_owned()));
        }
        let kinds: &[&str] = match arn.service {
            "iam" => &["user/", "role/"],
            "sts" => &["assumed-role/", "federated-user/"],
            _ => &[],
        };
        let name = kinds.iter().find_map(|kind| arn.resource.strip_prefix(kind));
        // Of a session the role alone would never match a caller.
        let complete = name.is_some_and(|name| {
            !name.is_empty() && (!arn.resource.starts_with("assumed-role/") || arn.assumed_role().is_some())
        });
        if !complete {
            return refuse("is no principal; users, roles, their sessions, and the root of an account are");
        }
        Ok(Self::Arn(text.to_owned()))
    }

    /// Whether it stands for this caller. A role stands for its sessions.
    pub(super) fn matches(&self, caller: &str) -> Option<Match> {
        let arn = Arn::parse(caller)?;
        match self {
            Self::Everyone => Some(Match::Direct),
            Self::Account(account) if account == arn.account => {
                let root = arn.service == "iam" && arn.resource == "root";
                Some(if root { Match::Direct } else { Match::Account })
            }
            Self::Account(_) => None,
            Self::Arn(text) => (text == caller || is_session_of(arn, text)).then_some(Match::Direct),
        }
    }
}

/// True if the caller is a session of the role.
fn is_session_of(caller: Arn<'_>, role: &str) -> bool {
    let Some(role) = Arn::parse(role) else { return false };
    let name = caller.assumed_role();
    name.is_some()
        && name == role.role()
        && caller.account == role.account
        && caller.partition == role.partition
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("*"),
            Self::Account(account) => write!(f, "account {account}"),
            Self::Arn(arn) => f.write_str(arn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "arn:aws:iam::123456789012:user/team/Alice";
    const ROOT: &str = "arn:aws:iam::123456789012:root";
    const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/App/i-1";

    fn matches(principal: &str, caller: &str) -> Option<Match> {
        Principal::parse(principal, "Principal").unwrap().matches(caller)
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in [
            "",
            "Alice",
            "12345678901",
            "AIDAEXAMPLE",
            "arn:aws:iam::123456789012:user/*",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:group/Admins",
            "arn:aws:iam::12345678901:root",
            "arn:aws:iam:local-1:123456789012:root",
            "arn:gcp:iam::123456789012:root",
            "arn:aws:s3:::bucket",
            "arn:aws:sts::123456789012:assumed-role/App",
            "arn:aws:iam::123456789012:root ",
        ] {
            assert!(Principal::parse(text, "Principal").is_err(), "{text}");
        }
    }

    #[test]
    fn another_caller_is_not_matched() {
        assert_eq!(matches(USER, "arn:aws:iam::123456789012:user/team/Alic"), None);
        assert_eq!(matches(USER, "arn:aws:iam::210987654321:user/team/Alice"), None);
        assert_eq!(matches("210987654321", USER), None);
        assert_eq!(matches("*", "no ARN at all"), None);
    }

    #[test]
    fn an_account_stands_for_its_callers_and_directly_for_its_root() {
        for account in ["123456789012", ROOT] {
            assert_eq!(matches(account, USER), Some(Match::Account));
            assert_eq!(matches(account, ROOT), Some(Match::Direct));
        }
    }

    #[test]
    fn a_role_stands_for_its_sessions_and_for_no_others() {
        assert_eq!(matches("arn:aws:iam::123456789012:role/path/App", SESSION), Some(Match::Direct));
        assert_eq!(matches(SESSION, SESSION), Some(Match::Direct));
        assert_eq!(matches("arn:aws:iam::123456789012:role/Ap", SESSION), None);
        assert_eq!(matches("arn:aws:iam::210987654321:role/App", SESSION), None);
        assert_eq!(matches("arn:aws:iam::123456789012:user/App", SESSION), None);
        assert_eq!(matches("arn:aws:sts::123456789012:assumed-role/App/i-2", SESSION), None);
    }
}
