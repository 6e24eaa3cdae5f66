//! Users for the processes of an enclave that root starts: three numbers that no account has, and no other enclave.
//!
//! A number is in use as long as a folder belongs to it: an enclave that has ended may still be looked at, and its files are
//! not another's. Between run folders it is claimed, as vsock addresses are ([`super::host_claim`]).

use std::collections::BTreeSet;
use std::io;

use containment::User;
use thiserror::Error;

use crate::launch::UserRange;
use crate::supervisor::host_claim::HostClaim;

/// One for each process.
const NUMBERS: u32 = 3;

/// Three numbers, of which the supervisor has the first.
#[derive(Debug)]
pub(super) struct UserClaim {
    first: u32,
    _claim: HostClaim,
}

/// Why no numbers could be claimed.
#[derive(Debug, Error)]
pub(super) enum UsersError {
    #[error(
        "the users {0} to {1} cannot be enclaves': give a range without root and with three numbers for each enclave \
         (users in the configuration)"
    )]
    Range(u32, u32),
    #[error(
        "all users from {0} to {1} belong to enclaves; terminate some, or configure a longer range (users in the configuration)"
    )]
    NoneFree(u32, u32),
    #[error("users for the enclave could not be claimed: {0}")]
    Io(#[from] io::Error),
}

impl UserClaim {
    /// Claims the first three numbers of the range that own none of the folders that there are, and that nobody else claims.
    pub(super) fn take(range: UserRange, owners: &BTreeSet<u32>) -> Result<Self, UsersError> {
        let UserRange { first, last } = range;
        // -1 is no user's number, for setresuid(2).
        if first == 0 || last == u32::MAX || last.checked_sub(first).is_none_or(|more| more < NUMBERS - 1) {
            return Err(UsersError::Range(first, last));
        }
        let groups = (first..=last - (NUMBERS - 1)).step_by(NUMBERS as usize);
        for first in groups.filter(|first| !owners.contains(first)) {
            if let Some(claim) = HostClaim::take(&format!("enclave-user-{first}"))? {
                return Ok(Self { first, _claim: claim });
            }
        }
        Err(UsersError::NoneFree(first, last))
    }

    /// Who the supervisor becomes.
    pub(super) const fn supervisor(&self) -> User {
        User { id: self.first, ended_by: self.first }
    }

    /// Who the virtual machine process becomes.
    pub(super) const fn machine(&self) -> User {
        User { id: self.first + 1, ended_by: self.first }
    }

    /// Who the security module becomes.
    pub(super) const fn security_module(&self) -> User {
        User { id: self.first + 2, ended_by: self.first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: UserRange = UserRange { first: 1_999_999_000, last: 1_999_999_008 };

    #[test]
    fn numbers_are_an_enclave_s_alone() {
        let nobody = BTreeSet::new();
        let first = UserClaim::take(RANGE, &nobody).unwrap();
        let second = UserClaim::take(RANGE, &nobody).unwrap();
        let ids = |claim: &UserClaim| {
            [claim.supervisor(), claim.machine(), claim.security_module()].map(|user| user.id)
        };
        assert_eq!(ids(&first), [1_999_999_000, 1_999_999_001, 1_999_999_002]);
        assert_eq!(ids(&second), [1_999_999_003, 1_999_999_004, 1_999_999_005]);
        drop(first);
        // Its folder is still there.
        let third = UserClaim::take(RANGE, &BTreeSet::from([1_999_999_000])).unwrap();
        assert_eq!(third.supervisor().id, 1_999_999_006);
        assert!(matches!(
            UserClaim::take(RANGE, &BTreeSet::from([1_999_999_000])),
            Err(UsersError::NoneFree(1_999_999_000, 1_999_999_008))
        ));
        assert_eq!(UserClaim::take(RANGE, &nobody).unwrap().supervisor().id, 1_999_999_000);
    }

    #[test]
    fn ranges_with_root_or_without_room_are_refused() {
        for (first, last) in [(0, 10), (5, 4), (5, 6), (u32::MAX - 2, u32::MAX)] {
            let range = UserRange { first, last };
            assert!(
                matches!(UserClaim::take(range, &BTreeSet::new()), Err(UsersError::Range(..))),
                "{first}-{last}"
            );
        }
    }
}
