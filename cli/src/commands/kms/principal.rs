//! `enclave kms principal`: who may sign requests.

use kms::server::config::{Added, add_principal};
use serde::Serialize;

use super::folder;
use crate::args::KmsPrincipalAddArgs;
use crate::error::{Failure, Result};
use crate::{input, output};

/// Longest identity policy that is looked into; the service takes less.
const MAX_POLICY_FILE: u64 = 64 * 1024;

pub(super) fn add(args: &KmsPrincipalAddArgs) -> Result<()> {
    let folder = folder(&args.folder)?;
    let policy = args.policy.as_deref().map(|path| input::read_bounded(path, MAX_POLICY_FILE, "the policy"));
    let policy = policy.transpose()?.map(String::from_utf8).transpose();
    let policy =
        policy.map_err(|_| Failure::new("the policy is not UTF-8", "give an identity policy in JSON"))?;
    let made = add_principal(&folder, &args.name, policy.as_deref())
        .map_err(|error| Failure::advised(error, "make a service first with `enclave kms init`"))?;
    output::print(args.output.format, &AccessKey::of(&made), |key| {
        format!(
            "Added {}. Its access key is shown this once:\n{}A service that runs reads it at SIGHUP, or when it starts again.\n",
            key.arn,
            environment(key)
        )
    })
}

/// A new access key, for people and their programs.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccessKey<'a> {
    pub(super) arn: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
}

impl<'a> AccessKey<'a> {
    pub(super) fn of(made: &'a Added) -> Self {
        Self { arn: &made.arn, access_key_id: &made.access_key_id, secret_access_key: &made.secret }
    }
}

/// The lines that give it to AWS's command line and SDKs.
pub(super) fn environment(key: &AccessKey<'_>) -> String {
    format!(
        "  export AWS_ACCESS_KEY_ID={}\n  export AWS_SECRET_ACCESS_KEY={}\n",
        key.access_key_id, key.secret_access_key
    )
}
