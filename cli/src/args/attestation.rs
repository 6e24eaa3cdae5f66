//! Options of the commands for attestation documents and the root of trust.

use std::path::PathBuf;

use attestation::identity::{InstanceId, Role};
use attestation::pcr::{Pcr, PcrIndex};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::OutputArgs;

/// `enclave attest`.
#[derive(Debug, Subcommand)]
pub(crate) enum AttestCommand {
    /// Verify an attestation document: structure, certificate chain, dates, signature, then your expectations
    Verify(VerifyArgs),
}

/// What `enclave attest verify --help` ends with.
const VERIFY_STATUS: &str = "\
Exit status:
   0  every step passed
   1  nothing was judged: a file is missing or unreadable, the policy is none, or options contradict each other
   2  the command line is wrong
   3  structure: it is no attestation document
   4  chain: its certificates do not lead to a root you trust
   5  dates: a certificate is not valid yet, or no longer
   6  signature: it was changed, or signed with another key
   7  age: too old, or from the future
   8  debug: a debug enclave made it
   9  policy: PCRs, signer, user data or public key are others than expected
  10  nonce: it was made for another request";

/// `enclave attest verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_STATUS)]
pub(crate) struct VerifyArgs {
    /// The document: a file of raw bytes, hexadecimal or base64 text; - for standard input
    #[arg(value_name = "DOC")]
    pub(crate) document: PathBuf,

    /// The root certificate to trust (see `enclave pki export-root`); may be given again, and then any of them will do
    #[arg(long, value_name = "PEM", required_unless_present = "policy")]
    pub(crate) root: Vec<PathBuf>,

    /// What to expect, in TOML: roots, sets of PCRs, signers, greatest age (docs/attestation.md); other options add to it
    #[arg(long, value_name = "FILE", conflicts_with = "allow_debug")]
    pub(crate) policy: Option<PathBuf>,

    /// A register's expected value, such as 0=<96 hex digits>; may be given again
    #[arg(long = "pcr", value_name = "N=HEX")]
    pub(crate) pcrs: Vec<ExpectedPcr>,

    /// The nonce that you asked with
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    pub(crate) nonce: Option<Bytes>,

    /// The user data that the document must hold
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    pub(crate) user_data: Option<Bytes>,

    /// The public key that the document must hold (DER)
    #[arg(long, value_name = "HEX", value_parser = hexadecimal)]
    pub(crate) public_key: Option<Bytes>,

    /// The greatest age of the document, by its own time stamp; at most 60 seconds of the future are accepted then
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_age: Option<u64>,

    /// Accept a debug enclave's document, whose PCR 0 is all zeros and proves nothing about the image
    #[arg(long)]
    pub(crate) allow_debug: bool,

    /// Judge dates as of this time: RFC 3339, seconds since 1970, or `document` for the document's own [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Time>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave pki`.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make the root, the host level, an instance id and a role, unless they exist
    Init(PkiInitArgs),
    /// Show subjects, validity, fingerprints, instance id, role and the PCRs that follow
    Show(OutputArgs),
    /// Print the root certificate (PEM) for verifiers
    ExportRoot {
        /// Write to this file instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `enclave pki init`.
#[derive(Debug, Args)]
pub(crate) struct PkiInitArgs {
    /// This host's id, from which PCR 4 follows [default: a random one]
    #[arg(long, value_name = "i-HEX")]
    pub(crate) instance_id: Option<InstanceId>,

    /// This host's role, from which PCR 3 follows [default: one that says it is not AWS's]
    #[arg(long, value_name = "ARN")]
    pub(crate) role: Option<Role>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Bytes of an option. A type of its own, or clap takes `Vec<u8>` for a list of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn hexadecimal(text: &str) -> Result<Bytes, String> {
    hex::decode(text).map(Bytes).map_err(|error| format!("not hexadecimal: {error}"))
}

/// An empty nonce is a variable that nobody set: every document made without one would be taken for fresh.
fn nonce(text: &str) -> Result<Bytes, String> {
    if text.is_empty() {
        return Err("an empty nonce proves nothing: give the one that you asked with".to_owned());
    }
    hexadecimal(text)
}

/// `--pcr N=HEX`.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedPcr {
    pub(crate) index: PcrIndex,
    pub(crate) value: Pcr,
}

impl std::str::FromStr for ExpectedPcr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (index, value) = text.split_once('=').ok_or("write N=HEX, such as 0=<96 hex digits>")?;
        let index = index.parse().ok().and_then(PcrIndex::new).ok_or("N is a number from 0 to 31")?;
        let value = value.parse().map_err(|error: attestation::pcr::ParsePcrError| error.to_string())?;
        Ok(Self { index, value })
    }
}

/// `--at TIME`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Time {
    /// The document's own time stamp.
    OfDocument,
    /// This time.
    Fixed(Timestamp),
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "document" {
            return Ok(Self::OfDocument);
        }
        let parsed = match text.parse::<i64>() {
            Ok(seconds) => Timestamp::from_second(seconds),
            Err(_) => text.parse(),
        };
        parsed.map(Self::Fixed).map_err(|error| {
            format!("write RFC 3339 (2026-11-22T03:00:00Z), seconds since 1970, or document: {error}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_three_forms() {
        let fixed = Time::Fixed(Timestamp::from_second(1_600_000_000).unwrap());
        assert_eq!("document".parse(), Ok(Time::OfDocument));
        assert_eq!("1600000000".parse(), Ok(fixed));
        assert_eq!("2020-09-13T12:26:40Z".parse(), Ok(fixed));
        assert!("yesterday".parse::<Time>().is_err());
        assert!("99999999999999".parse::<Time>().is_err());
    }

    #[test]
    fn an_expected_register_needs_a_number_and_a_value() {
        let value = "ab".repeat(48);
        assert_eq!(format!("31={value}").parse::<ExpectedPcr>().unwrap().index.get(), 31);
        for text in [
            format!("32={value}"),
            format!("x={value}"),
            value.clone(),
            format!("0={value}0"),
            "0=".to_owned(),
        ] {
            assert!(text.parse::<ExpectedPcr>().is_err(), "{text}");
        }
    }
}
