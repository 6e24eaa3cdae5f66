//! Claims a vsock address for an enclave, on the whole host: users have run folders of their own, but guests share one
//! space of addresses.
//!
//! Guests in different containers do not see each other's claims ([`super::host_claim`]), nor can they meet.

use std::io;

use thiserror::Error;

use crate::supervisor::host_claim::HostClaim;

/// The first address that is given out unasked, as on AWS.
const FIRST_FREE: u32 = 16;

/// Addresses that are tried before giving up.
const MAX_TRIED: u32 = 1 << 16;

/// The lowest address that a guest can have: 0 is the hypervisor, 1 the local host, 2 and 3 the host and the parent
/// instance (vsock(7), and nitro-cli's rules).
const FIRST_VALID: u32 = 4;

/// `VMADDR_CID_ANY`.
const ANY: u32 = u32::MAX;

/// A claimed address.
#[derive(Debug)]
pub(super) struct CidClaim {
    cid: u32,
    _claim: HostClaim,
}

/// Why an address could not be claimed.
#[derive(Debug, Error)]
pub(super) enum CidError {
    #[error(
        "{0} cannot be an enclave's vsock address (CID): choose one from {FIRST_VALID} to 4294967294, or none"
    )]
    Reserved(u32),
    #[error(
        "the vsock address (CID) {0} is in use by another enclave of this host; choose another, or none to get a free one"
    )]
    InUse(u32),
    #[error("no vsock address (CID) is free; end some enclaves")]
    NoneFree,
    #[error("a vsock address (CID) could not be claimed: {0}")]
    Io(#[from] io::Error),
}

impl CidClaim {
    /// Claims the address that was asked for, or a free one.
    pub(super) fn take(wanted: Option<u32>) -> Result<Self, CidError> {
        match wanted {
            Some(cid) if cid < FIRST_VALID || cid == ANY => Err(CidError::Reserved(cid)),
            Some(cid) => Self::try_take(cid)?.ok_or(CidError::InUse(cid)),
            None => {
                for cid in FIRST_FREE..FIRST_FREE.saturating_add(MAX_TRIED) {
                    if let Some(claim) = Self::try_take(cid)? {
                        return Ok(claim);
                    }
                }
                Err(CidError::NoneFree)
            }
        }
    }

    /// The address.
    pub(super) const fn cid(&self) -> u32 {
        self.cid
    }

    fn try_take(cid: u32) -> io::Result<Option<Self>> {
        Ok(HostClaim::take(&format!("enclave-cid-{cid}"))?.map(|claim| Self { cid, _claim: claim }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_claimed_once_until_it_is_dropped() {
        let first = CidClaim::take(Some(4_000_000_001)).unwrap();
        assert!(matches!(CidClaim::take(Some(4_000_000_001)), Err(CidError::InUse(4_000_000_001))));
        drop(first);
        CidClaim::take(Some(4_000_000_001)).unwrap();
    }

    #[test]
    fn free_addresses_are_distinct_and_start_at_sixteen() {
        let claims: Vec<CidClaim> = (0..10).map(|_| CidClaim::take(None).unwrap()).collect();
        let mut cids: Vec<u32> = claims.iter().map(CidClaim::cid).collect();
        cids.dedup();
        assert_eq!(cids.len(), 10);
        assert!(cids.iter().all(|cid| *cid >= 16));
    }

    #[test]
    fn reserved_addresses_are_refused() {
        for cid in [0, 1, 2, 3, u32::MAX] {
            assert!(matches!(CidClaim::take(Some(cid)), Err(CidError::Reserved(_))), "{cid}");
        }
        CidClaim::take(Some(u32::MAX - 1)).unwrap();
        CidClaim::take(Some(4)).unwrap();
    }
}
