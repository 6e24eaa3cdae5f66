//! Key policies and identity policies in the JSON language of AWS.
//!
//! [`Policy::parse`] refuses what it does not know: an element, operator, key or action that would be ignored is a hole in
//! somebody's policy. [`decide`] says yes or no, and says why. [`lint`] finds policies that mean something other than what they
//! look like.
//!
//! Specification: AWS IAM user guide, "IAM JSON policy elements reference", "Policy evaluation logic"; AWS KMS developer guide,
//! "Key policies in AWS KMS", "Condition keys for AWS KMS", "AWS KMS condition keys for AWS Nitro Enclaves".

mod decide;
mod decision;
mod document;
mod error;
pub mod lint;
mod request;

pub use self::decide::{check_lockout, decide};
pub use self::decision::{Decision, StatementReport};
pub use self::document::{Effect, IdentityPolicy, Policy, default_key_policy};
pub use self::error::PolicyError;
pub use self::request::{Attestation, Request};
