//! The evaluation of policies.

use super::decision::Decision;
use super::document::{IdentityPolicy, Policy};
use super::request::Request;

/// A key's policy and the caller's identity policy together, as KMS combines them.
///
/// An explicit Deny in either refuses. An Allow for the caller in the key policy suffices; one for the account leaves it to the
/// identity policy. Operations without a key (`key` is `None`) are decided by the identity policy alone.
#[must_use]
pub fn decide(_key: Option<&Policy>, _identity: Option<&IdentityPolicy>, _request: &Request<'_>) -> Decision {
    Decision::denied("policies are not evaluated yet")
}

/// What CreateKey and PutKeyPolicy ask before they take a policy, unless BypassPolicyLockoutSafetyCheck is set: may the caller
/// change it again? `request` is theirs; its action is not looked at.
///
/// # Errors
/// The decision that would keep the caller out.
pub fn check_lockout(_policy: &Policy, _request: &Request<'_>) -> Result<(), Box<Decision>> {
    Err(Box::new(Decision::denied("policies are not evaluated yet")))
}
