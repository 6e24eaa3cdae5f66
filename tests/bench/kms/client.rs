//! A client over HTTPS: TLS 1.3, one connection for many requests, each signed.

use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kms_protocol::sigv4::{self, Scope, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::request::REGION;
use super::served::Served;

/// Name of the service in its certificate.
const HOST: &str = "localhost";

/// Connects to one service.
pub(super) struct Connector<'s> {
    service: &'s Served,
    runtime: Runtime,
    tls: TlsConnector,
}

/// A connection.
pub(super) struct Client<'c> {
    connector: &'c Connector<'c>,
    sender: SendRequest<Full<Bytes>>,
}

/// A request that can be sent.
pub(super) type Signed = Request<Full<Bytes>>;

impl<'s> Connector<'s> {
    pub(super) fn new(service: &'s Served) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&service.authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        // A client of its own each time: nothing of an earlier connection makes the next one's handshake shorter.
        config.resumption = rustls::client::Resumption::disabled();
        Self { service, runtime, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// With its handshake done.
    pub(super) fn connect(&self) -> Client<'_> {
        let sender = self.runtime.block_on(async {
            let stream = TcpStream::connect(self.service.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let name = ServerName::try_from(HOST).unwrap();
            let stream = self.tls.connect(name, stream).await.unwrap();
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            // Moves the bytes while an answer is waited for. It ends when the sender is dropped.
            self.runtime.spawn(connection);
            sender
        });
        Client { connector: self, sender }
    }

    /// As SDKs sign it.
    pub(super) fn sign(&self, operation: &str, body: &[u8]) -> Signed {
        let target = format!("TrentService.{operation}");
        let own = [
            ("host", HOST),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        let scope = Scope { region: REGION.into(), service: kms::server::SERVICE.into() };
        let unsigned = sigv4::Request { method: "POST", path: "/", query: "", headers: &own, body };
        let added = sign(&unsigned, &self.service.credentials, &scope, SystemTime::now()).unwrap();
        let mut request = Request::post("/");
        for (name, value) in own {
            request = request.header(name, value);
        }
        for (name, value) in added {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
    }
}

impl Client<'_> {
    /// The body of the answer.
    pub(super) fn send(&mut self, request: Signed) -> Bytes {
        self.connector.runtime.block_on(async {
            let (head, body) = self.sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(head.status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
            // The connection is free for the next request once its task has seen the end of this one.
            self.sender.ready().await.unwrap();
            body
        })
    }
}
