//! The local endpoint: an HTTP port on loopback to which any AWS SDK is pointed (`AWS_ENDPOINT_URL_KMS`).
//!
//! | a request | becomes |
//! |---|---|
//! | `POST /`, an operation that answers with a secret | the same with `Recipient`; what is answered is opened and returned as if there had been none |
//! | the same with a `Recipient` of its own | the same: whoever brings one opens the answer |
//! | `POST /`, any other operation | the same |
//! | `GET /credentials` | what requests are signed with, as AWS's container endpoint answers it |
//!
//! Every request is signed anew: a signature covers `Host` and the body. The SDK's own signature is not checked, because whoever
//! reaches this port can ask it for the credentials as well; but it must name an access key that is known here, so that a
//! program that uses other credentials hears of it. The service's errors are passed on as they are.
//!
//! Only programs in this enclave reach the port. They are bounded all the same: [`limits`].

mod answer;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::answer::{Fault, Reply};
use self::request::ApiRequest;
use crate::client::{Answer, Client, ClientError};
use crate::credentials;
use crate::operation::SecretOperation;

/// What is believed of programs in the enclave.
pub mod limits {
    use std::time::Duration;

    /// Connections at once; more wait to be accepted.
    pub const MAX_CONNECTIONS: usize = 64;
    /// Longest body in bytes: a document has at most 256 KiB, and base64 adds a third.
    pub const MAX_BODY: usize = 512 << 10;
    /// Longest head of a request in bytes.
    pub const MAX_HEAD: usize = 64 << 10;
    /// How long a client may take for the head of a request; also how long a connection may idle.
    pub const HEAD_LIMIT: Duration = Duration::from_secs(20);
    /// How long a client may take for the body.
    pub const BODY_LIMIT: Duration = Duration::from_secs(20);
}

/// The path where credentials are.
pub const CREDENTIALS_PATH: &str = "/credentials";

/// After a failed accept(2), such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The local endpoint.
#[derive(Debug)]
pub struct Proxy {
    client: Client,
    region: Option<String>,
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
    /// An endpoint that asks through this client; for this region, whatever the SDK's signature says, if one is given.
    #[must_use]
    pub const fn new(client: Client, region: Option<String>) -> Self {
        Self { client, region }
    }

    /// Serves whoever connects, for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let slots = Arc::new(Semaphore::new(limits::MAX_CONNECTIONS));
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
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD_LIMIT)
            .max_buf_size(limits::MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        // A client that went away, or was no HTTP client, has been told as much as it could be.
        drop(served);
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let answered = match (request.method(), request.uri().path()) {
            (&Method::POST, "/") => self.operation(request).await,
            (&Method::GET, CREDENTIALS_PATH) => self.credentials().await,
            _ => {
                let message = "POST / is the key service, GET /credentials the credentials";
                Err(Fault::new(404, "UnknownOperationException", message))
            }
        };
        answered.unwrap_or_else(Reply::from)
    }

    async fn credentials(&self) -> Result<Reply, Fault> {
        let issued = self.client.credentials().current().await.map_err(ClientError::from)?;
        Ok(answer::credentials(credentials::served(&issued, SystemTime::now())))
    }

    async fn operation(&self, request: Request<Incoming>) -> Result<Reply, Fault> {
        let request = ApiRequest::read(request).await?;
        let id = &request.access_key_id;
        if !self.client.credentials().knows(id).await {
            let message = format!(
                "the request is signed with access key {id}, which enclave-kms-proxy does not have; let the SDK find its \
                 credentials by itself"
            );
            return Err(Fault::new(400, "UnrecognizedClientException", message));
        }
        let region = self.region.as_deref().unwrap_or(&request.region);
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
