//! The roots of trust that a relying party has chosen: certificates pinned by the SHA-256 of their bytes.
//!
//! Pinned is the whole certificate, not its name or its key: two certificates of one name are two roots.

use std::collections::BTreeSet;

use crate::certificate::Certificate;

/// Bytes of a SHA-256 fingerprint.
pub const FINGERPRINT_LEN: usize = 32;

/// Any number of pinned roots. Without one, nothing is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(BTreeSet<[u8; FINGERPRINT_LEN]>);

impl Roots {
    /// Trusts nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts this root as well.
    pub fn trust(&mut self, root: &Certificate) {
        self.trust_fingerprint(root.fingerprint());
    }

    /// Trusts the root whose DER has this SHA-256 as well ([`Certificate::fingerprint`]).
    pub fn trust_fingerprint(&mut self, fingerprint: [u8; FINGERPRINT_LEN]) {
        self.0.insert(fingerprint);
    }

    /// True if a root with this fingerprint is trusted.
    #[must_use]
    pub fn contains(&self, fingerprint: &[u8; FINGERPRINT_LEN]) -> bool {
        self.0.contains(fingerprint)
    }

    /// True if no root is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is trusted, in ascending order.
    pub fn fingerprints(&self) -> impl Iterator<Item = &[u8; FINGERPRINT_LEN]> {
        self.0.iter()
    }
}

impl From<&Certificate> for Roots {
    fn from(root: &Certificate) -> Self {
        Self::from_iter([root])
    }
}

impl<'a> FromIterator<&'a Certificate> for Roots {
    fn from_iter<I: IntoIterator<Item = &'a Certificate>>(roots: I) -> Self {
        Self(roots.into_iter().map(Certificate::fingerprint).collect())
    }
}
