//! Errors by the names that AWS gives them.
//!
//! A caller sees the name (`__type` of the answer) and the message. Messages never hold a secret, nor why a policy denied: that is for
//! the log. Source: "Errors" of each operation and "Common Error Types" in the AWS KMS API reference.

use core::fmt;

use thiserror::Error;

/// What kind of failure it is: one of AWS's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are AWS's, and documented there")]
pub enum ErrorKind {
    AccessDenied,
    AlreadyExists,
    Disabled,
    DryRunOperation,
    IncompleteSignature,
    IncorrectKey,
    InvalidAliasName,
    InvalidArn,
    InvalidCiphertext,
    InvalidGrantToken,
    InvalidKeyUsage,
    InvalidMarker,
    KmsInternal,
    KmsInvalidState,
    MalformedPolicyDocument,
    NotFound,
    Serialization,
    Throttling,
    UnknownOperation,
    UnsupportedOperation,
    Validation,
}

impl ErrorKind {
    /// The name on the wire: `__type`.
    #[must_use]
    pub const fn aws_name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::AlreadyExists => "AlreadyExistsException",
            Self::Disabled => "DisabledException",
            Self::DryRunOperation => "DryRunOperationException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::IncorrectKey => "IncorrectKeyException",
            Self::InvalidAliasName => "InvalidAliasNameException",
            Self::InvalidArn => "InvalidArnException",
            Self::InvalidCiphertext => "InvalidCiphertextException",
            Self::InvalidGrantToken => "InvalidGrantTokenException",
            Self::InvalidKeyUsage => "InvalidKeyUsageException",
            Self::InvalidMarker => "InvalidMarkerException",
            Self::KmsInternal => "KMSInternalException",
            Self::KmsInvalidState => "KMSInvalidStateException",
            Self::MalformedPolicyDocument => "MalformedPolicyDocumentException",
            Self::NotFound => "NotFoundException",
            Self::Serialization => "SerializationException",
            Self::Throttling => "ThrottlingException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::UnsupportedOperation => "UnsupportedOperationException",
            Self::Validation => "ValidationException",
        }
    }

    /// The status of the HTTP answer: 500 for a failure of the service, 400 for any other.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::KmsInternal => 500,
            _ => 400,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.aws_name())
    }
}

/// A refusal or a failure, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind}: {message}")]
pub struct KmsError {
    kind: ErrorKind,
    message: String,
}

impl KmsError {
    /// An error with a message for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the caller is told beside the name.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}
