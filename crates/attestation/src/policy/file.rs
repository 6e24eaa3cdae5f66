//! The policy as operators write it: what serde reads, and the rules that make it a [`Policy`].
//!
//! Any self-describing format of serde will do; `enclave attest verify --policy` takes TOML, which has comments and refuses a key
//! that is there twice. The form is in docs/attestation.md:
//!
//! ```toml
//! roots = ["root.pem", "sha256:641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"]
//! max_age_seconds = 300
//! signers = ["<PCR 8, 96 hexadecimal digits>"]
//!
//! [[accept]]
//! name = "v1.4"
//! PCR0 = "<96 hexadecimal digits>"
//! PCR1 = "<96 hexadecimal digits>"
//! ```
//!
//! What is not known is refused, and so is what would accept more than its author can have meant.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::{AgeLimit, MEASURED, PcrSet, Policy};
use crate::pcr::{Pcr, PcrIndex};
use crate::roots::FINGERPRINT_LEN;

/// What a root begins with that is named by its fingerprint.
const FINGERPRINT_PREFIX: &str = "sha256:";
/// What the name of a register begins with.
const REGISTER_PREFIX: &str = "PCR";

/// The file's content. [`Self::check`] makes a policy of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    roots: Option<Vec<String>>,
    signers: Option<Vec<Pcr>>,
    max_age_seconds: Option<u64>,
    max_future_seconds: Option<u64>,
    #[serde(default)]
    allow_debug: bool,
    #[serde(default)]
    require_nonce: bool,
    user_data: Option<String>,
    public_key: Option<String>,
    accept: Option<Vec<AcceptedSet>>,
}

/// A policy as its author meant it, without the nonce, which is another one each time: [`Self::with_nonce`].
#[derive(Debug, Clone)]
pub struct CheckedPolicy {
    policy: Policy,
    roots: Vec<RootReference>,
    require_nonce: bool,
}

impl CheckedPolicy {
    /// The roots that are trusted; if there are none, the caller says which.
    #[must_use]
    pub fn roots(&self) -> &[RootReference] {
        &self.roots
    }

    /// What documents must say, to whoever asked with this nonce.
    ///
    /// # Errors
    /// [`NonceRequired`] if the policy asks for a nonce, and there is none or an empty one.
    pub fn with_nonce(self, nonce: Option<Vec<u8>>) -> Result<Policy, NonceRequired> {
        if self.require_nonce && nonce.as_ref().is_none_or(Vec::is_empty) {
            return Err(NonceRequired);
        }
        Ok(Policy { nonce, ..self.policy })
    }
}

/// A policy that judges nothing without the nonce that was asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the policy requires a nonce")]
pub struct NonceRequired;

/// How a policy names a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootReference {
    /// By the SHA-256 of its DER.
    Fingerprint([u8; FINGERPRINT_LEN]),
    /// By a file, seen from the policy's folder.
    File(String),
}

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyFileError {
    /// It would accept every production enclave of its roots.
    #[error("the policy accepts every image: it has neither [[accept]] with PCRs nor signers")]
    Empty,
    /// A list that is there and empty: its author, or the program that wrote it, forgot what belongs into it.
    #[error("{0} is an empty list, which would demand nothing: fill it or leave it out")]
    EmptyList(&'static str),
    /// A set without registers would match everything.
    #[error("the set {0} has no PCR: it would match every image")]
    EmptySet(String),
    /// Nobody could tell which of them matched.
    #[error("two sets have the name {0}")]
    SameName(String),
    /// Only debug enclaves have that, or unsigned images.
    #[error(
        "{set}: PCR {index} is all zeros, which measures nothing; write the image's value, or allow_debug = true for a test"
    )]
    Zero {
        /// The set's name, or "signers".
        set: String,
        /// The register.
        index: u8,
    },
    /// Other registers that measure nothing.
    #[error("the set {0} has only PCRs that are all zeros: it would match what measures nothing")]
    OnlyZeros(String),
    /// A root that is named in no known way.
    #[error("the root {0:?} is neither sha256: with 64 hexadecimal digits nor the name of a file")]
    Root(String),
    /// A limit on the future alone.
    #[error("max_future_seconds does nothing without max_age_seconds")]
    FutureWithoutAge,
    /// Bytes that are not hexadecimal.
    #[error("{0} is not hexadecimal")]
    Hexadecimal(&'static str),
}

impl PolicyFile {
    /// Checks what the form alone does not say.
    ///
    /// # Errors
    /// [`PolicyFileError`] says which rule is broken.
    pub fn check(self) -> Result<CheckedPolicy, PolicyFileError> {
        let accept = list("accept", self.accept)?;
        let signers = list("signers", self.signers)?;
        let roots = list("roots", self.roots)?;
        if accept.is_empty() && signers.is_empty() {
            return Err(PolicyFileError::Empty);
        }
        if !self.allow_debug && signers.iter().any(Pcr::is_zero) {
            return Err(PolicyFileError::Zero { set: "signers".to_owned(), index: 8 });
        }
        let policy = Policy {
            accept: sets(accept, self.allow_debug)?,
            signers: signers.into_iter().collect(),
            age: age(self.max_age_seconds, self.max_future_seconds)?,
            user_data: bytes("user_data", self.user_data)?,
            public_key: bytes("public_key", self.public_key)?,
            allow_debug: self.allow_debug,
            ..Policy::default()
        };
        let roots = roots.into_iter().map(root).collect::<Result<_, _>>()?;
        Ok(CheckedPolicy { policy, roots, require_nonce: self.require_nonce })
    }
}

/// A list that may be left out, but not be there empty.
fn list<T>(name: &'static str, given: Option<Vec<T>>) -> Result<Vec<T>, PolicyFileError> {
    match given {
        Some(given) if given.is_empty() => Err(PolicyFileError::EmptyList(name)),
        given => Ok(given.unwrap_or_default()),
    }
}

fn sets(given: Vec<AcceptedSet>, allow_debug: bool) -> Result<Vec<PcrSet>, PolicyFileError> {
    let mut names = BTreeSet::new();
    let named = given.into_iter().zip(1_usize..).map(|(set, number)| {
        let name = set.name.unwrap_or_else(|| format!("set {number}"));
        if !names.insert(name.clone()) {
            return Err(PolicyFileError::SameName(name));
        }
        let set = PcrSet::new(name.clone(), set.pcrs).ok_or(PolicyFileError::EmptySet(name))?;
        if !allow_debug {
            refuse_zeros(&set)?;
        }
        Ok(set)
    });
    named.collect()
}

fn refuse_zeros(set: &PcrSet) -> Result<(), PolicyFileError> {
    let measured = set.pcrs.iter().find(|(index, pcr)| pcr.is_zero() && MEASURED.contains(&index.get()));
    if let Some((index, _)) = measured {
        return Err(PolicyFileError::Zero { set: set.name.clone(), index: index.get() });
    }
    if set.pcrs.values().all(Pcr::is_zero) {
        return Err(PolicyFileError::OnlyZeros(set.name.clone()));
    }
    Ok(())
}

fn age(max_age: Option<u64>, max_future: Option<u64>) -> Result<Option<AgeLimit>, PolicyFileError> {
    match (max_age, max_future) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(PolicyFileError::FutureWithoutAge),
        (Some(max_age), max_future) => Ok(Some(AgeLimit {
            max_age: Duration::from_secs(max_age),
            max_future: max_future.map_or(AgeLimit::DEFAULT_MAX_FUTURE, Duration::from_secs),
        })),
    }
}

fn bytes(field: &'static str, text: Option<String>) -> Result<Option<Vec<u8>>, PolicyFileError> {
    text.map(hex::decode).transpose().map_err(|_| PolicyFileError::Hexadecimal(field))
}

fn root(text: String) -> Result<RootReference, PolicyFileError> {
    let Some(digits) = text.strip_prefix(FINGERPRINT_PREFIX) else {
        let file = !text.is_empty() && !text.contains('\0');
        return if file { Ok(RootReference::File(text)) } else { Err(PolicyFileError::Root(text)) };
    };
    let mut fingerprint = [0; FINGERPRINT_LEN];
    match hex::decode_to_slice(digits, &mut fingerprint) {
        Ok(()) => Ok(RootReference::Fingerprint(fingerprint)),
        Err(_) => Err(PolicyFileError::Root(text)),
    }
}

/// A table of `[[accept]]`: a name, and registers by the names that `enclave eif measure -o json` gives them.
#[derive(Debug, Clone, Default)]
struct AcceptedSet {
    name: Option<String>,
    pcrs: BTreeMap<PcrIndex, Pcr>,
}

impl<'de> Deserialize<'de> for AcceptedSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SetVisitor)
    }
}

struct SetVisitor;

impl<'de> Visitor<'de> for SetVisitor {
    type Value = AcceptedSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of PCRs, such as PCR0 = \"<96 hexadecimal digits>\", with or without a name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AcceptedSet, A::Error> {
        let mut set = AcceptedSet::default();
        while let Some(key) = map.next_key::<String>()? {
            let twice = if key == "name" {
                set.name.replace(map.next_value()?).is_some()
            } else {
                let index = register(&key).ok_or_else(|| {
                    A::Error::custom(format_args!("unknown key {key:?}: write name, or PCR0 to PCR31"))
                })?;
                set.pcrs.insert(index, map.next_value()?).is_some()
            };
            if twice {
                return Err(A::Error::custom(format_args!("{key} is there twice")));
            }
        }
        Ok(set)
    }
}

/// The register that `key` names, in the one way to write its number.
fn register(key: &str) -> Option<PcrIndex> {
    PcrIndex::all().find(|index| key.strip_prefix(REGISTER_PREFIX) == Some(&index.to_string()))
}
