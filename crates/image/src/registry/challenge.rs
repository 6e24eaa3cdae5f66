//! The answer to a registry that asks who we are: RFC 7235's challenges, RFC 7617's Basic, and Docker's "Token Authentication
//! Specification" with Bearer tokens (for identity tokens its OAuth 2 form).

use base64ct::{Base64, Encoding};
use http_auth::ChallengeRef;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::client::{Problem, broken, read_bounded, retry_after};
use super::credentials::Credentials;
use super::destination::{self, Refused};
use super::error::{RegistryError, when};
use super::limits::Limits;
use super::reference::is_loopback_host;

/// Who a token service takes us for; it must be said and means nothing.
const CLIENT_ID: &str = "enclave";

/// Who asks which registry for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) http: &'a reqwest::Client,
    /// Scheme, host and port of the registry.
    pub(super) registry: &'a Url,
    /// The registry's name for messages.
    pub(super) host: &'a str,
    pub(super) repository: &'a str,
    pub(super) credentials: &'a Credentials,
    pub(super) limits: &'a Limits,
}

impl Asker<'_> {
    fn challenge_error(&self, why: &'static str) -> Problem {
        Problem::Fatal(RegistryError::Challenge { host: self.host.to_owned(), why })
    }

    /// The registry does not let us have `what`.
    pub(super) fn refused(&self, what: &str) -> RegistryError {
        let (host, what) = (self.host.to_owned(), what.to_owned());
        match self.credentials.who() {
            None => RegistryError::LoginNeeded { host, what },
            Some(who) => RegistryError::CredentialsRefused { host, who, what },
        }
    }

    /// The value of `Authorization` that the challenge in these headers asks for.
    pub(super) async fn answer(&self, headers: &HeaderMap, what: &str) -> Result<HeaderValue, Problem> {
        let texts: Vec<&str> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<ChallengeRef<'_>> =
            texts.iter().filter_map(|text| http_auth::parse_challenges(text).ok()).flatten().collect();
        let of =
            |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = of("Bearer") {
            let token = self.token(bearer, what).await?;
            return secret(&format!("Bearer {token}"))
                .ok_or_else(|| self.challenge_error("the token that it grants is none"));
        }
        if of("Basic").is_none() {
            return Err(self.challenge_error("it offers neither Basic nor Bearer"));
        }
        match self.credentials {
            Credentials::None => Err(self.refused(what).into()),
            Credentials::Identity(_) => Err(self
                .challenge_error("it wants a password, and the Docker configuration has an identity token")),
            Credentials::Password { user, password } => basic(user, password).ok_or_else(|| {
                self.challenge_error("the password in the Docker configuration cannot be sent")
            }),
        }
    }

    /// A token for pulling from the repository, from the service that the challenge names.
    async fn token(&self, challenge: &ChallengeRef<'_>, what: &str) -> Result<String, Problem> {
        let parameter = |name: &str| {
            challenge
                .params
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").unwrap_or_default();
        let realm = self.realm(&realm).map_err(|why| self.challenge_error(why))?;
        let scope = format!("repository:{}:pull", self.repository);
        let mut query = vec![("scope", scope)];
        query.extend(parameter("service").map(|service| ("service", service)));

        let request = match self.credentials {
            Credentials::Identity(token) => {
                query.push(("grant_type", "refresh_token".to_owned()));
                query.push(("client_id", CLIENT_ID.to_owned()));
                query.push(("refresh_token", token.clone()));
                self.http.post(realm).form(&query)
            }
            Credentials::None => self.http.get(realm).query(&query),
            Credentials::Password { user, password } => {
                self.http.get(realm).query(&query).basic_auth(user, Some(password))
            }
        };
        let response = request.send().await.map_err(|error| broken(&error, self.host))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.refused(what).into());
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let when = when(retry_after(&response));
                return Err(RegistryError::RateLimited { host: self.host.to_owned(), when }.into());
            }
            status if status.is_server_error() => {
                return Err(Problem::Again(format!("its token service answered {}", status.as_u16())));
            }
            _ => return Err(self.challenge_error("its token service gives no token")),
        }
        let what = format!("the token of {}", self.host);
        let bytes = read_bounded(response, self.limits.token_bytes, &what, self.host).await?;
        let grant: Grant = serde_json::from_slice(&bytes)
            .map_err(|_| self.challenge_error("its token service answers something else than a token"))?;
        grant
            .token
            .or(grant.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| self.challenge_error("its token service gives no token"))
    }

    /// The token service's address. Credentials go there: never in the clear, unless the registry itself is on this machine
    /// and spoken to in the clear, and never on a registry's word from elsewhere to something on this machine.
    fn realm(&self, text: &str) -> Result<Url, &'static str> {
        let url = Url::parse(text).map_err(|_| "the address of its token service is none")?;
        let registry_is_own = self.registry.host_str().is_some_and(is_loopback_host);
        match destination::check(&url, registry_is_own, self.registry.scheme() == "http") {
            Ok(()) => Ok(url),
            Err(Refused::Password) => Err("the address of its token service has a password in it"),
            Err(Refused::OwnMachine) => Err("its token service would be on this machine"),
            Err(Refused::Clear) => {
                Err("its token service is not reached by HTTPS, and credentials are not sent in the clear")
            }
        }
    }
}

/// A token service's answer; older ones and newer ones name the token differently.
#[derive(Deserialize)]
struct Grant {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    secret(&format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes())))
}

/// A header's value that is not shown.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
