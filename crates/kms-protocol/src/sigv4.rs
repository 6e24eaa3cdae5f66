//! AWS Signature Version 4: how requests are signed, and how a signature is checked.
//!
//! Specification: "AWS Signature Version 4 for API requests" in AWS's IAM user guide. Of its forms we have the one that
//! clients of KMS use: the signature in the header `Authorization`, over the hash of the whole body. Signatures in the query,
//! unsigned and streamed bodies are refused.
//!
//! Nothing is normalised that is not normal already: a path with `//` or `/../` or a query that is not encoded
//! canonically is refused at both ends, so that signer and service can never mean different requests by one signature.
//! For the same reason each signed header may stand in a request only once.

mod authorization;
mod canonical;
mod error;
mod sign;
mod timestamp;
mod verify;

pub use authorization::Authorization;
pub use error::SigV4Error;
pub use sign::{SignError, sign};
pub use verify::verify_session_token;

use core::fmt;
use core::time::Duration;

use zeroize::Zeroizing;

/// The only algorithm: HMAC with SHA-256 under a key derived from the secret.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends a credential scope.
const TERMINATOR: &str = "aws4_request";
/// The header of the signature.
const AUTHORIZATION: &str = "authorization";
/// The header of the time at which a request was signed.
const DATE: &str = "x-amz-date";
/// The header of a session token.
const SECURITY_TOKEN: &str = "x-amz-security-token";
/// The header in which some clients repeat the hash of the body.
const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// Bytes of an `Authorization` header. Clients of KMS send some 400.
pub const MAX_AUTHORIZATION: usize = 4096;
/// How far a request's clock may be from the checker's, in both directions: AWS's five minutes (IAM user guide, "Signature Version 4").
pub const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
/// Headers of a request that is signed or checked.
pub const MAX_HEADERS: usize = 128;
/// Names of signed headers in one `Authorization` header.
pub const MAX_SIGNED_HEADERS: usize = 64;
/// Characters of an access key id (IAM's API reference, data type `AccessKey`).
pub const MAX_ACCESS_KEY_ID: usize = 128;
/// Characters of a region's or service's name.
pub const MAX_SCOPE_NAME: usize = 64;

/// A request as it is on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it is in the request line, percent-encoding and all.
    pub path: &'a str,
    /// The query as it is in the request line, without the question mark; empty if there is none.
    pub query: &'a str,
    /// The headers, names in any case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The values of a header.
    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }
}

/// Where a signature is valid, beside its day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The region, for example `eu-central-1`.
    pub region: String,
    /// The service: `kms`.
    pub service: String,
}

/// What a caller signs with.
#[derive(Clone)]
pub struct Credentials {
    /// The public name of the secret.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: Zeroizing<String>,
    /// The token that goes with temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.access_key_id;
        formatter.debug_struct("Credentials").field("access_key_id", id).finish_non_exhaustive()
    }
}

/// True for a name that may stand in a credential scope.
fn is_scope_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_SCOPE_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// True for what IAM takes for an access key id: letters, digits and underscores.
fn is_access_key_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_ACCESS_KEY_ID).contains(&id.len()) && id.bytes().all(allowed)
}
