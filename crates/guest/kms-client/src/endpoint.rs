//! The service's endpoint: its address, who may prove to be it, and one HTTP exchange with it inside TLS.
//!
//! Each exchange has a connection of its own. The service may be anything that holds a certificate; what it sends is bounded in size
//! and time.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::route::Route;

/// Media type of requests and answers (AWS JSON 1.1 protocol).
pub const CONTENT_TYPE_JSON: &str = "application/x-amz-json-1.1";

/// Header of answers with the request's id, for whoever asks the service's operator.
pub const REQUEST_ID: &str = "x-amzn-requestid";

/// Longest answer in bytes: a thousand keys in a list take about 150 KiB.
pub const MAX_ANSWER: usize = 1 << 20;

/// How long the service, and the host between, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the first byte of the request to the last of the answer.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), answer: Duration::from_secs(60) }
    }
}

/// What an answer's status may be (RFC 9110, section 15): final ones.
const STATUSES: RangeInclusive<u16> = 200..=599;

/// Most that is read of a file with root certificates: Mozilla's, as text, are 220 KiB.
const MAX_ROOTS_FILE: u64 = 4 << 20;

/// Why an endpoint cannot be used.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// It is no address.
    #[error("the endpoint {url:?} {why}; write it as https://kms.eu-central-1.amazonaws.com")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The root certificates cannot be read.
    #[error("cannot read the root certificates {path}: {why}")]
    Roots {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The image has none.
    #[error("no root certificates in this image: {0}; add a CA bundle to it, or give --ca FILE")]
    NoRoots(String),
    /// The library refuses its own configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// Nobody listens on the host.
    #[error(
        "cannot connect to {route}: {source}; start the key service for this enclave there, or a forwarder to it"
    )]
    Connect {
        /// Where.
        route: Route,
        /// Why not.
        source: io::Error,
    },
    /// Whoever answers is not the service.
    #[error("{host} did not prove to be the key service: {source}")]
    Handshake {
        /// Who was expected.
        host: String,
        /// What was wrong.
        source: io::Error,
    },
    /// A limit in time.
    #[error("the key service did not answer within {:?}", .0)]
    Slow(Duration),
    /// The answer is none.
    #[error("the exchange with the key service broke off: {0}")]
    Http(String),
    /// The answer is longer than any.
    #[error("the key service's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
}

/// Where root certificates come from.
#[derive(Debug, Clone, Copy)]
pub enum Roots<'a> {
    /// A file in PEM.
    File(&'a Path),
    /// The image's CA bundle, where distributions have it (and `SSL_CERT_FILE`, `SSL_CERT_DIR`).
    Image,
}

/// What the service sent.
#[derive(Debug)]
pub struct Raw {
    /// HTTP status.
    pub status: u16,
    /// The service's id of the request.
    pub request_id: Option<String>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

/// The service's endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// As in the URL, with the port if there is one: what `Host` says and signatures cover.
    host: String,
    name: ServerName<'static>,
    route: Route,
    tls: Arc<ClientConfig>,
    limits: Limits,
}

impl Endpoint {
    /// The endpoint of this URL, reached by this route.
    ///
    /// # Errors
    /// If the URL is none of https, or there are no root certificates.
    pub fn new(url: &str, route: Route, roots: Roots<'_>) -> Result<Self, EndpointError> {
        let (host, name) = host(url).map_err(|why| EndpointError::Url { url: url.to_owned(), why })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(root_store(roots)?)
            .with_no_client_auth();
        Ok(Self { host, name, route, tls: Arc::new(config), limits: Limits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The host's name, and port if the URL says one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sees that the service is there and is who it should be; while nobody listens on the host, for `limit`.
    ///
    /// # Errors
    /// [`ExchangeError::Connect`], [`ExchangeError::Handshake`], [`ExchangeError::Slow`].
    pub async fn reach(&self, limit: Duration, waiting: impl FnOnce()) -> Result<(), ExchangeError> {
        let connected = self.route.connect_within(limit, waiting).await;
        let stream = connected.map_err(|source| self.unreachable(source))?;
        self.handshake(stream).await.map(|_| ())
    }

    /// Sends a body to `/` and returns the answer.
    ///
    /// # Errors
    /// Any [`ExchangeError`].
    pub async fn post(&self, headers: &[(String, String)], body: Bytes) -> Result<Raw, ExchangeError> {
        let connected = self.route.connect().await;
        let stream = self.handshake(connected.map_err(|source| self.unreachable(source))?).await?;
        let request = self.request(headers, body)?;
        let limit = self.limits.answer;
        timeout(limit, exchange(stream, request)).await.unwrap_or(Err(ExchangeError::Slow(limit)))
    }

    async fn handshake(&self, stream: UnixStream) -> Result<TlsStream<UnixStream>, ExchangeError> {
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let limit = self.limits.handshake;
        let done = timeout(limit, connector.connect(self.name.clone(), stream)).await;
        done.map_err(|_| ExchangeError::Slow(limit))?
            .map_err(|source| ExchangeError::Handshake { host: self.host.clone(), source })
    }

    fn request(
        &self,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ExchangeError> {
        let mut request = Request::post("/").header(HOST, &self.host);
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(broken)?;
            request = request.header(name, HeaderValue::try_from(value).map_err(broken)?);
        }
        request.body(Full::new(body)).map_err(broken)
    }

    fn unreachable(&self, source: io::Error) -> ExchangeError {
        ExchangeError::Connect { route: self.route.clone(), source }
    }
}

async fn exchange(
    stream: TlsStream<UnixStream>,
    request: Request<Full<Bytes>>,
) -> Result<Raw, ExchangeError> {
    let (mut sender, connection) =
        http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = answer.into_parts();
        // Neither an interim answer nor one of another protocol; no client of ours could be told one either.
        if !STATUSES.contains(&parts.status.as_u16()) {
            return Err(broken(format_args!("status {}", parts.status.as_u16())));
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { ExchangeError::TooLong } else { broken(error) }
        })?;
        let request_id = parts.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = Zeroizing::new(Vec::from(body.to_bytes()));
        Ok(Raw { status: parts.status.as_u16(), request_id, body })
    };
    tokio::pin!(answer);
    // The connection moves the bytes; it may end before the answer has been looked at.
    tokio::select! {
        done = &mut answer => done,
        _ = connection => answer.await,
    }
}

fn broken(error: impl std::fmt::Display) -> ExchangeError {
    ExchangeError::Http(error.to_string())
}

/// What a URL says of the host, for `Host` and for TLS.
fn host(url: &str) -> Result<(String, ServerName<'static>), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is no URL")?;
    if uri.scheme_str() != Some("https") {
        return Err(
            "is not https, and whoever is on the way, the host first of all, could read and change what is sent",
        );
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err("has a path or query");
    }
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("has a user name");
    }
    let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| "names no host")?;
    // As clients write `Host`: the port only if it is not the usual one.
    let host = match authority.port_u16() {
        None | Some(443) => authority.host().to_owned(),
        Some(port) => format!("{}:{port}", authority.host()),
    };
    Ok((host, name))
}

fn root_store(roots: Roots<'_>) -> Result<RootCertStore, EndpointError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::File(path) => {
            let failed = |why: String| EndpointError::Roots { path: path.display().to_string(), why };
            let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
            if length > MAX_ROOTS_FILE {
                return Err(failed(format!("it is longer than {MAX_ROOTS_FILE} bytes")));
            }
            let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
            for certificate in read {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                store.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(failed("it holds no certificate in PEM".to_owned()));
            }
        }
        Roots::Image => {
            let found = rustls_native_certs::load_native_certs();
            // Bundles hold certificates that this library does not take; the others count.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                let why = if why.is_empty() { "no CA bundle was found".to_owned() } else { why.join(", ") };
                return Err(EndpointError::NoRoots(why));
            }
        }
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        host(url).unwrap_err().to_owned()
    }

    #[test]
    fn the_host_is_said_as_clients_say_it() {
        assert_eq!(
            host("https://kms.eu-central-1.amazonaws.com").unwrap().0,
            "kms.eu-central-1.amazonaws.com"
        );
        assert_eq!(host("https://kms.example:8443/").unwrap().0, "kms.example:8443");
        assert_eq!(host("https://kms.example:443").unwrap().0, "kms.example");
        let (name, server) = host("https://[::1]:8443").unwrap();
        assert_eq!((name.as_str(), server.to_str().as_ref()), ("[::1]:8443", "::1"));
    }

    #[test]
    fn an_endpoint_without_tls_is_refused() {
        assert!(refusal("http://kms.example").contains("not https"));
        assert!(refusal("kms.example").contains("not https"));
    }

    #[test]
    fn what_is_more_than_a_host_is_refused() {
        assert!(refusal("https://kms.example/path").contains("path"));
        assert!(refusal("https://kms.example/?a=b").contains("path"));
        assert!(refusal("https://user:word@kms.example").contains("user name"));
        assert!(refusal("https://").contains("is no URL"));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        let error = root_store(Roots::File(file.path())).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
        let error = root_store(Roots::File(Path::new("/nowhere.pem"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere.pem"), "{error}");
    }
}
