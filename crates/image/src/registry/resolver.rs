//! Names of registries to addresses, from `/etc/hosts` and the DNS servers of `/etc/resolv.conf`.
//!
//! The C library's resolver is not used: `enclave` is linked static, and there it would load the host's libraries for
//! `nsswitch.conf`, which must be of the very version it was linked with.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// Made at the first name, within the runtime: registries by address need none.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    made: Arc<OnceLock<TokioResolver>>,
}

/// Why a name has no address.
#[derive(Debug, Error)]
enum LookupError {
    #[error("/etc/resolv.conf cannot be used: {0}")]
    Configuration(String),
    #[error("no address is known for the name {0}")]
    Unknown(String),
    #[error("the name {0} could not be looked up: {1}")]
    Failed(String, String),
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let made = self.made.clone();
        Box::pin(async move {
            let resolver = match made.get() {
                Some(resolver) => resolver,
                None => {
                    let new =
                        system_resolver().map_err(|error| LookupError::Configuration(error.to_string()))?;
                    made.get_or_init(|| new)
                }
            };
            let name = name.as_str();
            let found = resolver.lookup_ip(name).await.map_err(|error| failure(name, &error))?;
            let found: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// With the system's servers alone: no others take their place where it names none.
fn system_resolver() -> Result<TokioResolver, NetError> {
    TokioResolver::builder_tokio()?.build()
}

fn failure(name: &str, error: &NetError) -> LookupError {
    if error.is_no_records_found() || error.is_nx_domain() {
        LookupError::Unknown(name.to_owned())
    } else {
        LookupError::Failed(name.to_owned(), error.to_string())
    }
}
