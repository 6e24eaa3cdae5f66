//! What a relying party expects of a document that is genuine: registers, age, and what was asked for.
//!
//! A [`Policy`] is plain values and knows no file; [`file`] reads the form that operators write.

pub mod file;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::document::AttestationDocument;
use crate::pcr::{Pcr, PcrIndex};

/// The registers that measure the image or who signed it. In documents of debug enclaves they are zero: nothing is measured there.
const MEASURED: [u8; 4] = [0, 1, 2, 8];

/// What a document must say. An empty policy accepts every production enclave.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// PCRs that must have these values, whatever else is accepted.
    pub pcrs: BTreeMap<PcrIndex, Pcr>,
    /// Sets of PCRs of which one must match whole; with none here, `pcrs` alone decides.
    pub accept: Vec<PcrSet>,
    /// Values of PCR 8 of which one must be there: images signed with these certificates. With none here, anybody's.
    pub signers: BTreeSet<Pcr>,
    /// How old the document may be; `None` leaves that to the dates of its certificates.
    pub age: Option<AgeLimit>,
    /// The nonce that must be echoed.
    pub nonce: Option<Vec<u8>>,
    /// The user data that must be there.
    pub user_data: Option<Vec<u8>>,
    /// The public key that must be there.
    pub public_key: Option<Vec<u8>>,
    /// Accept a document of a debug enclave. Its PCR 0 is all zeros: it proves nothing about the image, and
    /// its host can read its console. Without this it is refused, even if `pcrs` asks for a PCR 0 of zeros.
    pub allow_debug: bool,
}

/// One set of PCRs that is accepted, such as those of one release. Never empty: an empty set would match everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSet {
    name: String,
    pcrs: BTreeMap<PcrIndex, Pcr>,
}

impl PcrSet {
    /// A set with a name for people, such as "v1.4". `None` without a single register.
    #[must_use]
    pub fn new(name: impl Into<String>, pcrs: BTreeMap<PcrIndex, Pcr>) -> Option<Self> {
        (!pcrs.is_empty()).then(|| Self { name: name.into(), pcrs })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registers; at least one.
    #[must_use]
    pub fn pcrs(&self) -> &BTreeMap<PcrIndex, Pcr> {
        &self.pcrs
    }
}

/// One register as a policy expects it and as a document has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Which register.
    pub index: PcrIndex,
    /// The value in the policy.
    pub expected: Pcr,
    /// The value in the document, if the enclave has locked that register.
    pub found: Option<Pcr>,
}

impl Comparison {
    /// True if the document has the expected value.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.found == Some(self.expected)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, expected, found } = self;
        match found {
            Some(found) => write!(f, "PCR {index} is {found}, expected {expected}"),
            None => write!(f, "PCR {index} is not in the document: the enclave has not locked it"),
        }
    }
}

/// Compares each expected register with the document's.
pub fn compare(
    expected: &BTreeMap<PcrIndex, Pcr>,
    document: &AttestationDocument,
) -> impl Iterator<Item = Comparison> {
    expected.iter().map(|(index, expected)| Comparison {
        index: *index,
        expected: *expected,
        found: document.pcrs.get(index).copied(),
    })
}

/// How old a document may be by its own time stamp, which its signature proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeLimit {
    /// The greatest age.
    pub max_age: Duration,
    /// How far the time stamp may lie ahead: clocks differ.
    pub max_future: Duration,
}

impl AgeLimit {
    /// How far clocks may differ if nobody says otherwise.
    pub const DEFAULT_MAX_FUTURE: Duration = Duration::from_secs(60);

    /// A limit with [`Self::DEFAULT_MAX_FUTURE`].
    #[must_use]
    pub const fn new(max_age: Duration) -> Self {
        Self { max_age, max_future: Self::DEFAULT_MAX_FUTURE }
    }

    pub(crate) fn check(self, made: u64, time: SystemTime) -> Result<(), AgeError> {
        match age(made, time) {
            Age::Past(age) if age > self.max_age => Err(AgeError::TooOld { age, limit: self.max_age }),
            Age::Future(ahead) if ahead > self.max_future => {
                Err(AgeError::FromTheFuture { ahead, limit: self.max_future })
            }
            Age::Past(_) | Age::Future(_) => Ok(()),
        }
    }
}

/// Where a document's time stamp lies, seen from another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// So long ago.
    Past(Duration),
    /// So far ahead.
    Future(Duration),
}

/// Where `made`, in milliseconds since the Unix epoch, lies from `time`.
pub(crate) fn age(made: u64, time: SystemTime) -> Age {
    let Some(made) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(made)) else {
        return Age::Future(Duration::MAX);
    };
    match time.duration_since(made) {
        Ok(age) => Age::Past(age),
        Err(error) => Age::Future(error.duration()),
    }
}

/// A genuine document that is not of the time that the policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AgeError {
    /// Made too long ago.
    #[error("the document was made {} s ago, at most {} s are accepted", .age.as_secs(), .limit.as_secs())]
    TooOld {
        /// Its age.
        age: Duration,
        /// The greatest accepted.
        limit: Duration,
    },
    /// Made later than now.
    #[error("the document's time stamp is {} s in the future, at most {} s are accepted", .ahead.as_secs(), .limit.as_secs())]
    FromTheFuture {
        /// How far ahead it lies.
        ahead: Duration,
        /// The farthest accepted.
        limit: Duration,
    },
}

/// A genuine document that says something else than it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// PCR 0 is all zeros or missing.
    #[error(
        "the enclave runs in debug mode (PCR 0 is all zeros): its document proves nothing about its image"
    )]
    Debug,
    /// A PCR that must be there is missing or has another value.
    #[error("{0}")]
    Pcr(Comparison),
    /// No accepted set of PCRs matches.
    #[error("no accepted set of PCRs matches{}", listed(.0))]
    NoSet(Vec<SetMismatch>),
    /// PCR 8 is nobody's whose images are accepted.
    #[error("the image was not signed by an accepted signer (PCR 8 is {})", shown(.0.as_ref()))]
    Signer(Option<Pcr>),
    /// The nonce is another one or missing.
    #[error("the nonce is not the one expected: the document was made for another request")]
    Nonce,
    /// The user data is different or missing.
    #[error("the user data is not what was expected")]
    UserData,
    /// The public key is different or missing.
    #[error("the public key is not the one expected")]
    PublicKey,
}

/// Where a set of PCRs first differs from a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMismatch {
    /// The set's name.
    pub set: String,
    /// The first register that differs.
    pub first: Comparison,
}

/// Sets that an error message names; a report has all of them.
const MAX_LISTED: usize = 8;

fn listed(mismatches: &[SetMismatch]) -> String {
    let first = mismatches.iter().take(MAX_LISTED);
    let mut text: String = first.map(|mismatch| format!("; {}: {}", mismatch.set, mismatch.first)).collect();
    let more = mismatches.len().saturating_sub(MAX_LISTED);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

fn shown(pcr: Option<&Pcr>) -> String {
    pcr.map_or_else(|| "not in the document".to_owned(), Pcr::to_string)
}

/// What a genuine document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) debug: bool,
    pub(crate) set: Option<String>,
}

impl Policy {
    /// The register that measures the certificate that an image was signed with.
    pub const SIGNER_PCR: u64 = 8;

    /// True if whatever is accepted is tied to its image: by a register that measures it (PCR 0, 1, 2 or 8), or by its signer. If not,
    /// somebody else's image may pass as well. Zeros tie to nothing: PCR 8 is zero for every image that nobody signed.
    #[must_use]
    pub fn restricts_images(&self) -> bool {
        let measured = |pcrs: &BTreeMap<PcrIndex, Pcr>| {
            pcrs.iter().any(|(index, pcr)| MEASURED.contains(&index.get()) && !pcr.is_zero())
        };
        let signed = !self.signers.is_empty() && !self.signers.iter().any(Pcr::is_zero);
        let every_set = !self.accept.is_empty() && self.accept.iter().all(|set| measured(&set.pcrs));
        measured(&self.pcrs) || every_set || signed
    }

    /// True if every genuine document is accepted, of debug enclaves too.
    pub(crate) fn demands_nothing(&self) -> bool {
        let registers = self.pcrs.is_empty() && self.accept.is_empty() && self.signers.is_empty();
        let echoed = [&self.nonce, &self.user_data, &self.public_key];
        self.allow_debug && registers && echoed.iter().all(|expected| expected.is_none())
    }

    /// Checks what a genuine document says.
    pub(crate) fn check(&self, document: &AttestationDocument) -> Result<Accepted, PolicyError> {
        let debug = is_debug(document);
        if debug && !self.allow_debug {
            return Err(PolicyError::Debug);
        }
        if let Some(different) = compare(&self.pcrs, document).find(|pcr| !pcr.matches()) {
            return Err(PolicyError::Pcr(different));
        }
        let set = self.matching_set(document)?;
        let signer = register(document, Self::SIGNER_PCR);
        if !self.signers.is_empty() && !signer.is_some_and(|signer| self.signers.contains(signer)) {
            return Err(PolicyError::Signer(signer.copied()));
        }
        let agrees = |expected: &Option<Vec<u8>>, found| expected.is_none() || expected == found;
        if !agrees(&self.nonce, &document.nonce) {
            return Err(PolicyError::Nonce);
        }
        if !agrees(&self.user_data, &document.user_data) {
            return Err(PolicyError::UserData);
        }
        if !agrees(&self.public_key, &document.public_key) {
            return Err(PolicyError::PublicKey);
        }
        Ok(Accepted { debug, set: set.map(|set| set.name.clone()) })
    }

    fn matching_set(&self, document: &AttestationDocument) -> Result<Option<&PcrSet>, PolicyError> {
        let mut mismatches = Vec::new();
        for set in &self.accept {
            match compare(&set.pcrs, document).find(|pcr| !pcr.matches()) {
                None => return Ok(Some(set)),
                Some(first) => mismatches.push(SetMismatch { set: set.name.clone(), first }),
            }
        }
        if mismatches.is_empty() { Ok(None) } else { Err(PolicyError::NoSet(mismatches)) }
    }
}

/// True if a debug enclave made the document: PCR 0 is all zeros, or missing.
pub(crate) fn is_debug(document: &AttestationDocument) -> bool {
    register(document, 0).is_none_or(Pcr::is_zero)
}

pub(crate) fn register(document: &AttestationDocument, index: u64) -> Option<&Pcr> {
    PcrIndex::new(index).and_then(|index| document.pcrs.get(&index))
}
