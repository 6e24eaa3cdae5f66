//! Answers to requests that are refused, in the form of AWS's JSON protocol.
//!
//! `{"__type":NAME,"message":TEXT}` with status 400, or 500 if it is the service's fault. A body that is too long or too slow has HTTP's
//! own status, and the connection ends, for its rest was not read.

use hyper::StatusCode;
use kms_protocol::sigv4::SigV4Error;
use serde_json::json;

use crate::error::{ErrorKind, KmsError};

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    name: &'static str,
    message: String,
    /// The connection cannot be used again.
    closes: bool,
}

impl Refusal {
    /// The body was not wanted or not complete.
    fn closing(status: StatusCode, name: &'static str, message: String) -> Self {
        Self { status, name, message, closes: true }
    }

    /// A body above the limit.
    pub(super) fn body_too_long(limit: usize) -> Self {
        let message = format!("The body is longer than {limit} bytes.");
        Self::closing(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", message)
    }

    /// A body that took too long.
    pub(super) fn body_too_slow() -> Self {
        let message = "The body did not arrive in time.".to_owned();
        Self::closing(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException", message)
    }

    /// A body that ended before its end, or is not what HTTP says of bodies.
    pub(super) fn body_broken() -> Self {
        let message = "The body could not be read.".to_owned();
        Self::closing(StatusCode::BAD_REQUEST, ErrorKind::Serialization.aws_name(), message)
    }

    /// The status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether the connection ends with this answer.
    pub(super) const fn closes(&self) -> bool {
        self.closes
    }

    /// The body of the answer.
    pub(super) fn to_json(&self) -> Vec<u8> {
        json!({ "__type": self.name, "message": self.message }).to_string().into_bytes()
    }
}

impl From<KmsError> for Refusal {
    fn from(error: KmsError) -> Self {
        let status =
            StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, name: error.kind().aws_name(), message: error.message().to_owned(), closes: false }
    }
}

impl From<SigV4Error> for Refusal {
    fn from(error: SigV4Error) -> Self {
        let message = error.to_string();
        Self { status: StatusCode::BAD_REQUEST, name: error.aws_name(), message, closes: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_name_and_message() {
        let refusal = Refusal::from(KmsError::new(ErrorKind::AccessDenied, "no \"quotes\" break out"));
        assert_eq!(refusal.status(), 400);
        let json: serde_json::Value = serde_json::from_slice(&refusal.to_json()).unwrap();
        assert_eq!(json, json!({"__type": "AccessDeniedException", "message": "no \"quotes\" break out"}));
        assert!(!refusal.closes());
    }

    #[test]
    fn a_failure_of_the_service_is_not_the_callers_fault() {
        assert_eq!(Refusal::from(KmsError::new(ErrorKind::KmsInternal, "")).status(), 500);
    }
}
