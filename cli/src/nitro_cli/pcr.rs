//! `nitro-cli pcr`: what a file, or a signing certificate, measures to.

use std::fs::File;
use std::io;
use std::path::Path;

use attestation::pcr::Pcr;
use serde::Serialize;
use sha2::{Digest, Sha384};

use super::args::PcrArgs;
use super::codes::Code;
use super::error::{Error, Result};
use super::output;
use super::run_settings::missing;
use crate::input;

#[derive(Debug, Serialize)]
enum Printed {
    #[serde(rename = "PCR")]
    File(Pcr),
    #[serde(rename = "PCR8")]
    Certificate(Pcr),
}

pub(super) fn pcr(args: &PcrArgs) -> Result<()> {
    let printed = match (&args.signing_certificate, &args.input) {
        (Some(path), _) => Printed::Certificate(of_certificate(path)?),
        (None, Some(path)) => Printed::File(of_file(path)?),
        (None, None) => return Err(missing("input")),
    };
    output::print(&printed)
}

/// The register that measures a file's bytes, of any length.
fn of_file(path: &Path) -> Result<Pcr> {
    let mut file = open(path)?;
    let mut hash = Sha384::new();
    io::copy(&mut file, &mut HashWriter(&mut hash)).map_err(|error| Error::file(path, "Read", &error))?;
    Ok(Pcr::measuring(&hash.finalize().into()))
}

fn of_certificate(path: &Path) -> Result<Pcr> {
    open(path)?;
    let certificate = input::signing_certificate(path).map_err(|failure| Error::of(Code::HASHER, failure))?;
    Ok(certificate.pcr8())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::file(path, "Open", &error))
}

/// Hashes what is written to it.
struct HashWriter<'h>(&'h mut Sha384);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
