//! `enclave kms backup` and `enclave kms rotate-master-key`.

use kms::store;
use serde::Serialize;

use super::{folder, serve};
use crate::args::{KmsBackupArgs, KmsRotateArgs};
use crate::error::{Failure, Result};
use crate::output;

/// A copy of the database, made while the service runs.
pub(super) fn backup(args: &KmsBackupArgs) -> Result<()> {
    let config = serve::load(&folder(&args.folder)?)?;
    let failed = |error| Failure::advised(error, "check the path and the file system");
    store::backup_from(&config.database, &args.to, &config.master_key).map_err(failed)?;
    let bytes = args.to.metadata().map_err(|error| Failure::file("read", &args.to, &error))?.len();
    let report = Backup {
        database: config.database.display().to_string(),
        backup: args.to.display().to_string(),
        bytes,
    };
    output::print(args.output.format, &report, |report| {
        format!(
            "Backed up {} to {} ({} bytes, checked).\nIt opens under the master key of this moment and no other: keep that too, elsewhere.\n",
            report.database, report.backup, report.bytes
        )
    })
}

/// A new master key in the place of the old one.
pub(super) fn rotate(args: &KmsRotateArgs) -> Result<()> {
    let config = serve::load(&folder(&args.folder)?)?;
    let failed = |error| Failure::advised(error, "stop the service, then try again");
    let rotated = store::rotate(&config.database, &config.master_key).map_err(failed)?;
    let report = Rotation {
        keys: rotated.keys,
        aliases: rotated.aliases,
        old_master_key: config.master_key.old().map(|path| path.display().to_string()),
    };
    output::print(args.output.format, &report, |report| {
        let kept = match &report.old_master_key {
            Some(old) => format!(
                "The old one is now {old}: backups made before need it. Make a new backup; remove the old key with the old backups.\n"
            ),
            None => "Give the service the new credential under the old one's name; until then it opens with either.\n"
                .to_owned(),
        };
        format!(
            "Sealed {} and {} under a new master key. {kept}",
            output::plural(report.keys, "key", "keys"),
            output::plural(report.aliases, "alias", "aliases")
        )
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Backup {
    database: String,
    backup: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rotation {
    keys: usize,
    aliases: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_master_key: Option<String>,
}
