//! `enclave kms log verify`.

use std::fs::File;
use std::io::BufReader;

use kms::audit;

use super::{folder, serve};
use crate::args::KmsLogVerifyArgs;
use crate::error::{Failure, Result};
use crate::output::{self, Fields};

/// Follows the chain of a service's log from its first line.
pub(super) fn verify(args: &KmsLogVerifyArgs) -> Result<()> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => serve::load(&folder(&args.folder)?)?.audit_log,
    };
    let file = File::open(&path).map_err(|error| Failure::file("open", &path, &error))?;
    let summary = audit::verify(BufReader::new(file), args.head.as_ref()).map_err(|error| {
        Failure::advised(format_args!("{}: {error}", path.display()), "find out who can write the log")
    })?;
    output::print(args.output.format, &summary, |summary| {
        let mut fields = Fields::default();
        fields.add("Entries", summary.entries);
        if summary.unfinished > 0 {
            fields.add("Lines cut by a crash", summary.unfinished);
        }
        fields.add("Head", &summary.head);
        fields.render(0)
    })
}
