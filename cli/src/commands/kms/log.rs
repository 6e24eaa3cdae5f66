//! `enclave kms log verify` and `enclave kms log rotate`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use kms::audit::{self, Head, Verification};
use serde::Serialize;

use super::{folder, serve};
use crate::args::{KmsLogRotateArgs, KmsLogVerifyArgs};
use crate::error::{Failure, Result};
use crate::output::{self, Fields, plural};

/// Follows the chain of a service's log from the first line of its first file.
pub(super) fn verify(args: &KmsLogVerifyArgs) -> Result<()> {
    let mut files = args.files.clone();
    if files.is_empty() {
        files.push(serve::load(&folder(&args.folder)?)?.audit_log);
    }
    let mut verification = Verification::new(args.head.as_ref());
    for path in &files {
        let file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
        verification.read(BufReader::new(file)).map_err(|error| not_whole(path, &error))?;
    }
    let last = files.last().map(PathBuf::as_path).unwrap_or(Path::new(""));
    let summary = verification.finish().map_err(|error| not_whole(last, &error))?;
    output::print(args.output.format, &summary, |summary| {
        let mut fields = Fields::default();
        fields.add("Entries", summary.entries);
        if summary.unfinished > 0 {
            fields.add("Lines cut by a crash", summary.unfinished);
        }
        if let Some(before) = &summary.continues {
            fields.add("Goes on behind", format_args!("{before} (in an earlier file, not read)"));
        }
        fields.add("Head", &summary.head);
        fields.render(0)
    })
}

fn not_whole(path: &Path, error: &audit::VerifyError) -> Failure {
    Failure::advised(format_args!("{}: {error}", path.display()), "find out who can write the log")
}

/// Begins a new file.
pub(super) fn rotate(args: &KmsLogRotateArgs) -> Result<()> {
    let log = serve::load(&folder(&args.folder)?)?.audit_log;
    let rotated = audit::rotate(&log).map_err(|error| {
        Failure::advised(
            error,
            "check the log's folder; of a file with the attribute `a`, take that off (chattr -a)",
        )
    })?;
    let report = Rotation {
        log: log.display().to_string(),
        archive: rotated.archive.display().to_string(),
        entries: rotated.summary.entries,
        head: rotated.summary.head,
    };
    output::print(args.output.format, &report, |report| {
        format!(
            "Began a new log in {}. The one before is now {}: {}, whole.\nKeep it, and its head elsewhere: {}\n",
            report.log,
            report.archive,
            plural(usize::try_from(report.entries).unwrap_or(usize::MAX), "entry", "entries"),
            report.head
        )
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rotation {
    log: String,
    archive: String,
    entries: u64,
    head: Head,
}
