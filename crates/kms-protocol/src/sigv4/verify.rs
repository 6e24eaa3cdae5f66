//! Checking a signature.

use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq;

use super::canonical::{self, single_value};
use super::timestamp::Timestamp;
use super::{Authorization, DATE, MAX_HEADERS, Request, SECURITY_TOKEN, Scope, SigV4Error};

/// The header that must be signed whatever else is: without it a signature could be replayed to another service.
const HOST: &str = "host";
/// How the names of all headers begin that AWS gives a meaning; each that is sent must be signed.
const AMAZON: &str = "x-amz-";

impl Authorization {
    /// Checks that whoever has the secret signed just this request, for this service, now.
    ///
    /// `secret` is that of [`Authorization::access_key_id`]; `max_skew` is how far the request's clock may be from `now`,
    /// in both directions (AWS: five minutes). `host`, `x-amz-date` and every other `x-amz-` header of the request must be
    /// signed. A session token is not checked: [`verify_session_token`] does.
    ///
    /// # Errors
    /// [`SigV4Error`] says what is wrong. The signature is compared last, in constant time.
    pub fn verify(
        &self,
        request: &Request<'_>,
        secret: &str,
        expected: &Scope,
        now: SystemTime,
        max_skew: Duration,
    ) -> Result<(), SigV4Error> {
        self.check_headers(request)?;
        let time = Timestamp::parse(single_value(request, DATE)?).ok_or(SigV4Error::Date)?;
        self.check_scope(expected, &time)?;
        check_skew(&time, now, max_skew)?;
        let signature = canonical::signature(request, self.signed_headers(), secret, expected, &time)?;
        if bool::from(signature.ct_eq(self.signature())) { Ok(()) } else { Err(SigV4Error::Mismatch) }
    }

    /// What must be signed is.
    fn check_headers(&self, request: &Request<'_>) -> Result<(), SigV4Error> {
        if request.headers.len() > MAX_HEADERS {
            return Err(SigV4Error::TooManyHeaders);
        }
        let is_signed = |name: &str| self.signed_headers().iter().any(|signed| signed == name);
        let received = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
        let meaningful = received.filter(|name| name.starts_with(AMAZON));
        match [HOST, DATE].map(str::to_owned).into_iter().chain(meaningful).find(|name| !is_signed(name)) {
            Some(name) => Err(SigV4Error::UnsignedHeader(name)),
            None => Ok(()),
        }
    }

    fn check_scope(&self, expected: &Scope, time: &Timestamp) -> Result<(), SigV4Error> {
        if self.date() != time.day() {
            return Err(SigV4Error::OtherDay);
        }
        if self.region() != expected.region {
            return Err(SigV4Error::OtherRegion { expected: expected.region.clone() });
        }
        if self.service() != expected.service {
            return Err(SigV4Error::OtherService { expected: expected.service.clone() });
        }
        Ok(())
    }
}

/// Checks the session token of a request against the one that goes with the caller's key, in constant time.
///
/// # Errors
/// [`SigV4Error::UnknownCredentials`] if it is another one, missing, or there where none is expected;
/// [`SigV4Error::DuplicateHeader`] if there are several.
pub fn verify_session_token(request: &Request<'_>, expected: Option<&str>) -> Result<(), SigV4Error> {
    let received = match single_value(request, SECURITY_TOKEN) {
        Ok(token) => Some(token),
        Err(SigV4Error::MissingHeader(_)) => None,
        Err(error) => return Err(error),
    };
    let same = match (received, expected) {
        (Some(received), Some(expected)) => received.as_bytes().ct_eq(expected.as_bytes()).into(),
        (received, expected) => received == expected,
    };
    if same { Ok(()) } else { Err(SigV4Error::UnknownCredentials) }
}

fn check_skew(time: &Timestamp, now: SystemTime, max_skew: Duration) -> Result<(), SigV4Error> {
    let signed = || time.as_str().to_owned();
    match now.duration_since(time.time()) {
        Ok(age) if age > max_skew => Err(SigV4Error::Expired { signed: signed(), max_skew }),
        Err(ahead) if ahead.duration() > max_skew => {
            Err(SigV4Error::NotYetCurrent { signed: signed(), max_skew })
        }
        _ => Ok(()),
    }
}
