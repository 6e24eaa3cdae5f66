//! Listeners, TLS, HTTP and its limits.
//!
//! - [`config`]: `kms.toml`, the service's configuration.
//! - [`Server`]: listens, reads requests within their limits, knows whose they are, and has them answered.
//! - [`setup`]: a new service's folder.
//! - [`credentials`]: beside the service, what gives an enclave its access key.
//! - [`harden`]: what the process that holds keys denies itself.

mod authentication;
pub mod certificates;
pub mod config;
mod connection;
pub mod credentials;
mod deadline;
mod errors;
mod hardening;
mod http;
pub mod limits;
mod listeners;
mod notices;
mod notify;
mod running;
pub mod setup;
mod tls;
mod unix_socket;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use kms_protocol::sigv4::Scope;
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::error::KmsError;
use crate::operations::{Caller, Service};
use notices::Notices;

pub use authentication::{Principals, PrincipalsError, SERVICE};
pub use hardening::harden;
pub use limits::Limits;
pub use listeners::{Address, EnclaveEndpoint, Endpoint, ListenError};
pub use running::{Reread, ServeError, Server, Settings};
pub use tls::{TlsError, TlsFiles};

/// What requests are answered by, once it is known whose they are.
pub trait Operations: Send + Sync {
    /// The JSON of an answer. Called on a thread that may block.
    ///
    /// # Errors
    /// What the caller is told instead.
    fn handle(
        &self,
        caller: &Caller<'_>,
        operation: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError>;

    /// What has to be done from time to time. Called on a thread that may block.
    ///
    /// # Errors
    /// If it could not be done; it is tried again next time.
    fn housekeeping(&self, now: SystemTime) -> Result<(), KmsError>;
}

/// What every connection needs.
struct Shared {
    operations: Arc<dyn Operations>,
    principals: RwLock<Arc<Principals>>,
    scope: Scope,
    limits: Limits,
    /// One for each request that is being answered.
    turns: Arc<Semaphore>,
    notices: Notices,
    closing: watch::Receiver<bool>,
}

impl Shared {
    fn principals(&self) -> Arc<Principals> {
        Arc::clone(&self.principals.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_principals(&self, principals: Principals) {
        *self.principals.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(principals);
    }

    fn closing(&self) -> Closing {
        Closing(self.closing.clone())
    }
}

/// Tells when the service has begun to end.
struct Closing(watch::Receiver<bool>);

impl Closing {
    async fn begun(&mut self) {
        // Without a sender nobody runs the service any more.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

impl Operations for Service {
    fn handle(
        &self,
        caller: &Caller<'_>,
        operation: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        Self::handle(self, caller, operation, body, now)
    }

    fn housekeeping(&self, now: SystemTime) -> Result<(), KmsError> {
        Self::housekeeping(self, now)
    }
}
