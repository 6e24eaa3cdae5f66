//! The security module of one enclave.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use attestation::cose;
use attestation::document::{AttestationDocument, DIGEST};
use attestation::identity::{EnclaveId, Role};
use attestation::pcr::{Measurements, PCR_COUNT, Pcr, PcrIndex};
use attestation::pki::{EnclaveAuthority, Leaf, PkiError};
use getrandom::SysRng;
use thiserror::Error;

use crate::bank::{BOOT_LOCKED, LockedError, PcrBank};
use crate::protocol::{Description, ErrorCode, MAX_RESPONSE_LEN, Request, Response};

/// Version of the interface that real modules report: 1.0.0.
const VERSION: (u16, u16, u16) = (1, 0, 0);
/// Random bytes per GetRandom. The kernel's driver misreads byte strings shorter than 24.
const RANDOM_LEN: usize = 256;
/// A leaf is replaced once it has less than this left, so that a fresh document can be used for a while.
const LEAF_MARGIN: Duration = Duration::from_secs(30 * 60);

/// Who an enclave is: what documents say of it beside the measurements of its image.
#[derive(Debug)]
pub struct Identity {
    /// The enclave and its host. `module_id` and PCR 4 follow from it.
    pub enclave: EnclaveId,
    /// The host's role, of which PCR 3 is made; PCR 3 is zero without one.
    pub role: Option<Role>,
    /// The enclave's authority, which certifies the keys that sign documents.
    pub authority: EnclaveAuthority,
}

/// Measurements that came a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the measurements of this enclave are set already; they are set once, before it runs")]
pub struct AlreadyMeasuredError;

/// The security module: PCRs, locks, documents and the key that signs them.
#[derive(Debug)]
pub struct SecurityModule {
    identity: Identity,
    bank: PcrBank,
    measured: bool,
    leaf: Option<Leaf>,
}

impl SecurityModule {
    /// A module that refuses every request until [`Self::set_measurements`].
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, bank: PcrBank::default(), measured: false, leaf: None }
    }

    /// Sets PCR 0, 1, 2 and 8 from the image's measurements, or leaves them zero for a debug enclave
    /// (`None`); sets PCR 3 and 4 from the identity; locks 0 to 15. From here on requests are served.
    ///
    /// # Errors
    /// [`AlreadyMeasuredError`] the second time; nothing changes.
    pub fn set_measurements(
        &mut self,
        measurements: Option<&Measurements>,
    ) -> Result<(), AlreadyMeasuredError> {
        if self.measured {
            return Err(AlreadyMeasuredError);
        }
        let mut registers = vec![
            (3, self.identity.role.as_ref().map_or(Pcr::ZERO, Role::pcr3)),
            (4, self.identity.enclave.instance().pcr4()),
        ];
        if let Some(image) = measurements {
            registers.extend([(0, image.pcr0), (1, image.pcr1), (2, image.pcr2)]);
            registers.extend(image.pcr8.map(|pcr8| (8, pcr8)));
        }
        for (index, value) in registers {
            let index = PcrIndex::new(index).ok_or(AlreadyMeasuredError)?;
            self.bank.set(index, value).map_err(|LockedError(_)| AlreadyMeasuredError)?;
        }
        self.bank.lock_below(BOOT_LOCKED);
        self.measured = true;
        Ok(())
    }

    /// The registers that documents show now: every locked one.
    #[must_use]
    pub fn attested_pcrs(&self) -> BTreeMap<PcrIndex, Pcr> {
        self.bank.locked()
    }

    /// Answers one request. Always a whole response of at most [`MAX_RESPONSE_LEN`] bytes, whatever the request.
    pub fn handle(&mut self, request: &[u8], now: SystemTime) -> Vec<u8> {
        encode_within_limit(&self.answer(request, now).unwrap_or_else(Response::Error))
    }

    fn answer(&mut self, request: &[u8], now: SystemTime) -> Result<Response, ErrorCode> {
        if !self.measured {
            return Err(ErrorCode::InvalidOperation);
        }
        match Request::decode(request).map_err(|error| error.error_code())? {
            Request::DescribePcr { index } => {
                let register = self.bank.describe(register_index(index)?);
                Ok(Response::DescribePcr { lock: register.locked, data: register.value })
            }
            Request::ExtendPcr { index, data } => {
                let data = self.bank.extend(register_index(index)?, &data).map_err(read_only)?;
                Ok(Response::ExtendPcr { data })
            }
            Request::LockPcr { index } => {
                self.bank.lock(register_index(index)?).map_err(read_only)?;
                Ok(Response::LockPcr)
            }
            Request::LockPcrs { range } => {
                self.bank.lock_below(lock_range(range)?);
                Ok(Response::LockPcrs)
            }
            Request::DescribeNsm => Ok(Response::DescribeNsm(self.description())),
            Request::Attestation { user_data, nonce, public_key } => {
                self.attest(now, user_data, nonce, public_key)
            }
            Request::GetRandom => random(),
        }
    }

    fn description(&self) -> Description {
        let (version_major, version_minor, version_patch) = VERSION;
        Description {
            version_major,
            version_minor,
            version_patch,
            module_id: self.identity.enclave.module_id(),
            max_pcrs: u16::from(PCR_COUNT),
            locked_pcrs: self.bank.locked().keys().map(|index| u16::from(index.get())).collect(),
            digest: DIGEST.to_owned(),
        }
    }

    fn attest(
        &mut self,
        now: SystemTime,
        user_data: Option<Vec<u8>>,
        nonce: Option<Vec<u8>>,
        public_key: Option<Vec<u8>>,
    ) -> Result<Response, ErrorCode> {
        let since_epoch = now.duration_since(UNIX_EPOCH).map_err(|_| ErrorCode::InternalError)?;
        let timestamp = u64::try_from(since_epoch.as_millis()).map_err(|_| ErrorCode::InternalError)?;
        let pcrs = self.bank.locked();
        let module_id = self.identity.enclave.module_id();
        let chain = self.identity.authority.chain();
        let cabundle = chain.iter().map(|certificate| certificate.as_der().to_vec()).collect();
        let leaf = self.leaf(now).map_err(|_| ErrorCode::InternalError)?;
        let certificate = leaf.certificate.as_der().to_vec();
        let document = AttestationDocument {
            module_id,
            timestamp,
            pcrs,
            certificate,
            cabundle,
            public_key,
            user_data,
            nonce,
        };
        let document = cose::sign(&document.to_payload(), &leaf.key).ok_or(ErrorCode::InternalError)?;
        Ok(Response::Attestation { document })
    }

    /// The leaf to sign with at `now`: the one at hand if it will do, else a new one.
    ///
    /// # Errors
    /// [`PkiError`] if the authority is not valid at `now`, or randomness fails. An expired leaf is never used.
    fn leaf(&mut self, now: SystemTime) -> Result<&Leaf, PkiError> {
        let leaf = match self.leaf.take() {
            Some(leaf) if self.serves(&leaf, now) => leaf,
            _ => self.identity.authority.issue_leaf(&self.identity.enclave, now, &mut SysRng)?,
        };
        Ok(self.leaf.insert(leaf))
    }

    /// True if `leaf` is valid at `now` and stays so for a while, or for as long as the authority is valid.
    fn serves(&self, leaf: &Leaf, now: SystemTime) -> bool {
        let (start, end) = (leaf.certificate.not_before(), leaf.certificate.not_after());
        let (_, authority_end) = self.identity.authority.validity();
        let left = end.duration_since(now).unwrap_or_default();
        let enough = left >= LEAF_MARGIN || (end == authority_end && now <= end);
        start <= now && enough
    }
}

fn register_index(index: u16) -> Result<PcrIndex, ErrorCode> {
    PcrIndex::new(u64::from(index)).ok_or(ErrorCode::InvalidIndex)
}

/// A range may end after the last register, and not beyond.
fn lock_range(range: u16) -> Result<u8, ErrorCode> {
    u8::try_from(range).ok().filter(|range| *range <= PCR_COUNT).ok_or(ErrorCode::InvalidIndex)
}

fn read_only(_: LockedError) -> ErrorCode {
    ErrorCode::ReadOnlyIndex
}

/// The response's bytes, or an error's if they are more than a guest can take: what makes a response long is
/// what the request put into the document.
fn encode_within_limit(response: &Response) -> Vec<u8> {
    let bytes = response.encode();
    if bytes.len() > MAX_RESPONSE_LEN {
        return Response::Error(ErrorCode::InputTooLarge).encode();
    }
    bytes
}

fn random() -> Result<Response, ErrorCode> {
    let mut random = vec![0; RANDOM_LEN];
    getrandom::fill(&mut random).map_err(|_| ErrorCode::InternalError)?;
    Ok(Response::GetRandom { random })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_never_longer_than_a_guest_can_take() {
        // {"Attestation": {"document": bytes of 2-byte length}} has 26 bytes around the document.
        let longest = MAX_RESPONSE_LEN - 26;
        let of = |length| encode_within_limit(&Response::Attestation { document: vec![0; length] });
        assert_eq!(of(longest).len(), MAX_RESPONSE_LEN);
        assert_eq!(of(longest + 1), Response::Error(ErrorCode::InputTooLarge).encode());
    }
}
