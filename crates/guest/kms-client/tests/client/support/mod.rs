//! A real security module, a service that answers what a test says, a local endpoint between, and an SDK's requests to it.

pub(crate) mod module;
pub(crate) mod sdk;
pub(crate) mod service;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use kms_client::client::Client;
use kms_client::credentials::Source;
use kms_client::endpoint::{self, Endpoint, Roots};
use kms_client::proxy::limits::Limits;
use kms_client::proxy::token::Token;
use kms_client::proxy::{self, Proxy};
use kms_client::recipient::Recipient;
use kms_client::route::Route;
use kms_protocol::sigv4::Credentials;
use tokio::runtime::Runtime;

use self::module::Module;
use self::service::Service;

/// What requests are signed with.
pub(crate) fn keys(id: &str) -> Credentials {
    Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: format!("secret of {id}").into(),
        session_token: None,
    }
}

/// The access key that the local endpoint has.
pub(crate) const KEY: &str = "AKIATEST";

/// A client of this service that waits no longer than this.
pub(crate) fn impatient(service: &Service, limits: endpoint::Limits) -> Client {
    Client::new(endpoint(service).with_limits(limits), recipient(), Source::Fixed(keys(KEY)))
}

/// A client of this service with the security module of a test.
pub(crate) fn client(service: &Service, credentials: Source) -> Client {
    Client::new(endpoint(service), recipient(), credentials)
}

fn endpoint(service: &Service) -> Endpoint {
    let route = Route::Unix(service.socket());
    let url = format!("https://{}", tls::HOST);
    Endpoint::new(&url, route, Roots::File(service.certificates().root())).unwrap()
}

fn recipient() -> Arc<Recipient> {
    Arc::new(Recipient::new(Module::new()).unwrap())
}

/// A local endpoint that runs.
pub(crate) struct Local {
    pub(crate) address: SocketAddr,
    /// What programs show it to be given credentials.
    pub(crate) token: String,
    _runtime: Runtime,
}

impl Local {
    /// Before this service, with credentials of its own.
    pub(crate) fn new(service: &Service) -> Self {
        Self::with(service, Source::Fixed(keys(KEY)), None)
    }

    pub(crate) fn with(service: &Service, credentials: Source, region: Option<&str>) -> Self {
        Self::run(client(service, credentials), region, Limits::default())
    }

    pub(crate) fn limited(service: &Service, limits: Limits) -> Self {
        Self::run(client(service, Source::Fixed(keys(KEY))), None, limits)
    }

    pub(crate) fn run(client: Client, region: Option<&str>, limits: Limits) -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(proxy::listen(0)).unwrap();
        let (address, token) = (listener.local_addr().unwrap(), Token::new().unwrap());
        let text = token.as_str().to_owned();
        let proxy = Proxy::new(client, region.map(str::to_owned), token).with_limits(limits);
        runtime.spawn(Arc::new(proxy).serve(listener));
        Self { address, token: text, _runtime: runtime }
    }
}

/// A runtime with a thread of its own, so that a test can wait elsewhere.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
