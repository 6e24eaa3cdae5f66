//! Where a registry's word may send whoever pulls from it: on to other storage, or to a token service.

use reqwest::Url;

use super::reference::is_loopback_host;

/// Why an address is not gone to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has a name or password in it.
    Password,
    /// It is on this machine, and the registry is not.
    OwnMachine,
    /// It is not reached by HTTPS.
    Clear,
}

/// Checks an address that a registry gave: never from HTTPS to the clear, never from elsewhere to something on this machine.
/// `in_the_clear`: who gave it was itself asked without TLS.
pub(super) fn check(url: &Url, registry_is_own: bool, in_the_clear: bool) -> Result<(), Refused> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::Password);
    }
    let own = url.host_str().is_some_and(is_loopback_host);
    if own && !registry_is_own {
        return Err(Refused::OwnMachine);
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if own && in_the_clear => Ok(()),
        _ => Err(Refused::Clear),
    }
}
