//! What the caller of `attest verify` trusts and expects, from options and from a policy file.
//!
//! Beside a policy, options only add demands: what would loosen it is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use attestation::pcr::{Pcr, PcrIndex};
use attestation::policy::file::{CheckedPolicy, NonceRequired, PolicyFile, RootReference};
use attestation::roots::Roots;
use attestation::verify::{AgeLimit, Policy};

use crate::args::{Bytes, ExpectedPcr, Time, VerifyArgs};
use crate::error::{Failure, Result};
use crate::input;
use crate::output::printable;

/// Longest policy that is read: some two thousand sets.
const MAX_POLICY_FILE: u64 = 1024 * 1024;

/// Trust and expectations.
pub(super) struct Expectations {
    pub(super) roots: Roots,
    /// The roots as people know them, ready to be printed.
    pub(super) root_names: Vec<String>,
    pub(super) policy: Policy,
}

impl Expectations {
    /// Those of a command line, the policy that it names included.
    pub(super) fn of(args: &VerifyArgs) -> Result<Self> {
        let nonce = args.nonce.as_ref().map(|bytes| bytes.0.clone());
        let policy = Policy { nonce, ..Policy::default() };
        let mut expected = Self { roots: Roots::new(), root_names: Vec::new(), policy };
        if let Some(path) = &args.policy {
            expected.read(path, args)?;
        }
        for root in &args.root {
            expected.trust(root)?;
        }
        expected.add_options(args)?;
        Ok(expected)
    }

    fn read(&mut self, path: &Path, args: &VerifyArgs) -> Result<()> {
        let checked = policy_file(path)?;
        let refused =
            |cause: &str, next: &str| Failure::new(format_args!("{}: {cause}", path.display()), next);
        match (checked.roots().is_empty(), args.root.is_empty()) {
            (true, true) => {
                return Err(refused("the policy names no roots", "add roots to it, or give --root"));
            }
            (false, false) => {
                return Err(refused(
                    "the policy has roots, and --root is given too",
                    "give roots in one place",
                ));
            }
            _ => {}
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for root in checked.roots() {
            match root {
                RootReference::File(file) => self.trust(&folder.join(file))?,
                RootReference::Fingerprint(fingerprint) => {
                    self.roots.trust_fingerprint(*fingerprint);
                    self.root_names.push(format!("SHA-256 {}", hex::encode(fingerprint)));
                }
            }
        }
        self.policy = checked.with_nonce(self.policy.nonce.take()).map_err(|error: NonceRequired| {
            refused(&error.to_string(), "give the nonce that you asked with as --nonce")
        })?;
        Ok(())
    }

    fn trust(&mut self, path: &Path) -> Result<()> {
        let root = input::root_certificate(path)?;
        self.roots.trust(&root);
        let subject = printable(&root.subject());
        self.root_names.push(format!("{subject}, SHA-256 {}", hex::encode(root.fingerprint())));
        Ok(())
    }

    fn add_options(&mut self, args: &VerifyArgs) -> Result<()> {
        self.policy.pcrs = registers(&args.pcrs)?;
        add_bytes("user data", "--user-data", &mut self.policy.user_data, args.user_data.as_ref())?;
        add_bytes("public key", "--public-key", &mut self.policy.public_key, args.public_key.as_ref())?;
        self.policy.allow_debug |= args.allow_debug;
        if let Some(seconds) = args.max_age {
            let given = Duration::from_secs(seconds);
            let limit = self.policy.age.get_or_insert(AgeLimit::new(given));
            limit.max_age = limit.max_age.min(given);
        }
        if self.policy.age.is_some() && args.at == Some(Time::OfDocument) {
            return Err(Failure::new(
                "--at document and a greatest age contradict each other: at its own time no document is old",
                "leave one of them out, or give --at the time when the document arrived",
            ));
        }
        Ok(())
    }
}

fn policy_file(path: &Path) -> Result<CheckedPolicy> {
    let bytes = input::read_bounded(path, MAX_POLICY_FILE, "the policy")?;
    // The reader of TOML shows the line that is wrong, as it is, on lines of its own.
    let refused = |error: &dyn std::fmt::Display| {
        let error: Vec<String> = error.to_string().lines().map(printable).collect();
        Failure::new(
            format_args!("{} is not a policy: {}", path.display(), error.join("\n")),
            "its form is in docs/attestation.md, \"The policy file\"",
        )
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| refused(&error))?;
    let file: PolicyFile = toml::from_str(text).map_err(|error| refused(&error))?;
    file.check().map_err(|error| refused(&error))
}

fn registers(given: &[ExpectedPcr]) -> Result<BTreeMap<PcrIndex, Pcr>> {
    let mut pcrs = BTreeMap::new();
    for expected in given {
        let earlier = pcrs.insert(expected.index, expected.value);
        if earlier.is_some_and(|earlier| earlier != expected.value) {
            return Err(Failure::new(
                format_args!("--pcr gives two values for PCR {}", expected.index),
                "give one value for each register",
            ));
        }
    }
    Ok(pcrs)
}

fn add_bytes(what: &str, option: &str, expected: &mut Option<Vec<u8>>, given: Option<&Bytes>) -> Result<()> {
    let Some(given) = given else { return Ok(()) };
    if expected.as_ref().is_some_and(|expected| *expected != given.0) {
        return Err(Failure::new(
            format_args!("the policy and {option} expect different {what}"),
            format_args!("give the {what} in one place"),
        ));
    }
    *expected = Some(given.0.clone());
    Ok(())
}
