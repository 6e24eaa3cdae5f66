//! Why a request was not done.

use std::io;

use guest::nsm::NsmError;
use thiserror::Error;

/// What follows `error ` in an answer.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    /// No request of that name.
    #[error("unknown request {0:?}")]
    Unknown(String),
    /// Words missing, too many, or not what they should be.
    #[error("usage: {0}")]
    Usage(&'static str),
    /// The line has no end within the limit.
    #[error("the request is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended before the line or the announced bytes did.
    #[error("the connection ended after {0} bytes")]
    Ended(u64),
    /// The security module.
    #[error(transparent)]
    Nsm(#[from] NsmError),
    /// The system refused.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
}

impl DemoError {
    /// For `map_err`: what was tried when the system refused.
    pub(crate) fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |cause| Self::System { what, cause: cause.into() }
    }
}
