//! Why a signature is refused, and by which name AWS's services refuse it.

use std::time::Duration;

use thiserror::Error;

/// Why a request's signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SigV4Error {
    /// There is no `Authorization` header.
    #[error("the request has no Authorization header: sign it with AWS Signature Version 4")]
    NotSigned,
    /// Nobody has this access key, or it goes with another session token. For the service to say: it knows the keys.
    #[error("the access key id or the session token of the request is not known here")]
    UnknownCredentials,
    /// The `Authorization` header is longer than [`super::MAX_AUTHORIZATION`] bytes.
    #[error("the Authorization header is longer than {} bytes", super::MAX_AUTHORIZATION)]
    AuthorizationSize,
    /// Another algorithm than `AWS4-HMAC-SHA256`.
    #[error("the Authorization header must begin with AWS4-HMAC-SHA256 and a space")]
    Algorithm,
    /// Something in the `Authorization` header that is no component of it.
    #[error("the Authorization header has something other than Credential, SignedHeaders and Signature")]
    Component,
    /// A component of the `Authorization` header is missing.
    #[error("the Authorization header has no {0}")]
    MissingComponent(&'static str),
    /// A component of the `Authorization` header stands there twice.
    #[error("the Authorization header has {0} twice")]
    DuplicateComponent(&'static str),
    /// The credential has another form.
    #[error("Credential must be KEYID/YYYYMMDD/REGION/SERVICE/aws4_request")]
    Credential,
    /// The names of signed headers have another form.
    #[error(
        "SignedHeaders must name 1 to {} headers, in lower case, sorted, each once, between semicolons",
        super::MAX_SIGNED_HEADERS
    )]
    SignedHeaders,
    /// The signature has another form.
    #[error("Signature must be 64 lower-case hexadecimal digits")]
    SignatureForm,
    /// More headers than [`super::MAX_HEADERS`].
    #[error("the request has more than {} headers", super::MAX_HEADERS)]
    TooManyHeaders,
    /// A header is named as signed and is not in the request.
    #[error("the header {0} is named in SignedHeaders and is not in the request")]
    MissingHeader(String),
    /// A header that must be unique stands in the request more than once.
    #[error("the header {0} stands in the request more than once")]
    DuplicateHeader(String),
    /// A header that must be signed is not.
    #[error("the header {0} must be in SignedHeaders")]
    UnsignedHeader(String),
    /// A signed header has control characters in its value.
    #[error("the header {0} has control characters in its value")]
    HeaderValue(String),
    /// The method, path or query is not in the only form that is signed.
    #[error("the {0} of the request is not in canonical form")]
    NotCanonical(&'static str),
    /// `x-amz-date` has another form.
    #[error("x-amz-date must be YYYYMMDDTHHMMSSZ")]
    Date,
    /// The day in the credential is not that of `x-amz-date`.
    #[error("the day in Credential is not that of x-amz-date")]
    OtherDay,
    /// The signature is for another region.
    #[error("Credential is for another region: {expected:?} is served here")]
    OtherRegion {
        /// The region served.
        expected: String,
    },
    /// The signature is for another service.
    #[error("Credential is for another service: {expected:?} is served here")]
    OtherService {
        /// The service served.
        expected: String,
    },
    /// The request was signed too long ago.
    #[error("signature expired: {signed} is more than {} s ago; check the caller's clock", max_skew.as_secs())]
    Expired {
        /// When it was signed, as the request says.
        signed: String,
        /// The limit.
        max_skew: Duration,
    },
    /// The request was signed too far in the future.
    #[error("signature not yet current: {signed} is more than {} s ahead; check the caller's clock", max_skew.as_secs())]
    NotYetCurrent {
        /// When it was signed, as the request says.
        signed: String,
        /// The limit.
        max_skew: Duration,
    },
    /// `x-amz-content-sha256` is not the hash of the body, or says that there is none.
    #[error("x-amz-content-sha256 is not the SHA-256 of the body in lower-case hexadecimal digits")]
    BodyHash,
    /// The signature does not match.
    #[error(
        "the signature does not match the request: check the secret access key and how the request was signed"
    )]
    Mismatch,
}

impl SigV4Error {
    /// The name by which AWS's JSON services, KMS among them, refuse this.
    ///
    /// `InvalidSignatureException` is what users of KMS report for a signature that does not match (`aws/aws-sdk-cpp#1681`) and for one that
    /// has expired (`aws/aws-sdk-js-v3#6400`). The other names are those of the lists of common errors in AWS's API references, there in
    /// part without `Exception`; which refusal has which of them is our reading, and was not compared with KMS's own answers. All of them
    /// go with status 400 here.
    #[must_use]
    pub const fn aws_name(&self) -> &'static str {
        match self {
            Self::NotSigned => "MissingAuthenticationTokenException",
            Self::UnknownCredentials => "UnrecognizedClientException",
            Self::AuthorizationSize
            | Self::Algorithm
            | Self::Component
            | Self::MissingComponent(_)
            | Self::DuplicateComponent(_)
            | Self::Credential
            | Self::SignedHeaders
            | Self::SignatureForm
            | Self::TooManyHeaders
            | Self::MissingHeader(_)
            | Self::DuplicateHeader(_)
            | Self::HeaderValue(_)
            | Self::NotCanonical(_)
            | Self::Date => "IncompleteSignatureException",
            Self::UnsignedHeader(_)
            | Self::OtherDay
            | Self::OtherRegion { .. }
            | Self::OtherService { .. }
            | Self::Expired { .. }
            | Self::NotYetCurrent { .. }
            | Self::BodyHash
            | Self::Mismatch => "InvalidSignatureException",
        }
    }
}
