//! A root of trust of your own: root, host, enclave CA and leaf certificates.
//!
//! Four levels, as in AWS's chains but fewer: the *root* is what verifiers pin; the *host* level's key is
//! read by the command that starts an enclave, and by nothing else; the *enclave CA* is made for one enclave,
//! whose security module holds its key; the *leaf*, valid for three hours, signs documents.
//!
//! Every function is pure: time and randomness come from the caller. The shape of the certificates is in
//! `profile.rs`.

mod profile;

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::time::SystemTime;

use rand_core::TryCryptoRng;
use thiserror::Error;
use x509_cert::name::Name;

use crate::certificate::{Certificate, CertificateError};
use crate::document::MAX_BUNDLE_LEN;
use crate::identity::{EnclaveId, InstanceId};
use crate::key::{KeyError, PrivateKey, PublicKey};
use crate::path::{PathError, check_authorities};
use profile::{Kind, Order};

const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(31_557_600);

/// How long a new root is valid: as long as AWS's.
pub const ROOT_LIFETIME: Duration = YEAR.saturating_mul(30);
/// How long a new host certificate is valid, unless its root ends earlier.
pub const HOST_LIFETIME: Duration = YEAR.saturating_mul(10);
/// How long a leaf is valid from its making, unless an issuer ends earlier: AWS's three hours.
pub const LEAF_LIFETIME: Duration = HOUR.saturating_mul(3);
/// How long before their making certificates begin to be valid, for verifiers whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Why a certificate could not be issued or an authority not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PkiError {
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The random number generator failed.
    #[error("no randomness for a serial number: the random number generator failed")]
    Randomness,
    /// The clock shows a time that certificates cannot express.
    #[error("the clock is outside the years 1970 to 9999: set it")]
    Clock,
    /// The issuing certificate, or one above it, is not valid now.
    #[error(
        "the issuing certificates are not valid at this time: compare the clock with their dates, or make new ones"
    )]
    IssuerNotValid,
    /// A certificate could not be encoded.
    #[error("the certificate could not be encoded")]
    Encode,
    /// A certificate cannot be used.
    #[error("a certificate of the chain cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    /// The chain of certificates does not hold together.
    #[error("the chain of certificates is broken: {0}")]
    Chain(#[from] PathError),
    /// More certificates than verifiers accept.
    #[error("the chain has more than {MAX_BUNDLE_LEN} certificates")]
    TooManyCertificates,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the last certificate of the chain")]
    OtherKey,
    /// The certificate's path length is that of another level.
    #[error("the last certificate of the chain belongs to another level (its path length differs)")]
    OtherLevel,
}

/// A level of the hierarchy that issues certificates: [`Root`], [`Host`] or [`Enclave`].
pub trait Level {
    /// Path length of its certificates: how many authorities may follow. `None` is any number.
    const PATH_LENGTH: Option<u8>;
}

/// The level that verifiers pin.
#[derive(Debug)]
pub struct Root;
/// The level of one host.
#[derive(Debug)]
pub struct Host;
/// The level of one enclave.
#[derive(Debug)]
pub struct Enclave;

impl Level for Root {
    const PATH_LENGTH: Option<u8> = None;
}
impl Level for Host {
    const PATH_LENGTH: Option<u8> = Some(1);
}
impl Level for Enclave {
    const PATH_LENGTH: Option<u8> = Some(0);
}

/// A key that may issue certificates, with the chain that says so: root first, its own certificate last.
pub struct Authority<L: Level> {
    key: PrivateKey,
    chain: Vec<Certificate>,
    level: PhantomData<L>,
}

/// The authority that verifiers pin.
pub type RootAuthority = Authority<Root>;
/// The authority of one host.
pub type HostAuthority = Authority<Host>;
/// The authority of one enclave. It issues leaves and nothing else.
pub type EnclaveAuthority = Authority<Enclave>;

/// A certificate for a key that signs documents, and that key. The key is wiped when dropped.
#[derive(Debug)]
pub struct Leaf {
    /// The key that signs documents.
    pub key: PrivateKey,
    /// Its certificate.
    pub certificate: Certificate,
}

impl<L: Level> Authority<L> {
    /// Puts a stored key and its stored chain, root first, together again.
    ///
    /// # Errors
    /// [`PkiError`] if they do not belong together, the chain is broken, or it is another level's. Dates are
    /// checked when something is issued.
    pub fn from_parts(key: PrivateKey, chain: Vec<Certificate>) -> Result<Self, PkiError> {
        if chain.len() > MAX_BUNDLE_LEN {
            return Err(PkiError::TooManyCertificates);
        }
        check_authorities(&chain)?;
        let own = chain.last().ok_or(PathError::Empty)?;
        if own.public_key() != key.public_key() {
            return Err(PkiError::OtherKey);
        }
        if own.path_length() != L::PATH_LENGTH {
            return Err(PkiError::OtherLevel);
        }
        Ok(Self { key, chain, level: PhantomData })
    }

    /// As [`Self::from_parts`], from PKCS#8 DER and DER certificates: what one process hands to another.
    ///
    /// # Errors
    /// As [`Self::from_parts`], and if something cannot be read.
    pub fn from_der<D: AsRef<[u8]>>(key: &[u8], chain: &[D]) -> Result<Self, PkiError> {
        let chain: Result<_, _> = chain.iter().map(|der| Certificate::from_der(der.as_ref())).collect();
        Self::from_parts(PrivateKey::from_pkcs8_der(key)?, chain?)
    }

    /// The key, for storing it.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The chain: root first, this authority's own certificate last.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The first and the last moment at which every certificate of the chain is valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let latest_start = self.chain.iter().map(Certificate::not_before).max();
        let earliest_end = self.chain.iter().map(Certificate::not_after).min();
        (latest_start.unwrap_or(SystemTime::UNIX_EPOCH), earliest_end.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Issues a certificate that begins [`BACKDATE`] before `now` and lives for `lifetime` after it, cut to
    /// the time in which this authority's whole chain is valid.
    fn issue<R: TryCryptoRng + ?Sized>(
        &self,
        kind: Kind,
        subject: Name,
        public_key: &PublicKey,
        (now, lifetime): (SystemTime, Duration),
        rng: &mut R,
    ) -> Result<Certificate, PkiError> {
        let (start, end) = self.validity();
        if now < start || now > end {
            return Err(PkiError::IssuerNotValid);
        }
        let issuer = self.chain.last().ok_or(PathError::Empty)?;
        let order = Order {
            kind,
            subject,
            public_key,
            issuer: issuer.subject_name().clone(),
            issuer_key_identifier: issuer.key_identifier().map(<[u8]>::to_vec),
            not_before: now.checked_sub(BACKDATE).map_or(start, |backdated| backdated.max(start)),
            not_after: now.checked_add(lifetime).map_or(end, |later| later.min(end)),
        };
        profile::issue(order, &self.key, rng)
    }

    /// Makes a key and has this authority certify it as an authority of the level below.
    fn issue_authority<B: Level, R: TryCryptoRng + ?Sized>(
        &self,
        kind: Kind,
        subject: Name,
        (now, lifetime): (SystemTime, Duration),
        rng: &mut R,
    ) -> Result<Authority<B>, PkiError> {
        let key = PrivateKey::generate(rng)?;
        let certificate = self.issue(kind, subject, key.public_key(), (now, lifetime), rng)?;
        let chain = self.chain.iter().cloned().chain([certificate]).collect();
        // Nothing is left to check: this authority's chain was checked when it was put together, and its key has just signed.
        Ok(Authority { key, chain, level: PhantomData })
    }
}

impl RootAuthority {
    /// Makes a new root, valid for [`ROOT_LIFETIME`]. Its name holds a part of its key's hash.
    ///
    /// # Errors
    /// [`PkiError`] if randomness or the clock fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(now: SystemTime, rng: &mut R) -> Result<Self, PkiError> {
        let key = PrivateKey::generate(rng)?;
        let name = profile::root_name(key.public_key())?;
        let order = Order {
            kind: Kind::Root,
            subject: name.clone(),
            public_key: key.public_key(),
            issuer: name,
            issuer_key_identifier: None,
            not_before: now.checked_sub(BACKDATE).ok_or(PkiError::Clock)?,
            not_after: now.checked_add(ROOT_LIFETIME).ok_or(PkiError::Clock)?,
        };
        let certificate = profile::issue(order, &key, rng)?;
        Self::from_parts(key, vec![certificate])
    }

    /// Makes the authority of one host, valid for [`HOST_LIFETIME`] at most.
    ///
    /// # Errors
    /// [`PkiError`] if randomness or the clock fails, or the root is not valid at `now`.
    pub fn issue_host<R: TryCryptoRng + ?Sized>(
        &self,
        instance: &InstanceId,
        now: SystemTime,
        rng: &mut R,
    ) -> Result<HostAuthority, PkiError> {
        let name = profile::host_name(instance)?;
        self.issue_authority(Kind::Host, name, (now, HOST_LIFETIME), rng)
    }
}

impl HostAuthority {
    /// Makes the authority of one enclave, valid until the host's certificate ends: nobody can renew it.
    ///
    /// # Errors
    /// [`PkiError`] if randomness or the clock fails, or the host's chain is not valid at `now`.
    pub fn issue_enclave<R: TryCryptoRng + ?Sized>(
        &self,
        enclave: &EnclaveId,
        now: SystemTime,
        rng: &mut R,
    ) -> Result<EnclaveAuthority, PkiError> {
        let name = profile::enclave_name(enclave)?;
        self.issue_authority(Kind::Enclave, name, (now, Duration::MAX), rng)
    }
}

impl EnclaveAuthority {
    /// Makes a key that signs documents and certifies it for [`LEAF_LIFETIME`] at most.
    ///
    /// # Errors
    /// [`PkiError`] if randomness or the clock fails, or the enclave's chain is not valid at `now`.
    pub fn issue_leaf<R: TryCryptoRng + ?Sized>(
        &self,
        enclave: &EnclaveId,
        now: SystemTime,
        rng: &mut R,
    ) -> Result<Leaf, PkiError> {
        let key = PrivateKey::generate(rng)?;
        let name = profile::leaf_name(enclave)?;
        let certificate = self.issue(Kind::Leaf, name, key.public_key(), (now, LEAF_LIFETIME), rng)?;
        Ok(Leaf { key, certificate })
    }
}

impl<L: Level> fmt::Debug for Authority<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("chain", &self.chain).finish_non_exhaustive()
    }
}
