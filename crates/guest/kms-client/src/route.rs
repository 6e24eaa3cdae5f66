//! How to get out of the enclave: to a port of the host, which forwards to where it likes. What arrives there is TLS's to check.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use guest::vsock::{Address, CID_PARENT, Stream};
use tokio::net::UnixStream;

/// How long one attempt to connect may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Between two attempts: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A vsock port.
    Vsock(Address),
    /// A Unix socket: where this project's hypervisor has a vsock port end on the host, and for programs outside an enclave.
    Unix(PathBuf),
}

impl Route {
    /// A port of the host, addressed as enclaves do on AWS.
    #[must_use]
    pub const fn host(port: u32) -> Self {
        Self::Vsock(Address { cid: CID_PARENT, port })
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of connect(2): `ECONNRESET` (vsock) or `ENOENT` and `ECONNREFUSED` (Unix) when nobody listens.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let route = self.clone();
        // A vsock port is connected to by a blocking call that the kernel ends in time.
        let connected = tokio::task::spawn_blocking(move || route.connect_blocking()).await;
        let socket = connected.map_err(io::Error::other)??;
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket)
    }

    /// Connects, and tries again until `limit` has passed while nobody listens. `waiting` is called once, before the first pause.
    ///
    /// # Errors
    /// As [`Route::connect`], the last attempt's.
    pub async fn connect_within(&self, limit: Duration, waiting: impl FnOnce()) -> io::Result<UnixStream> {
        let begun = Instant::now();
        let (mut pause, longest) = PAUSES;
        let mut waiting = Some(waiting);
        loop {
            match self.connect().await {
                Err(error) if nobody_listens(&error) && begun.elapsed() < limit => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(longest);
                }
                other => return other,
            }
        }
    }

    fn connect_blocking(&self) -> io::Result<Socket> {
        match self {
            // A connected stream of either family is used by the same system calls.
            Self::Vsock(address) => {
                Ok(Socket::from(OwnedFd::from(Stream::connect_within(*address, CONNECT_LIMIT)?)))
            }
            Self::Unix(path) => Socket::connect(path),
        }
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, TimedOut};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | NotFound | TimedOut)
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(address) => write!(f, "the host's vsock port {}", address.port),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_leads_nowhere_is_named_by_its_port() {
        assert_eq!(Route::host(8000).to_string(), "the host's vsock port 8000");
        assert_eq!(Route::host(8000), Route::Vsock(Address { cid: 3, port: 8000 }));
    }

    #[test]
    fn who_waits_for_a_listener_is_told_once_and_connected_when_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let route = Route::Unix(path.clone());
        let mut listener = None;
        let waiting = || listener = Some(std::os::unix::net::UnixListener::bind(&path).unwrap());
        runtime.block_on(route.connect_within(Duration::from_secs(60), waiting)).unwrap();
        assert!(listener.is_some(), "it was connected before anybody listened");
    }

    #[test]
    fn who_does_not_wait_is_refused_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let route = Route::Unix("/nowhere/socket".into());
        let refused = runtime.block_on(route.connect_within(Duration::ZERO, || panic!("it waits")));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
