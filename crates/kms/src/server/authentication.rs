//! Whose request it is: SigV4 against the principals of the configuration.

use std::collections::HashMap;
use std::time::SystemTime;

use getrandom::SysRng;
use kms_protocol::sigv4::{self, Authorization, Request, Scope, SigV4Error, verify_session_token};
use rand_core::TryRng;
use zeroize::Zeroizing;

use crate::principal::Principal;

/// The service that requests are signed for.
pub const SERVICE: &str = "kms";

/// Everybody who may sign requests, by access key id.
#[derive(Debug)]
pub struct Principals {
    by_key: HashMap<String, Principal>,
    /// What signatures by unknown keys are compared with, so that they take as long as others.
    nobody: Zeroizing<String>,
}

/// Why there are no [`Principals`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalsError {
    /// One access key id, two principals.
    #[error("the access key id {0} is given to two principals")]
    Duplicate(String),
    /// The random number generator failed.
    #[error("no randomness: the random number generator failed")]
    Randomness,
}

impl Principals {
    /// Puts principals together.
    ///
    /// # Errors
    /// If two have the same access key id, or the random number generator fails.
    pub fn new(principals: Vec<Principal>) -> Result<Self, PrincipalsError> {
        let mut nobody = [0; 20];
        SysRng.try_fill_bytes(&mut nobody).map_err(|_| PrincipalsError::Randomness)?;
        let mut by_key = HashMap::with_capacity(principals.len());
        for principal in principals {
            let id = principal.access_key_id.clone();
            if by_key.insert(id.clone(), principal).is_some() {
                return Err(PrincipalsError::Duplicate(id));
            }
        }
        Ok(Self { by_key, nobody: Zeroizing::new(hex::encode(nobody)) })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Whose request it is.
    ///
    /// Whether anybody has the access key makes no difference until the signature has been computed and compared.
    ///
    /// # Errors
    /// [`SigV4Error`] says why it is nobody's.
    pub fn authenticate(
        &self,
        request: &Request<'_>,
        scope: &Scope,
        now: SystemTime,
    ) -> Result<&Principal, SigV4Error> {
        let authorization = Authorization::of(request)?;
        let principal = self.by_key.get(authorization.access_key_id());
        let secret = principal.map_or(&self.nobody, |principal| &principal.secret);
        let signed = authorization.verify(request, secret, scope, now, sigv4::MAX_SKEW);
        let principal = principal.ok_or(SigV4Error::UnknownCredentials)?;
        signed?;
        verify_session_token(request, principal.session_token.as_ref().map(|token| token.as_str()))?;
        Ok(principal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kms_protocol::sigv4::{Credentials, sign};

    use super::*;

    const ID: &str = "AKIAAAAAAAAAAAAAAAAA";
    const SECRET: &str = "a secret of forty characters or a few m";

    fn principal(token: Option<&str>) -> Principal {
        Principal {
            arn: "arn:aws:iam::000000000000:user/a".to_owned(),
            access_key_id: ID.to_owned(),
            secret: Zeroizing::new(SECRET.to_owned()),
            session_token: token.map(|token| Zeroizing::new(token.to_owned())),
            identity_policy: None,
        }
    }

    fn scope(region: &str, service: &str) -> Scope {
        Scope { region: region.to_owned(), service: service.to_owned() }
    }

    fn credentials(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: Zeroizing::new(secret.to_owned()),
            session_token: token.map(str::to_owned),
        }
    }

    /// What becomes of a request with `body` that was signed for `{}` by `credentials`.
    fn asked(
        ours: Principal,
        credentials: &Credentials,
        signed_for: &Scope,
        (signed_at, now): (SystemTime, SystemTime),
        body: &[u8],
    ) -> Result<String, SigV4Error> {
        let mut headers = vec![("host", "localhost:8443")];
        let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: b"{}" };
        let added = sign(&request, credentials, signed_for, signed_at).unwrap();
        headers.extend(added.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let request = Request { method: "POST", path: "/", query: "", headers: &headers, body };
        let principals = Principals::new(vec![ours]).unwrap();
        principals.authenticate(&request, &scope("local-1", SERVICE), now).map(|found| found.arn.clone())
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn name(result: Result<String, SigV4Error>) -> &'static str {
        result.map_or_else(|error| error.aws_name(), |_| "authenticated")
    }

    #[test]
    fn the_principal_of_the_key_is_found() {
        let result = asked(
            principal(None),
            &credentials(ID, SECRET, None),
            &scope("local-1", "kms"),
            (at(0), at(0)),
            b"{}",
        );
        assert_eq!(result.unwrap(), "arn:aws:iam::000000000000:user/a");
    }

    #[test]
    fn an_unsigned_request_is_refused() {
        let request =
            Request { method: "POST", path: "/", query: "", headers: &[("host", "localhost")], body: b"{}" };
        let principals = Principals::new(vec![principal(None)]).unwrap();
        let error = principals.authenticate(&request, &scope("local-1", "kms"), at(0)).unwrap_err();
        assert_eq!(error.aws_name(), "MissingAuthenticationTokenException");
    }

    #[test]
    fn an_unknown_key_is_refused_even_with_the_secret_of_another() {
        let stranger = credentials("AKIABBBBBBBBBBBBBBBB", SECRET, None);
        let result = asked(principal(None), &stranger, &scope("local-1", "kms"), (at(0), at(0)), b"{}");
        assert_eq!(name(result), "UnrecognizedClientException");
    }

    #[test]
    fn another_secret_region_service_or_body_is_refused() {
        let own = credentials(ID, SECRET, None);
        let other = credentials(ID, "another secret of forty characters", None);
        let ours = scope("local-1", "kms");
        let now = (at(0), at(0));
        for (what, credentials, scope, body) in [
            ("secret", &other, &ours, &b"{}"[..]),
            ("region", &own, &scope("us-east-1", "kms"), b"{}"),
            ("service", &own, &scope("local-1", "s3"), b"{}"),
            ("body", &own, &ours, b"{ }"),
        ] {
            let result = asked(principal(None), credentials, scope, now, body);
            assert_eq!(name(result), "InvalidSignatureException", "{what}");
        }
    }

    #[test]
    fn a_clock_may_be_five_minutes_off_and_no_second_more() {
        let own = credentials(ID, SECRET, None);
        let signed_for = scope("local-1", "kms");
        let result = |times| name(asked(principal(None), &own, &signed_for, times, b"{}"));
        assert_eq!(result((at(0), at(300))), "authenticated");
        assert_eq!(result((at(300), at(0))), "authenticated");
        assert_eq!(result((at(0), at(301))), "InvalidSignatureException");
        assert_eq!(result((at(301), at(0))), "InvalidSignatureException");
    }

    #[test]
    fn a_session_token_must_be_the_principals() {
        let signed_for = scope("local-1", "kms");
        let result = |ours, sent| {
            let sent = credentials(ID, SECRET, sent);
            name(asked(principal(ours), &sent, &signed_for, (at(0), at(0)), b"{}"))
        };
        assert_eq!(result(Some("token"), Some("token")), "authenticated");
        for (ours, sent) in [(Some("token"), None), (Some("token"), Some("tokem")), (None, Some("token"))] {
            assert_eq!(result(ours, sent), "UnrecognizedClientException", "{ours:?} {sent:?}");
        }
    }

    #[test]
    fn one_key_is_one_principals() {
        let error = Principals::new(vec![principal(None), principal(None)]).unwrap_err();
        assert_eq!(error, PrincipalsError::Duplicate(ID.to_owned()));
    }
}
