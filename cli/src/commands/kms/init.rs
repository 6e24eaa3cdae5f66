//! `enclave kms init`: the folder of a new service.

use std::path::Path;
use std::time::SystemTime;

use kms::server::config::Added;
use kms::server::setup::{self, Wishes};
use serde::Serialize;

use super::folder;
use super::principal::{AccessKey, environment};
use crate::args::KmsInitArgs;
use crate::error::{Failure, Result};
use crate::output;

pub(super) fn init(args: &KmsInitArgs) -> Result<()> {
    let folder = folder(&args.folder)?;
    let wishes = Wishes {
        account: args.account.clone(),
        region: args.region.clone(),
        listen: args.listen,
        names: args.names.clone(),
    };
    let made = setup::make(&folder, &wishes, SystemTime::now())
        .map_err(|error| Failure::advised(error, "check the folder, or choose another with --dir"))?;
    let report = Report::new(args, &folder, &made);
    output::print(args.output.format, &report, Report::text)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    folder: String,
    region: &'a str,
    account: &'a str,
    endpoint: String,
    authority: String,
    administrator: AccessKey<'a>,
}

impl<'a> Report<'a> {
    fn new(args: &'a KmsInitArgs, folder: &Path, made: &'a Added) -> Self {
        Self {
            folder: folder.display().to_string(),
            region: &args.region,
            account: &args.account,
            endpoint: format!("https://{}", args.listen),
            authority: folder.join(setup::AUTHORITY).display().to_string(),
            administrator: AccessKey::of(made),
        }
    }

    fn text(&self) -> String {
        format!(
            "\
Made a key service in {folder}. Start it:
  enclave kms serve{dir}

Its administrator's access key is shown this once. For AWS's command line and SDKs:
{environment}  export AWS_REGION={region} AWS_DEFAULT_REGION={region}
  export AWS_ENDPOINT_URL_KMS={endpoint}
  export AWS_CA_BUNDLE={authority}
  aws kms create-key

Back up {folder}/master.key to another place than the database: without it no key can be read.
",
            folder = self.folder,
            dir = format_args!(" --dir {}", self.folder),
            environment = environment(&self.administrator),
            region = self.region,
            endpoint = self.endpoint,
            authority = self.authority,
        )
    }
}
