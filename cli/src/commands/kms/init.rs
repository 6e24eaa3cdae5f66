//! `enclave kms init`: the folder of a new service.

use std::path::Path;
use std::time::SystemTime;

use kms::server::config::Added;
use kms::server::setup::{self, Wishes};
use kms::store::{MasterKeySource, PinSource, Token};
use serde::Serialize;

use super::principal::{AccessKey, environment};
use super::{folder, serve};
use crate::args::{KmsInitArgs, MasterKeyArgs};
use crate::error::{Failure, Result};
use crate::output;

pub(super) fn init(args: &KmsInitArgs) -> Result<()> {
    // Before there is a master key in this process.
    serve::keep_secrets_inside()?;
    let folder = folder(&args.folder)?;
    let wishes = Wishes {
        account: args.account.clone(),
        region: args.region.clone(),
        listen: args.listen,
        names: args.names.clone(),
        master_key: master_key(&args.master_key)?,
    };
    let made = setup::make(&folder, &wishes, SystemTime::now())
        .map_err(|error| Failure::advised(error, "check the folder, or choose another with --dir"))?;
    let report = Report::new(args, &folder, &made);
    output::print(args.output.format, &report, Report::text)
}

/// Where the master key is to be; the parser saw to it that the options go together.
fn master_key(args: &MasterKeyArgs) -> Result<MasterKeySource> {
    if let Some(name) = &args.credential {
        return Ok(MasterKeySource::Credential(name.clone()));
    }
    let (Some(module), Some(token), Some(pin)) = (&args.module, &args.token_label, &args.pin) else {
        return Ok(MasterKeySource::File(setup::MASTER_KEY.into()));
    };
    // The service has another working folder.
    let absolute = |path| std::path::absolute(path).map_err(|error| Failure::file("find", path, &error));
    Ok(MasterKeySource::Token(Token {
        module: absolute(module)?,
        token: token.clone(),
        key: args.key_label.clone(),
        pin: PinSource::File(absolute(pin)?),
        wrapped: setup::WRAPPED_MASTER_KEY.into(),
        program: None,
    }))
}

/// What its operator has to keep.
fn to_be_kept(args: &MasterKeyArgs, folder: &Path) -> String {
    let elsewhere = |name: &str| {
        format!(
            "Back up {} to another place than the database: without it no key can be read.",
            folder.join(name).display()
        )
    };
    match (&args.credential, &args.module) {
        (Some(name), _) => {
            format!("Keep the credential {name} in another place too: without it no key can be read.")
        }
        (None, Some(_)) => {
            format!("{}\nSo it is without the token.", elsewhere(setup::WRAPPED_MASTER_KEY))
        }
        (None, None) => elsewhere(setup::MASTER_KEY),
    }
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
    #[serde(skip)]
    to_be_kept: String,
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
            to_be_kept: to_be_kept(&args.master_key, folder),
        }
    }

    fn text(&self) -> String {
        format!(
            "\
Made a key service in {folder}. Start it:
  enclave kms serve --dir {folder}

Its administrator's access key is shown this once. For AWS's command line and SDKs:
{environment}  export AWS_REGION={region} AWS_DEFAULT_REGION={region}
  export AWS_ENDPOINT_URL_KMS={endpoint}
  export AWS_CA_BUNDLE={authority}
  aws kms create-key

{to_be_kept}
",
            folder = self.folder,
            environment = environment(&self.administrator),
            region = self.region,
            endpoint = self.endpoint,
            authority = self.authority,
            to_be_kept = self.to_be_kept,
        )
    }
}
