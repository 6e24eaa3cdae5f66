//! Who may sign requests.

use core::fmt;

use zeroize::Zeroizing;

use crate::policy::IdentityPolicy;

/// One access key, and whom it speaks for.
pub struct Principal {
    /// The ARN that policies name it by, such as `arn:aws:iam::000000000000:user/administrator`.
    pub arn: String,
    /// What its requests name it by.
    pub access_key_id: String,
    /// What its requests are signed with.
    pub secret: Zeroizing<String>,
    /// What its requests must carry in `X-Amz-Security-Token`, if anything.
    pub session_token: Option<Zeroizing<String>>,
    /// What it may do besides what key policies allow it by name.
    pub identity_policy: Option<IdentityPolicy>,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("arn", &self.arn)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}
