//! Requests to one registry: where they may be sent on to, what is tried again, and how much of an answer is read.

use core::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use rustls::CertificateError;
use sha2::{Digest as _, Sha256};

use super::challenge::Asker;
use super::credentials::Credentials;
use super::destination::{self, Refused};
use super::error::{RegistryError, when};
use super::layout::BlobFile;
use super::limits::Limits;
use super::manifest::{Descriptor, Parsed};
use super::resolver::Resolver;
use super::{Event, Request, tls};
use crate::container::{INDEXES, MANIFESTS};
use crate::digest::Digest;

/// How we name ourselves.
const USER_AGENT: &str = concat!("enclave/", env!("CARGO_PKG_VERSION"));
/// The digest that a registry gives for a manifest (Distribution Specification, "Pulling manifests").
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// Another attempt may succeed.
    Again(String),
    /// It will not.
    Fatal(RegistryError),
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        Self::Fatal(error)
    }
}

/// A manifest that was fetched and checked.
#[derive(Debug)]
pub(super) struct Fetched {
    /// As they came.
    pub(super) bytes: Vec<u8>,
    /// Of these bytes.
    pub(super) digest: Digest,
    pub(super) parsed: Parsed,
}

/// One registry, as one user.
#[derive(Debug)]
pub(super) struct Client<'a> {
    request: &'a Request<'a>,
    http: reqwest::Client,
    /// Scheme, host and port.
    registry: Url,
    credentials: Credentials,
    /// What the registry wants to hear, once it has asked.
    authorization: Option<HeaderValue>,
}

impl<'a> Client<'a> {
    /// Finds the user's credentials and how the registry is spoken to.
    pub(super) async fn connect(request: &'a Request<'a>) -> Result<Self, RegistryError> {
        let credentials = request.credentials.find(request.reference)?;
        let loopback = request.reference.is_loopback();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::configuration(!loopback)?)
            .dns_resolver(Arc::new(Resolver::default()))
            .user_agent(USER_AGENT)
            // Redirects are followed here, where it is seen what is sent along.
            .redirect(Policy::none())
            .referer(false)
            // What is tried again, and how often, is said here.
            .retry(reqwest::retry::never())
            .connect_timeout(request.limits.connect_time)
            .read_timeout(request.limits.stall_time);
        if loopback {
            // A proxy could not reach this machine's own registry.
            builder = builder.no_proxy();
        }
        let setup = |error: reqwest::Error| RegistryError::Setup { why: root_cause(&error) };
        let http = builder.build().map_err(setup)?;
        let registry =
            if loopback { loopback_url(&http, request).await? } else { address("https", request)? };
        Ok(Self { request, http, registry, credentials, authorization: None })
    }

    fn host(&self) -> &'a str {
        self.request.reference.registry()
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            http: &self.http,
            registry: &self.registry,
            host: self.host(),
            repository: self.request.reference.repository(),
            credentials: &self.credentials,
            limits: self.request.limits,
        }
    }

    /// Fetches a manifest by tag or digest; `size` is what an index says of it.
    pub(super) async fn manifest(
        &mut self,
        wanted: &str,
        size: Option<u64>,
        progress: &mut dyn FnMut(Event<'_>),
    ) -> Result<Fetched, RegistryError> {
        let what = format!("the manifest of {}", self.request.reference);
        let time = self.request.limits.document_time;
        let mut attempts = Attempts::new(self.request, &what);
        loop {
            let attempt = tokio::time::timeout(time, self.try_manifest(wanted, size, &what)).await;
            match attempt.unwrap_or_else(|_| Err(too_slow(time))) {
                Ok(fetched) => return Ok(fetched),
                Err(problem) => attempts.failed(problem, progress).await?,
            }
        }
    }

    async fn try_manifest(
        &mut self,
        wanted: &str,
        size: Option<u64>,
        what: &str,
    ) -> Result<Fetched, Problem> {
        let accept = MANIFESTS.iter().chain(&INDEXES).copied().collect::<Vec<_>>().join(", ");
        let response = self.get(&format!("manifests/{wanted}"), &accept, what).await?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (content_type, said) = (header(CONTENT_TYPE.as_str()), header(CONTENT_DIGEST));
        let bytes = read_bounded(response, self.request.limits.manifest_bytes, what, self.host()).await?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(expected) = size.filter(|size| *size != length) {
            return Err(RegistryError::Size {
                what: what.to_owned(),
                expected,
                actual: format!("has {length}"),
            }
            .into());
        }
        let digest = Digest::of(&bytes);
        for expected in [Some(wanted), said.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|text| text.parse::<Digest>().ok())
        {
            if digest != expected {
                let what = format!("{what} ({expected})");
                return Err(RegistryError::Digest { what, actual: digest.to_string() }.into());
            }
        }
        let parsed = Parsed::read(&bytes, content_type.as_deref(), what)?;
        Ok(Fetched { bytes, digest, parsed })
    }

    /// Fetches a blob into its file.
    pub(super) async fn blob(
        &mut self,
        blob: &Descriptor,
        file: &mut BlobFile,
        progress: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RegistryError> {
        let what = format!("blob {}", blob.digest);
        let mut attempts = Attempts::new(self.request, &what);
        loop {
            match self.try_blob(blob, file, &what, progress).await {
                Ok(()) => return Ok(()),
                Err(problem) => attempts.failed(problem, progress).await?,
            }
        }
    }

    async fn try_blob(
        &mut self,
        blob: &Descriptor,
        file: &mut BlobFile,
        what: &str,
        progress: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Problem> {
        let digest = blob.digest.to_string();
        let wrong_size = |actual: String| {
            Problem::Fatal(RegistryError::Size { what: what.to_owned(), expected: blob.size, actual })
        };
        let mut response = self.get(&format!("blobs/{digest}"), "*/*", what).await?;
        if let Some(length) = response.content_length().filter(|length| *length != blob.size) {
            return Err(wrong_size(format!("{length} are announced")));
        }
        file.restart()?;
        let mut hash = Sha256::new();
        let mut done: u64 = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| broken(&error, self.host()))? {
            done = done.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if done > blob.size {
                return Err(wrong_size("more come".to_owned()));
            }
            hash.update(&piece);
            file.write(&piece)?;
            progress(Event::Blob { digest: &digest, done, total: blob.size });
        }
        if done < blob.size {
            return Err(Problem::Again(format!("the transfer ended after {done} of {} bytes", blob.size)));
        }
        let actual = Digest::finish(hash);
        if actual != blob.digest {
            return Err(RegistryError::Digest { what: what.to_owned(), actual: actual.to_string() }.into());
        }
        if blob.size == 0 {
            progress(Event::Blob { digest: &digest, done, total: 0 });
        }
        Ok(())
    }

    /// A successful answer to a request about the repository. A registry that asks who we are is answered, once.
    async fn get(&mut self, path: &str, accept: &str, what: &str) -> Result<Response, Problem> {
        let path = format!("/v2/{}/{path}", self.request.reference.repository());
        let url = self.registry.join(&path).map_err(|_| {
            Problem::Fatal(RegistryError::Reference {
                text: self.request.reference.to_string(),
                why: "no address can be made of it".to_owned(),
            })
        })?;
        let response = self.follow(url.clone(), accept, what).await?;
        let response = if self.is_challenge(&response) {
            // Also in the middle of an image: tokens last for minutes.
            let time = self.request.limits.document_time;
            let answer = tokio::time::timeout(time, self.asker().answer(response.headers(), what)).await;
            self.authorization = Some(answer.unwrap_or_else(|_| Err(too_slow(time)))?);
            self.follow(url, accept, what).await?
        } else {
            response
        };
        self.check(response, what)
    }

    /// Only the registry itself is told who we are.
    fn is_challenge(&self, response: &Response) -> bool {
        response.status() == StatusCode::UNAUTHORIZED && response.url().origin() == self.registry.origin()
    }

    /// Sends a request, and on to where the answer says. Who we are is told to the registry alone.
    async fn follow(&self, mut url: Url, accept: &str, what: &str) -> Result<Response, Problem> {
        for _ in 0..=self.request.limits.redirects {
            let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
            if let Some(value) =
                self.authorization.as_ref().filter(|_| url.origin() == self.registry.origin())
            {
                request = request.header(AUTHORIZATION, value.clone());
            }
            let response = request.send().await.map_err(|error| broken(&error, self.host()))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location =
                response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            url = self.next(&url, location).map_err(|why| self.redirect_error(what, why))?;
        }
        Err(self.redirect_error(what, "it was sent on too often"))
    }

    fn redirect_error(&self, what: &str, why: &'static str) -> Problem {
        Problem::Fatal(RegistryError::Redirect { host: self.host().to_owned(), what: what.to_owned(), why })
    }

    /// Where a request is sent on to.
    fn next(&self, from: &Url, location: &str) -> Result<Url, &'static str> {
        let url = Some(location)
            .filter(|location| !location.is_empty())
            .and_then(|location| from.join(location).ok())
            .ok_or("the new address is none")?;
        let registry_is_own = self.request.reference.is_loopback();
        match destination::check(&url, registry_is_own, from.scheme() == "http") {
            Ok(()) => Ok(url),
            Err(Refused::Password) => Err("the new address has a password in it"),
            Err(Refused::OwnMachine) => Err("the new address is on this machine"),
            Err(Refused::Clear) => Err("the new address is not reached by HTTPS"),
        }
    }

    /// Turns an answer that is no success into what it means.
    fn check(&self, response: Response, what: &str) -> Result<Response, Problem> {
        let (host, what) = (self.host().to_owned(), what.to_owned());
        Err(match response.status() {
            StatusCode::OK => return Ok(response),
            StatusCode::UNAUTHORIZED if self.is_challenge(&response) => self.asker().refused(&what),
            StatusCode::FORBIDDEN => RegistryError::Forbidden { host, what },
            StatusCode::NOT_FOUND => RegistryError::NotFound { host, what },
            StatusCode::TOO_MANY_REQUESTS => {
                RegistryError::RateLimited { host, when: when(retry_after(&response)) }
            }
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                return Err(Problem::Again(format!("it answered {}", status.as_u16())));
            }
            status => RegistryError::Status { host, what, status: status.as_u16() },
        }
        .into())
    }
}

/// The attempts at one transfer.
#[derive(Debug)]
struct Attempts<'a> {
    limits: &'a Limits,
    host: &'a str,
    what: &'a str,
    made: u32,
}

impl<'a> Attempts<'a> {
    fn new(request: &'a Request<'a>, what: &'a str) -> Self {
        Self { limits: request.limits, host: request.reference.registry(), what, made: 0 }
    }

    /// Returns after a pause if another attempt is to be made.
    async fn failed(
        &mut self,
        problem: Problem,
        progress: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), RegistryError> {
        let why = match problem {
            Problem::Fatal(error) => return Err(error),
            Problem::Again(why) => why,
        };
        let pause = self.limits.pause.saturating_mul(2_u32.saturating_pow(self.made));
        self.made = self.made.saturating_add(1);
        if self.made >= self.limits.attempts {
            return Err(RegistryError::Interrupted {
                what: self.what.to_owned(),
                host: self.host.to_owned(),
                attempts: self.made,
                why,
            });
        }
        progress(Event::Retry { what: self.what, why: &why });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn too_slow(time: Duration) -> Problem {
    Problem::Again(format!("it took more than {} s", time.as_secs()))
}

/// An answer's whole body, if it is not larger than `limit`.
pub(super) async fn read_bounded(
    mut response: Response,
    limit: u64,
    what: &str,
    host: &str,
) -> Result<Vec<u8>, Problem> {
    let too_large =
        |size: String| Problem::Fatal(RegistryError::TooLarge { what: what.to_owned(), size, limit });
    if let Some(length) = response.content_length().filter(|length| *length > limit) {
        return Err(too_large(length.to_string()));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error, host))? {
        let length = bytes.len().saturating_add(piece.len());
        if u64::try_from(length).map_or(true, |length| length > limit) {
            return Err(too_large(format!("more than {limit}")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// When to come again, if the registry says it in seconds.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// What a failed exchange means. Addresses stay out of it: those of redirects hold signatures.
pub(super) fn broken(error: &reqwest::Error, host: &str) -> Problem {
    if let Some(why) = certificate_problem(error) {
        return Problem::Fatal(RegistryError::Certificate { host: host.to_owned(), why });
    }
    Problem::Again(if error.is_timeout() {
        "nothing came for too long".to_owned()
    } else if error.is_connect() {
        format!("no connection: {}", root_cause(error))
    } else {
        format!("the connection broke: {}", root_cause(error))
    })
}

/// What is behind an error. What an I/O error wraps is not its source, but the source of what it wraps is.
fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The innermost reason, which alone names no address.
fn root_cause(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "the request cannot be sent".to_owned() };
    while let Some(inner) = behind(cause) {
        cause = inner;
    }
    cause.to_string()
}

/// Why the other side's certificate does not hold, if that is what failed.
fn certificate_problem(error: &reqwest::Error) -> Option<&'static str> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(match why {
                CertificateError::UnknownIssuer => "no certificate authority of this system has signed it",
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "it is not valid yet"
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "it was made for another name"
                }
                _ => "it does not hold",
            });
        }
        cause = behind(error);
    }
    None
}

/// The registry's address.
fn address(scheme: &str, request: &Request<'_>) -> Result<Url, RegistryError> {
    Url::parse(&format!("{scheme}://{}/", request.reference.host())).map_err(|_| RegistryError::Reference {
        text: request.reference.to_string(),
        why: "its registry is no address".to_owned(),
    })
}

/// A registry on this machine is spoken to by TLS if it can, as Docker does, else in the clear.
async fn loopback_url(http: &reqwest::Client, request: &Request<'_>) -> Result<Url, RegistryError> {
    let secure = address("https", request)?;
    let probe = secure.join("/v2/").unwrap_or_else(|_| secure.clone());
    match http.get(probe).send().await {
        Ok(_) => Ok(secure),
        Err(error) => match broken(&error, request.reference.registry()) {
            Problem::Fatal(error) => Err(error),
            Problem::Again(_) => address("http", request),
        },
    }
}
