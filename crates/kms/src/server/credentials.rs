//! The host's part of giving an enclave credentials: whoever connects from the enclave gets what a file says at that moment.
//!
//! Credentials say who asks. They open nothing without a document of the right image: that is why the host may give them. Their form is
//! that of [`kms_protocol::credentials`]; nothing else is given, so that a wrong file, such as one with a key, stays here.

use core::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kms_protocol::credentials::{self, MAX_LEN};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::listeners::{Accepted, Listener};
use super::notices::{Notice, Notices};
use super::running::{ACCEPT_PAUSE, Signals, readable};
use super::{EnclaveEndpoint, Endpoint, ListenError};
use crate::store::{FileError, private_file};

/// Connections at once; one more is closed at once. The helper in an enclave makes one, once in a while.
const MAX_CONNECTIONS: usize = 8;
/// How long the enclave may take to read what it is given.
const GIVE_LIMIT: Duration = Duration::from_secs(10);

/// Why there is nothing to give. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum CredentialsFileError {
    /// The file cannot be read, or others can use it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error(
        "{} is not credentials: {why}; make it with `enclave kms principal add NAME -o json` or `aws configure export-credentials`",
        path.display()
    )]
    NoCredentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: credentials::CredentialsError,
    },
    /// The enclave would refuse them.
    #[error("the credentials in {} have expired; write newer ones into it", .0.display())]
    Expired(PathBuf),
}

/// Why nobody can be given anything.
#[derive(Debug, Error)]
pub enum GiveError {
    /// The enclave's port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Threads or signal handlers could not be set up.
    #[error("cannot give credentials: {0}")]
    Setup(io::Error),
}

/// A file with credentials, of this user alone.
#[derive(Debug, Clone)]
pub struct CredentialsFile {
    path: PathBuf,
}

impl CredentialsFile {
    /// The file at this path, which can be given now.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open(path: &Path) -> Result<Self, CredentialsFileError> {
        let file = Self { path: path.to_owned() };
        file.read(SystemTime::now())?;
        Ok(file)
    }

    /// What it says now.
    fn read(&self, now: SystemTime) -> Result<Zeroizing<Vec<u8>>, CredentialsFileError> {
        let text = private_file::read(&self.path, MAX_LEN)?;
        let issued = credentials::parse(&text)
            .map_err(|why| CredentialsFileError::NoCredentials { path: self.path.clone(), why })?;
        if !issued.is_good_at(now) {
            return Err(CredentialsFileError::Expired(self.path.clone()));
        }
        Ok(text)
    }
}

/// What gives an enclave credentials, from [`Giver::start`] on.
#[derive(Debug)]
pub struct Giver {
    runtime: Runtime,
    listener: Listener,
    ended: Option<AsyncFd<OwnedFd>>,
    signals: Signals,
    desk: Arc<Desk>,
}

/// Why a [`Giver`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The enclave did.
    Enclave,
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
}

impl Giver {
    /// Listens at the enclave's port.
    ///
    /// # Errors
    /// [`GiveError`], for example if somebody listens there already.
    pub fn start(enclave: EnclaveEndpoint, file: CredentialsFile) -> Result<Self, GiveError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(MAX_CONNECTIONS)
            .enable_all()
            .build()
            .map_err(GiveError::Setup)?;
        let context = runtime.enter();
        let signals = Signals::new().map_err(GiveError::Setup)?;
        let mut listener = Listener::bind(Endpoint::Enclave(enclave))?;
        let ended = listener.take_ended();
        drop(context);
        Ok(Self { runtime, listener, ended, signals, desk: Arc::new(Desk::new(file)) })
    }

    /// Gives to whoever asks, until the enclave has ended or a signal says to end.
    #[must_use]
    pub fn run(self) -> End {
        let Self { runtime, mut listener, ended, mut signals, desk } = self;
        let end = runtime.block_on(async {
            tokio::select! {
                never = desk.serve(&mut listener) => match never {},
                () = readable(ended) => End::Enclave,
                // There is nothing to read again: the file is read for each connection.
                _ = signals.next() => End::Signal,
            }
        });
        // Who has not got all of it yet has no JSON, and asks again.
        drop(listener);
        runtime.shutdown_background();
        end
    }
}

/// Where connections are served.
#[derive(Debug)]
struct Desk {
    file: CredentialsFile,
    places: Arc<Semaphore>,
    give_limit: Duration,
    notices: Notices,
}

impl Desk {
    fn new(file: CredentialsFile) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { file, places, give_limit: GIVE_LIMIT, notices: Notices::default() }
    }

    /// For ever.
    async fn serve(self: &Arc<Self>, listener: &mut Listener) -> Infallible {
        loop {
            let stream = match listener.accept().await {
                Ok(Accepted::Unix(stream, _)) => stream,
                // An enclave's connections come out at a Unix socket.
                Ok(_) => continue,
                Err(error) => {
                    self.tell(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.tell(&format_args!("more than {MAX_CONNECTIONS} connections at once"));
                continue;
            };
            let desk = Arc::clone(self);
            tokio::spawn(async move {
                let _place = place;
                desk.give(stream).await;
            });
        }
    }

    async fn give(&self, mut stream: impl AsyncWrite + Unpin) {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || file.read(SystemTime::now()));
        let text = match read.await {
            Ok(Ok(text)) => text,
            // The enclave hears nothing: what is wrong here is not its affair.
            Ok(Err(error)) => return self.tell(&error),
            Err(_) => return,
        };
        let given = timeout(self.give_limit, async {
            stream.write_all(&text).await?;
            stream.shutdown().await
        });
        match given.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.tell(&error),
            Err(_) => self.tell(&"the enclave did not take them in time"),
        }
    }

    fn tell(&self, why: &dyn core::fmt::Display) {
        self.notices.tell(&Notice::NotGiven { why: why.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::net::UnixStream;
    use std::{fs, io::Read, io::Write};

    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use tempfile::TempDir;
    use tokio::io::AsyncReadExt;

    use super::*;

    const TEXT: &str = r#"{"AccessKeyId":"A","SecretAccessKey":"s"}"#;

    fn file(folder: &TempDir) -> CredentialsFile {
        let path = folder.path().join("app.json");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(TEXT.as_bytes()).unwrap();
        CredentialsFile::open(&path).unwrap()
    }

    #[test]
    fn who_does_not_take_them_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk { give_limit: Duration::from_millis(50), ..Desk::new(file(&folder)) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(10);
            desk.give(ours).await;
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, &TEXT.as_bytes()[..10]);
        });
    }

    #[test]
    fn one_connection_more_than_the_limit_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let enclave = EnclaveEndpoint {
            name: "a".to_owned(),
            port: 1,
            folder: folder.path().to_owned(),
            ended: pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
        };
        let giver = Giver::start(enclave, file(&folder)).unwrap();
        let places = Arc::clone(&giver.desk.places);
        std::thread::spawn(|| giver.run());
        let got = || {
            let mut text = String::new();
            let mut stream = UnixStream::connect(folder.path().join("vsock.sock_1")).unwrap();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let mut taken: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| Arc::clone(&places).try_acquire_owned().unwrap()).collect();
        assert_eq!(got(), "");
        drop(taken.pop());
        assert_eq!(got(), TEXT);
    }
}
