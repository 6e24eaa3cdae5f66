//! Key policies and identity policies in the JSON language of AWS.
//!
//! [`Policy::parse`] refuses what it does not know: an element, operator, key or action that would be ignored is a hole in
//! somebody's policy. [`decide`] says yes or no, and says why. [`lint`] finds policies that mean something other than what they
//! look like.
//!
//! Specification: AWS IAM user guide, "IAM JSON policy elements reference", "Policy evaluation logic"; AWS KMS developer guide,
//! "Key policies in AWS KMS", "Condition keys for AWS KMS", "AWS KMS condition keys for AWS Nitro Enclaves".

mod action;
mod arn;
mod condition;
mod decide;
mod decision;
mod document;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod json;
pub mod lint;
mod parse;
mod pattern;
mod principals;
mod request;
mod text;
mod variable;

pub use self::action::canonical_action;
pub use self::arn::account_of;
pub use self::decide::{check_lockout, decide};
pub use self::decision::{Decision, MAX_LINES, MAX_REASON, Mismatch, Outcome, Source, StatementReport};
pub use self::document::{Effect, IdentityPolicy, Policy, default_key_policy};
pub use self::error::PolicyError;
pub use self::parse::{
    MAX_CONDITIONS, MAX_IDENTITY_POLICY_BYTES, MAX_POLICY_BYTES, MAX_STATEMENTS, MAX_VALUES,
};
pub use self::request::{Attestation, Request};
