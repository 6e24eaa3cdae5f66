//! Reading policies that the user names.

use std::fmt::Display;
use std::path::Path;

use kms::policy::{IdentityPolicy, MAX_POLICY_BYTES, Policy, PolicyError};

use crate::error::{Failure, Result};
use crate::input;

/// Exit status if something cannot be read, or would be refused.
pub(super) const STATUS_TROUBLE: u8 = 2;
/// A little more than any policy, so that one that is too long is refused as a policy is.
const MAX_POLICY_FILE: u64 = 2 * MAX_POLICY_BYTES as u64;

/// The policy of a key.
pub(super) fn key_policy(path: &Path) -> Result<Policy> {
    read(path, Policy::parse)
}

/// The policy of a caller.
pub(super) fn identity_policy(path: &Path) -> Result<IdentityPolicy> {
    read(path, IdentityPolicy::parse)
}

/// What stands in the file of a policy.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = input::read_bounded(path, MAX_POLICY_FILE, "the policy")?;
    String::from_utf8(bytes).map_err(|_| refused(path, "it is not UTF-8"))
}

fn read<T>(path: &Path, parse: impl Fn(&str) -> core::result::Result<T, PolicyError>) -> Result<T> {
    parse(&text(path)?).map_err(|error| refused(path, error))
}

fn refused(path: &Path, cause: impl Display) -> Failure {
    Failure::new(
        format_args!("{} is refused: {cause}", path.display()),
        "mend that place; the service would refuse the policy too (docs/kms.md says what it knows)",
    )
}
