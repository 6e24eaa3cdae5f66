//! The local endpoint: an HTTP port on loopback to which any AWS SDK is pointed (`AWS_ENDPOINT_URL_KMS`).
//!
//! | a request | becomes |
//! |---|---|
//! | `POST /`, an operation that answers with a secret | the same with `Recipient`; what is answered is opened and returned as if there had been none |
//! | the same with a `Recipient` of its own | the same: whoever brings one opens the answer |
//! | `POST /`, any other operation | the same |
//! | `GET /credentials` | what requests are signed with, as AWS's container endpoint answers it |
//!
//! Two things keep an application that can be made to send requests (server-side request forgery) from giving its credentials or its
//! secrets away: credentials are given to who shows the [`token`] of this start, and operations are for who has signed them with the
//! credentials. Every request is then signed anew: a signature covers `Host` and the body. The service's errors are passed on as they
//! are.
//!
//! Only programs in this enclave reach the port. They are bounded all the same: [`limits`].

mod answer;
pub mod limits;
mod request;
pub mod token;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::answer::{Fault, Reply};
use self::limits::{Limits, MAX_HEAD, MAX_HEADERS, READ_BUFFER};
use self::request::ApiRequest;
use self::token::Token;
use crate::client::{Answer, Client, ClientError};
use crate::credentials;
use crate::operation::SecretOperation;

/// The path where credentials are.
pub const CREDENTIALS_PATH: &str = "/credentials";

/// After a failed accept(2), such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The local endpoint.
#[derive(Debug)]
pub struct Proxy {
    client: Client,
    region: Option<String>,
    token: Token,
    limits: Limits,
}

/// Listens on this port of 127.0.0.1, after bringing loopback up if nobody has; on any free port if it is 0.
///
/// # Errors
/// Those of bind(2): `EADDRINUSE` if the application or another helper has the port.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    let address = (Ipv4Addr::LOCALHOST, port);
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            enclave_init::network::loopback_up();
            TcpListener::bind(address).await
        }
        other => other,
    }
}

impl Proxy {
    /// An endpoint that asks through this client; for this region, whatever the SDK's signature says, if one is given. It gives credentials
    /// to who shows this token.
    #[must_use]
    pub fn new(client: Client, region: Option<String>, token: Token) -> Self {
        Self { client, region, token, limits: Limits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves whoever connects, for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { continue };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let proxy = Arc::clone(&self);
            tokio::spawn(async move {
                proxy.serve_one(stream).await;
                drop(slot);
            });
        }
    }

    async fn serve_one(&self, stream: TcpStream) {
        // Of a program that takes no answer the kernel hears nothing, and ends the connection (tcp(7), TCP_USER_TIMEOUT).
        let write_time = u32::try_from(self.limits.write_time.as_millis()).unwrap_or(u32::MAX);
        if set_tcp_user_timeout(&stream, write_time).is_err() {
            return;
        }
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        // A client that went away, or was no HTTP client, has been told as much as it could be.
        drop(served);
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (path, query) = (request.uri().path(), request.uri().query());
        let answered = match (request.method(), path, query) {
            (&Method::POST, "/", None) => self.operation(request).await,
            (&Method::GET, CREDENTIALS_PATH, None) => self.credentials(request.headers()).await,
            _ => {
                let message = "POST / is the key service, GET /credentials the credentials";
                Err(Fault::new(404, "UnknownOperationException", message))
            }
        };
        answered.unwrap_or_else(Reply::from)
    }

    async fn credentials(&self, headers: &HeaderMap) -> Result<Reply, Fault> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (Some(token), None) = (shown.next(), shown.next()) else {
            let message =
                "credentials are for who shows AWS_CONTAINER_AUTHORIZATION_TOKEN in the header Authorization";
            return Err(Fault::new(401, "MissingAuthenticationTokenException", message));
        };
        if !self.token.is(token.as_bytes()) {
            let message = "the header Authorization is not the AWS_CONTAINER_AUTHORIZATION_TOKEN that the application was started with";
            return Err(Fault::new(401, "UnrecognizedClientException", message));
        }
        let issued = self.client.credentials().current().await.map_err(ClientError::from)?;
        Ok(answer::credentials(credentials::served(&issued, SystemTime::now())))
    }

    async fn operation(&self, request: Request<Incoming>) -> Result<Reply, Fault> {
        let request = ApiRequest::read(request, self.limits.body_time).await?;
        let id = request.access_key_id();
        let Some(secret) = self.client.credentials().secret_of(id).await else {
            let message = format!(
                "the request is signed with access key {id}, which enclave-kms-proxy does not have; let the SDK find its \
                 credentials by itself"
            );
            return Err(Fault::new(400, "UnrecognizedClientException", message));
        };
        request.verify(&secret, SystemTime::now())?;
        let region = self.region.as_deref().unwrap_or_else(|| request.region());
        if let Some(operation) = SecretOperation::named(&request.operation)
            && let Some(members) = request.without_recipient()?
        {
            return Ok(match self.client.call(region, operation, members).await? {
                Answer::Opened(opened) => answer::opened(operation, &opened),
                Answer::Refused(raw) => answer::passed(raw),
            });
        }
        let raw = self.client.forward(region, &request.operation, request.body.clone()).await?;
        Ok(answer::passed(raw))
    }
}
