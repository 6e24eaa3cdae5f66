//! Options of the commands for key policies.

use std::path::PathBuf;

use clap::Args;

use super::{OutputArgs, Time};

const LINT_STATUS: &str = "\
Exit status:
  0  nothing to mend (notes are nothing to mend)
  1  at least one warning or error
  2  the policy cannot be read, or the service would refuse it";

/// `enclave kms lint`.
#[derive(Debug, Args)]
#[command(after_help = LINT_STATUS)]
pub(crate) struct KmsLintArgs {
    /// The policy (JSON); - for standard input
    #[arg(value_name = "POLICY")]
    pub(crate) policy: PathBuf,

    /// It is a caller's policy, without Principal, not a key's
    #[arg(long)]
    pub(crate) identity: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

const EXPLAIN_STATUS: &str = "\
Exit status:
  0  allowed
  1  denied
  2  the document is refused, or something cannot be read

The service asks beside this that a document is young (5 minutes unless configured otherwise).";

/// `enclave kms explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_STATUS)]
pub(crate) struct KmsExplainArgs {
    /// The key's policy (JSON)
    #[arg(long, value_name = "POLICY", required_unless_present = "identity_policy")]
    pub(crate) policy: Option<PathBuf>,

    /// The caller's policy (JSON)
    #[arg(long, value_name = "POLICY")]
    pub(crate) identity_policy: Option<PathBuf>,

    /// What is asked for, such as kms:Decrypt
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: String,

    /// The request's attestation document: raw bytes, hexadecimal or base64 text [default: it carries none]
    #[arg(long = "doc", value_name = "DOC")]
    pub(crate) document: Option<PathBuf>,

    /// A root certificate to trust; may be given again [default: this host's own]
    #[arg(long, value_name = "PEM")]
    pub(crate) root: Vec<PathBuf>,

    /// Who asks [default: the one caller whom the policy names]
    #[arg(long, value_name = "ARN")]
    pub(crate) principal: Option<String>,

    /// The key asked for [default: any, of the caller's account]
    #[arg(long, value_name = "ARN")]
    pub(crate) key: Option<String>,

    /// One pair of the request's encryption context; may be given again
    #[arg(long = "context", value_name = "K=V")]
    pub(crate) context: Vec<Pair>,

    /// The alias by which the request names the key
    #[arg(long, value_name = "alias/NAME")]
    pub(crate) alias: Option<String>,

    /// The key's specification, such as SYMMETRIC_DEFAULT
    #[arg(long, value_name = "SPEC")]
    pub(crate) key_spec: Option<String>,

    /// The key's usage, such as ENCRYPT_DECRYPT
    #[arg(long, value_name = "USAGE")]
    pub(crate) key_usage: Option<String>,

    /// When: RFC 3339, seconds since 1970, or `document` for the document's own time [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Time>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `--context K=V`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("write KEY=VALUE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_needs_a_key_and_keeps_what_follows_the_first_sign() {
        let pair = |text: &str| text.parse::<Pair>().map(|pair| (pair.key, pair.value));
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
