//! Amazon Resource Names: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
//!
//! Specification: AWS IAM user guide, "IAM identifiers"; service authorization reference.

/// Digits of an account's number.
const ACCOUNT_DIGITS: usize = 12;

/// The parts of an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) partition: &'a str,
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// `None` if `text` has not six parts, of which the first is `arn`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        Some(Self {
            partition: parts.next()?,
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        })
    }

    /// For a session of a role: the role's name.
    pub(super) fn assumed_role(self) -> Option<&'a str> {
        let rest = self.resource.strip_prefix("assumed-role/").filter(|_| self.service == "sts")?;
        rest.split_once('/').map(|(role, _session)| role)
    }

    /// For a role: its name, without the path. Names are unique in an account whatever the path.
    pub(super) fn role(self) -> Option<&'a str> {
        let rest = self.resource.strip_prefix("role/").filter(|_| self.service == "iam")?;
        rest.rsplit('/').next()
    }
}

/// The account in an ARN; none if `arn` is no ARN or its account has not 12 digits.
#[must_use]
pub fn account_of(arn: &str) -> Option<&str> {
    Arn::parse(arn).map(|arn| arn.account).filter(|account| is_account(account))
}

/// True for 12 digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for `aws` and its like: `aws-cn`, `aws-us-gov`.
pub(super) fn is_partition(text: &str) -> bool {
    text.split('-').enumerate().all(|(place, word)| {
        if place == 0 {
            word == "aws"
        } else {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_a_part_is_no_arn() {
        for text in ["", "arn", "arn:aws:iam::123456789012", "urn:aws:iam::123456789012:root"] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_session_and_its_role_have_one_name() {
        let session = Arn::parse("arn:aws:sts::123456789012:assumed-role/App/i-1").unwrap();
        let role = Arn::parse("arn:aws:iam::123456789012:role/path/of/App").unwrap();
        assert_eq!((session.assumed_role(), session.role()), (Some("App"), None));
        assert_eq!((role.assumed_role(), role.role()), (None, Some("App")));
    }

    #[test]
    fn accounts_and_partitions_have_a_form() {
        assert!(is_account("000000000000"));
        assert!(!is_account("00000000000") && !is_account("0000000000000") && !is_account("00000000000x"));
        assert!(is_partition("aws") && is_partition("aws-us-gov"));
        assert!(!is_partition("") && !is_partition("gcp") && !is_partition("aws-") && !is_partition("*"));
    }
}
