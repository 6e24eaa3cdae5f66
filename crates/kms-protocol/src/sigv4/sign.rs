//! Signing a request.

use std::time::SystemTime;

use thiserror::Error;

use super::authorization::are_signed_headers;
use super::canonical;
use super::timestamp::Timestamp;
use super::{
    ALGORITHM, AUTHORIZATION, Credentials, DATE, MAX_AUTHORIZATION, MAX_HEADERS, Request, SECURITY_TOKEN,
    Scope, SigV4Error, TERMINATOR, is_access_key_id, is_scope_name,
};

/// Headers that are not signed: proxies and HTTP libraries change them on the way. (As botocore and AWS's SDKs leave them
/// out.)
const NEVER_SIGNED: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-amzn-trace-id",
];

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// No `host` among the request's headers.
    #[error("a request needs its host header before it can be signed")]
    NoHost,
    /// The request carries a header that signing would add.
    #[error("the request has a header {0} already: remove what an earlier signature added")]
    Signed(String),
    /// The access key id, region or service has characters that no signature can carry.
    #[error("the {0} is empty, too long or has characters that a signature cannot carry")]
    Name(&'static str),
    /// The time is before 1970 or after 9999.
    #[error("the time cannot be written in a signature: set the clock")]
    Time,
    /// The request has no canonical form, or more headers than allowed.
    #[error("the request cannot be signed: {0}")]
    Request(#[source] SigV4Error),
}

/// Signs a request, and returns the headers to add to it: `x-amz-date`, `x-amz-security-token` if the credentials have
/// one, `authorization`.
///
/// All headers of the request are signed but those that HTTP itself changes on the way. `host` must be among them.
///
/// # Errors
/// [`SignError`] says what is wrong with the request, the credentials or the scope.
pub fn sign(
    request: &Request<'_>,
    credentials: &Credentials,
    scope: &Scope,
    time: SystemTime,
) -> Result<Vec<(String, String)>, SignError> {
    check(request, credentials, scope)?;
    let time = Timestamp::new(time).ok_or(SignError::Time)?;
    let mut added = vec![(DATE, time.as_str())];
    added.extend(credentials.session_token.as_deref().map(|token| (SECURITY_TOKEN, token)));

    let headers: Vec<(&str, &str)> = request.headers.iter().copied().chain(added.iter().copied()).collect();
    let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.retain(|name| !NEVER_SIGNED.contains(&name.as_str()));
    names.sort_unstable();
    let request = Request { headers: &headers, ..*request };
    let signature = canonical::signature(&request, &names, &credentials.secret_access_key, scope, &time);
    let signature = hex::encode(signature.map_err(SignError::Request)?);

    let authorization = format!(
        "{ALGORITHM} Credential={}/{}/{}/{}/{TERMINATOR}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        time.day(),
        scope.region,
        scope.service,
        names.join(";"),
    );
    // What a verifier would not even read must not leave.
    if !are_signed_headers(&names) {
        return Err(SignError::Request(SigV4Error::SignedHeaders));
    }
    if authorization.len() > MAX_AUTHORIZATION {
        return Err(SignError::Request(SigV4Error::AuthorizationSize));
    }
    let added = added.into_iter().chain([(AUTHORIZATION, authorization.as_str())]);
    Ok(added.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn check(request: &Request<'_>, credentials: &Credentials, scope: &Scope) -> Result<(), SignError> {
    let added = [DATE, SECURITY_TOKEN, AUTHORIZATION];
    if request.headers.len().saturating_add(added.len()) > MAX_HEADERS {
        return Err(SignError::Request(SigV4Error::TooManyHeaders));
    }
    if let Some(name) = added.into_iter().find(|name| request.values(name).next().is_some()) {
        return Err(SignError::Signed(name.to_owned()));
    }
    if request.values("host").next().is_none() {
        return Err(SignError::NoHost);
    }
    if !is_access_key_id(&credentials.access_key_id) {
        return Err(SignError::Name("access key id"));
    }
    if !is_scope_name(&scope.region) {
        return Err(SignError::Name("region"));
    }
    if !is_scope_name(&scope.service) {
        return Err(SignError::Name("service"));
    }
    Ok(())
}
