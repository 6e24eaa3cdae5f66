//! Where the service listens: TCP, Unix sockets, vsock.
//!
//! Plain HTTP over TCP is for loopback addresses alone. What an enclave reaches through its host is in TLS, which ends in the
//! enclave: the host would read the secrets otherwise.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::Serialize;
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use super::limits::BACKLOG;
use super::unix_socket::{self, BoundSocket};

/// The kind of a listener for one enclave.
const ENCLAVE: &str = "enclave";

/// One place to listen at, as it is configured.
#[derive(Debug)]
pub enum Endpoint {
    /// HTTPS over TCP.
    Https(SocketAddr),
    /// HTTP over TCP, on a loopback address.
    Http(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Whether it speaks TLS.
        tls: bool,
    },
    /// A port of this host's own vsock, whoever connects.
    Vsock {
        /// The port.
        port: u32,
        /// Whether it speaks TLS.
        tls: bool,
    },
    /// A vsock port of one enclave. Always in TLS.
    Enclave(EnclaveEndpoint),
}

/// Where the connections of one enclave to (CID 3, port) come out at its host.
#[derive(Debug)]
pub struct EnclaveEndpoint {
    /// The enclave's name, for people.
    pub name: String,
    /// The vsock port.
    pub port: u32,
    /// The enclave's folder (RunDir).
    pub folder: PathBuf,
    /// A descriptor that becomes readable when the enclave has ended: its supervisor's pidfd.
    pub ended: OwnedFd,
}

/// Where the service listens, for people and their programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Address {
    /// "https", "http", "unix", "vsock" or "enclave".
    pub kind: &'static str,
    /// The address, path or port.
    pub address: String,
    /// Whether it speaks TLS.
    #[serde(rename = "TLS")]
    pub tls: bool,
}

/// Why the service cannot listen somewhere.
#[derive(Debug, Error)]
pub enum ListenError {
    /// HTTP without TLS where others can listen.
    #[error("HTTP without TLS is for loopback addresses, which {0} is not; use https, or 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// Where.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// A path without a name, or an enclave's folder that is gone.
    #[error("{0} cannot be a socket's path; name a file in an existing folder")]
    Path(PathBuf),
}

/// A connection, and who is at its other end.
pub(super) enum Accepted {
    Tcp(TcpStream, Arc<str>),
    Unix(UnixStream, Arc<str>),
    Vsock(VsockStream, Arc<str>),
}

/// Something that listens.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    /// Where.
    pub(super) address: Address,
    /// Becomes readable when there is nobody left to listen to.
    ended: Option<AsyncFd<OwnedFd>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// With the name that goes when it is dropped.
    Unix {
        listener: UnixListener,
        _name: BoundSocket,
    },
    Vsock(VsockListener),
}

impl Listener {
    /// Listens, in the current runtime.
    pub(super) fn bind(endpoint: Endpoint) -> Result<Self, ListenError> {
        match endpoint {
            Endpoint::Https(address) => Self::tcp("https", address, true),
            Endpoint::Http(address) if address.ip().is_loopback() => Self::tcp("http", address, false),
            Endpoint::Http(address) => Err(ListenError::NotLoopback(address)),
            Endpoint::Unix { path, tls } => Self::unix(&path, tls),
            Endpoint::Vsock { port, tls } => Self::vsock(port, tls),
            Endpoint::Enclave(enclave) => Self::enclave(enclave),
        }
    }

    fn tcp(kind: &'static str, address: SocketAddr, tls: bool) -> Result<Self, ListenError> {
        let bind = || -> io::Result<(TcpListener, SocketAddr)> {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, BACKLOG)?;
            let listener = TcpListener::from_std(StdTcpListener::from(socket))?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        let (listener, bound) = bind().map_err(failed(&address.to_string()))?;
        let address = Address { kind, address: bound.to_string(), tls };
        Ok(Self { socket: Socket::Tcp(listener), address, ended: None })
    }

    fn unix(path: &Path, tls: bool) -> Result<Self, ListenError> {
        let folder = path.parent().ok_or_else(|| ListenError::Path(path.to_owned()))?;
        let name = path.file_name().ok_or_else(|| ListenError::Path(path.to_owned()))?;
        let bind = || {
            let folder = unix_socket::open_folder(folder)?;
            unix_listener(unix_socket::bind(folder, Path::new(name), None)?)
        };
        let socket = bind().map_err(failed(&path.display().to_string()))?;
        let address = Address { kind: "unix", address: path.display().to_string(), tls };
        Ok(Self { socket, address, ended: None })
    }

    fn vsock(port: u32, tls: bool) -> Result<Self, ListenError> {
        let text = format!("vsock port {port}");
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port)).map_err(failed(&text))?;
        let address = Address { kind: "vsock", address: port.to_string(), tls };
        Ok(Self { socket: Socket::Vsock(listener), address, ended: None })
    }

    /// The supervisor, which connects for its guest, may run as another user than this service: the folder's owner.
    fn enclave(enclave: EnclaveEndpoint) -> Result<Self, ListenError> {
        use std::os::unix::fs::MetadataExt;
        let text = format!("enclave {} port {}", enclave.name, enclave.port);
        let bind = || -> io::Result<(Socket, AsyncFd<OwnedFd>)> {
            let folder = unix_socket::open_folder(&enclave.folder)?;
            let metadata = folder.metadata()?;
            let owner = Some((metadata.uid(), metadata.gid()));
            let name = format!("vsock.sock_{}", enclave.port);
            let socket = unix_listener(unix_socket::bind(folder, Path::new(&name), owner)?)?;
            Ok((socket, watched(enclave.ended)?))
        };
        let (socket, ended) = bind().map_err(failed(&text))?;
        let address =
            Address { kind: ENCLAVE, address: format!("{}:{}", enclave.name, enclave.port), tls: true };
        Ok(Self { socket, address, ended: Some(ended) })
    }

    /// The next connection.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        let through_enclave = self.address.kind == ENCLAVE;
        match &mut self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, format!("tcp {peer}").into()))
            }
            Socket::Unix { listener, .. } if through_enclave => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream, format!("enclave {}", self.address.address).into()))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                Ok(Accepted::Unix(stream, format!("unix user {user}").into()))
            }
            Socket::Vsock(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Vsock(stream, format!("vsock {}", peer.cid()).into()))
            }
        }
    }

    /// Takes what tells that there is nobody left to listen to.
    pub(super) fn take_ended(&mut self) -> Option<AsyncFd<OwnedFd>> {
        self.ended.take()
    }
}

#[expect(deprecated, reason = "sound for a descriptor that is owned, and closed by its owner alone")]
fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

fn unix_listener(mut bound: BoundSocket) -> io::Result<Socket> {
    let listener = UnixListener::from_std(bound.take()?)?;
    Ok(Socket::Unix { listener, _name: bound })
}

fn failed(address: &str) -> impl FnOnce(io::Error) -> ListenError {
    let address = address.to_owned();
    move |source| ListenError::Io { address, source }
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.kind, self.tls) {
            (kind @ ("https" | "http"), _) => write!(f, "{kind}://{}", self.address),
            (kind, true) => write!(f, "{kind} {} (TLS)", self.address),
            (kind, false) => write!(f, "{kind} {} (no TLS)", self.address),
        }
    }
}
