//! Names of registries to addresses, from `/etc/hosts` and the DNS servers of `/etc/resolv.conf`.
//!
//! The C library's resolver is not used: `enclave` is linked static, and there it would load the host's libraries for
//! `nsswitch.conf`, which must be of the very version it was linked with.

use std::net::SocketAddr;
use std::sync::OnceLock;

use hickory_resolver::TokioResolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Made at the first name, within the runtime: registries by address need none.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    made: std::sync::Arc<OnceLock<TokioResolver>>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let made = self.made.clone();
        Box::pin(async move {
            let resolver = match made.get() {
                Some(resolver) => resolver,
                // No other servers are put in the place of those that the system does not name.
                None => {
                    let new = TokioResolver::builder_tokio()?.build()?;
                    made.get_or_init(|| new)
                }
            };
            let found: Vec<SocketAddr> = resolver
                .lookup_ip(name.as_str())
                .await?
                .iter()
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
