//! `enclave kms principal`: who may sign requests.

use kms::server::config::{Added, add_principal};
use serde::Serialize;

use super::{folder, policies, serve};
use crate::args::KmsPrincipalAddArgs;
use crate::error::{Failure, Result};
use crate::output;

pub(super) fn add(args: &KmsPrincipalAddArgs) -> Result<()> {
    serve::keep_secrets_inside()?;
    let folder = folder(&args.folder)?;
    let policy = args.policy.as_deref().map(policies::text).transpose()?;
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
