//! The service while it runs: listeners, connections, signals, the end.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use kms_protocol::sigv4::Scope;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::listeners::{Accepted, Listener};
use super::notices::{Notice, Notices};
use super::notify::{self, Manager, State};
use super::{
    Address, Endpoint, Limits, ListenError, Operations, Principals, SERVICE, Shared, TlsError, TlsFiles,
    connection, tls,
};

/// Threads that move bytes. Operations have threads of their own: [`Limits::requests`].
const IO_THREADS: usize = 2;
/// How often [`Operations::housekeeping`] is called.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How long a listener waits when the system has no descriptor or memory for a connection.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a service is made of.
pub struct Settings {
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// Its certificate and key; needed if a listener speaks TLS.
    pub tls: Option<TlsFiles>,
    /// The region that requests are signed for.
    pub region: String,
    /// What clients may take of it.
    pub limits: Limits,
    /// Who may sign requests.
    pub principals: Principals,
    /// What answers requests.
    pub operations: Arc<dyn Operations>,
}

/// What a service that runs is given at SIGHUP.
#[derive(Debug)]
pub struct Reread {
    /// Who may sign requests from now on.
    pub principals: Principals,
    /// The settings that were changed, too, and that it does not take.
    pub at_next_start: Vec<&'static str>,
}

/// Why the service does not run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// There is nowhere to listen.
    #[error("no listener is configured; give kms.toml a [[listener]], or name an enclave")]
    NoListener,
    /// A listener speaks TLS, and there is no certificate.
    #[error("a listener speaks TLS and there is no certificate; give kms.toml a [tls] table")]
    NoTls,
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// One of the listeners.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Threads or signal handlers could not be set up.
    #[error("the service cannot start: {0}")]
    Setup(io::Error),
}

/// A service that listens. It answers from [`Server::start`] on; dropping it ends it at once.
pub struct Server {
    runtime: Runtime,
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
    signals: Signals,
    listeners: JoinSet<()>,
    addresses: Vec<Address>,
}

/// Those that end a service, and the one that makes it read its configuration again.
#[derive(Debug)]
pub(super) struct Signals {
    end: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Server {
    /// Listens everywhere, and answers what comes.
    ///
    /// # Errors
    /// If one of the listeners cannot be had: then none is.
    pub fn start(settings: Settings) -> Result<Self, ServeError> {
        if settings.endpoints.is_empty() {
            return Err(ServeError::NoListener);
        }
        let certificate = settings.tls.as_ref().map(tls::load).transpose()?;
        let limits = settings.limits;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(limits.requests.max(1))
            .thread_name("kms")
            .enable_all()
            .build()
            .map_err(ServeError::Setup)?;
        let (closing, closes) = watch::channel(false);
        let shared = Arc::new(Shared {
            operations: settings.operations,
            principals: RwLock::new(Arc::new(settings.principals)),
            scope: Scope { region: settings.region, service: SERVICE.to_owned() },
            limits,
            turns: Arc::new(Semaphore::new(limits.requests)),
            notices: Notices::default(),
            closing: closes,
        });
        let context = runtime.enter();
        let signals = Signals::new().map_err(ServeError::Setup)?;
        let bound: Result<Vec<_>, _> = settings.endpoints.into_iter().map(Listener::bind).collect();
        let (bound, places) = (bound?, Arc::new(Semaphore::new(limits.connections)));
        let addresses: Vec<_> = bound.iter().map(|listener| listener.address.clone()).collect();
        let mut listeners = JoinSet::new();
        for listener in bound {
            let tls = acceptor(&listener.address, certificate.as_ref())?;
            let own = Arc::new(Semaphore::new(limits.connections_per_listener));
            let door = Door { tls, places: Arc::clone(&places), own, shared: Arc::clone(&shared) };
            listeners.spawn(door.run(listener));
        }
        runtime.spawn(keep_house(Arc::clone(&shared)));
        drop(context);
        Ok(Self { runtime, shared, closing, signals, listeners, addresses })
    }

    /// Where it listens, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Serves until SIGTERM or SIGINT, or until every enclave has ended and there is no other listener. At SIGHUP the principals
    /// become what `reload` reads; what else it reads it puts into place itself, and only if it returns no error. A service manager that
    /// wants to know is told when it serves, reloads and ends.
    pub fn run(mut self, reload: impl Fn() -> Result<Reread, String>) {
        let manager = self.manager();
        self.tell_manager(&manager, State::Serving);
        loop {
            let (signals, listeners) = (&mut self.signals, &mut self.listeners);
            let next = self.runtime.block_on(async {
                tokio::select! {
                    next = signals.next() => next,
                    () = all(listeners) => Next::End,
                }
            });
            match next {
                Next::Reload => {
                    self.tell_manager(&manager, State::Reloading);
                    let state = self.take(reload());
                    self.tell_manager(&manager, state);
                }
                Next::End => break,
            }
        }
        self.shared.notices.tell(&Notice::Ending);
        self.tell_manager(&manager, State::Ending);
        self.end();
    }

    fn take(&self, reread: Result<Reread, String>) -> State {
        let notices = &self.shared.notices;
        match reread {
            Ok(Reread { principals, at_next_start }) => {
                let count = principals.count();
                self.replace_principals(principals);
                notices.tell(&Notice::Reloaded { principals: count });
                if !at_next_start.is_empty() {
                    notices.tell(&Notice::AtNextStart { settings: at_next_start });
                }
                State::Serving
            }
            Err(why) => {
                notices.tell(&Notice::NotReloaded { why });
                State::NotReloaded
            }
        }
    }

    /// The service manager; nobody if it cannot be reached, which is told in the log.
    fn manager(&self) -> Manager {
        Manager::at(std::env::var_os(notify::SOCKET)).unwrap_or_else(|error| {
            self.shared.notices.tell(&Notice::ManagerNotTold { why: error.to_string() });
            Manager::default()
        })
    }

    fn tell_manager(&self, manager: &Manager, state: State) {
        if let Err(error) = manager.tell(state) {
            self.shared.notices.tell(&Notice::ManagerNotTold { why: error.to_string() });
        }
    }

    /// From now on others may sign requests.
    pub fn replace_principals(&self, principals: Principals) {
        self.shared.replace_principals(principals);
    }

    /// Stops listening, answers the requests that run, and ends; after [`Limits::shutdown_time`] in any case.
    pub fn end(mut self) {
        self.closing.send_replace(true);
        let begun = Instant::now();
        let time = self.shared.limits.shutdown_time;
        let listeners = &mut self.listeners;
        let _ended_in_time = self.runtime.block_on(async { timeout(time, all(listeners)).await });
        self.runtime.shutdown_timeout(time.saturating_sub(begun.elapsed()));
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

fn acceptor(
    address: &Address,
    certificate: Option<&Arc<ServerConfig>>,
) -> Result<Option<TlsAcceptor>, ServeError> {
    match (address.tls, certificate) {
        (false, _) => Ok(None),
        (true, Some(certificate)) => Ok(Some(TlsAcceptor::from(Arc::clone(certificate)))),
        (true, None) => Err(ServeError::NoTls),
    }
}

/// What has to be done from time to time, until the runtime ends.
async fn keep_house(shared: Arc<Shared>) {
    let mut times = tokio::time::interval(HOUSEKEEPING);
    loop {
        times.tick().await;
        let operations = Arc::clone(&shared.operations);
        let kept = tokio::task::spawn_blocking(move || operations.housekeeping(SystemTime::now())).await;
        if let Ok(Err(error)) = kept {
            shared.notices.tell(&Notice::HouseNotKept { why: error.to_string() });
        }
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// What a signal asks for.
pub(super) enum Next {
    Reload,
    End,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            end: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Next {
        tokio::select! {
            _ = self.end.recv() => Next::End,
            _ = self.interrupt.recv() => Next::End,
            _ = self.reload.recv() => Next::Reload,
        }
    }
}

/// What lets connections in through one listener.
struct Door {
    tls: Option<TlsAcceptor>,
    /// For the connections of all listeners.
    places: Arc<Semaphore>,
    /// For this one's.
    own: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Door {
    /// Until the service ends, or the enclave at the other side does; then until the last connection has ended.
    async fn run(self, mut listener: Listener) {
        let mut connections = JoinSet::new();
        let mut closing = self.shared.closing();
        let ended = listener.take_ended();
        let mut ended = std::pin::pin!(readable(ended));
        loop {
            tokio::select! {
                accepted = listener.accept() => self.admit(accepted, &listener.address, &mut connections).await,
                // Those that ended are forgotten at once.
                Some(_) = connections.join_next() => {}
                () = closing.begun() => break,
                () = &mut ended => {
                    let listener = listener.address.to_string();
                    self.shared.notices.tell(&Notice::EnclaveEnded { listener });
                    break;
                }
            }
        }
        drop(listener);
        all(&mut connections).await;
    }

    async fn admit(&self, accepted: io::Result<Accepted>, address: &Address, connections: &mut JoinSet<()>) {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return self.not_accepted(&error, address).await,
        };
        let Some(place) = self.place() else {
            let listener = address.to_string();
            return self.shared.notices.tell(&Notice::TooManyConnections { listener });
        };
        let (tls, shared) = (self.tls.clone(), Arc::clone(&self.shared));
        connections.spawn(async move {
            let _place = place;
            match accepted {
                Accepted::Tcp(stream, source) => connection::serve(stream, tls, source, shared).await,
                Accepted::Unix(stream, source) => connection::serve(stream, tls, source, shared).await,
                Accepted::Vsock(stream, source) => connection::serve(stream, tls, source, shared).await,
            }
        });
    }

    /// A place among the connections, if there is one.
    fn place(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some((own, place))
    }

    /// A client that has gone again is not worth a word; a system without descriptors is, and needs a pause.
    async fn not_accepted(&self, error: &io::Error, address: &Address) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected) {
            return;
        }
        let (listener, why) = (address.to_string(), error.to_string());
        self.shared.notices.tell(&Notice::NotAccepted { listener, why });
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Waits until a descriptor is readable; for ever if there is none.
pub(super) async fn readable(descriptor: Option<AsyncFd<OwnedFd>>) {
    match descriptor {
        Some(descriptor) => drop(descriptor.readable().await),
        None => std::future::pending().await,
    }
}
