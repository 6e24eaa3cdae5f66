//! What requests are signed with: from the environment, or from the host.
//!
//! The host may know them: they say who asks, and open nothing without a document. But a host that gives others says by them in whose
//! account an alias or a bare key id is looked for: with AWS's KMS, an application that encrypts by such a name lets the host choose
//! the key, and so read what it encrypts. It names keys by their ARN. They come to the end of the stream, as one JSON object of
//! those that AWS's tools write ([`kms_protocol::credentials`]).

use std::io;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kms_protocol::credentials::{Issued, MAX_LEN, parse};
use kms_protocol::sigv4;
use serde::Serialize;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::route::Route;

/// How long the host may take, unless told otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// New ones are asked for when the old ones are good for less than this.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// How long nothing more is asked for after the host had none, while the old ones are good: each request would wait for it.
const PAUSE: Duration = Duration::from_secs(10);

/// Said to programs that want to hear a date although the credentials have none: they ask again then.
const ASK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// Nobody listens on the host.
    #[error(
        "cannot connect to {route} for credentials: {source}; run `enclave kms credentials` there, or a program that answers each connection with the JSON of `aws configure export-credentials`"
    )]
    Connect {
        /// Where.
        route: Route,
        /// Why not.
        source: io::Error,
    },
    /// The host sent something else.
    #[error("what {route} sent are no credentials: {why}")]
    Answer {
        /// Where from.
        route: Route,
        /// What is wrong. Never the text itself, which may hold secrets.
        why: String,
    },
    /// They were no longer good when they came.
    #[error("the credentials from {0} have expired already")]
    Expired(Route),
}

/// The form in which a local endpoint has them for SDKs.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Served<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

/// Where credentials come from.
#[derive(Debug)]
pub enum Source {
    /// They are known, and stay so.
    Fixed(sigv4::Credentials),
    /// The host is asked, again when they are about to expire.
    Host(HostSource),
}

/// Credentials from the host, kept while they are good.
#[derive(Debug)]
pub struct HostSource {
    route: Route,
    limit: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    current: Option<Issued>,
    /// The ones before: an SDK may sign with them until they expire.
    previous: Option<Issued>,
    /// When the host last had none.
    failed: Option<Instant>,
}

impl Source {
    /// Credentials that the host gives at this route.
    #[must_use]
    pub fn host(route: Route) -> Self {
        Self::host_within(route, ANSWER_LIMIT)
    }

    /// The same with another limit on how long the host may take.
    #[must_use]
    pub fn host_within(route: Route, limit: Duration) -> Self {
        Self::Host(HostSource { route, limit, known: Mutex::default() })
    }

    /// Sees that there are credentials; while nobody listens on the host, for `limit`.
    ///
    /// # Errors
    /// Any [`CredentialsError`].
    pub async fn reach(&self, limit: Duration, waiting: impl FnOnce()) -> Result<(), CredentialsError> {
        let Self::Host(source) = self else { return Ok(()) };
        let stream = source.route.connect_within(limit, waiting).await;
        let issued = source.read(stream).await?;
        source.known.lock().await.current = Some(issued);
        Ok(())
    }

    /// What to sign with now.
    ///
    /// # Errors
    /// Any [`CredentialsError`]. Credentials that are about to expire are used while no newer ones can be had.
    pub async fn current(&self) -> Result<Issued, CredentialsError> {
        let source = match self {
            Self::Fixed(keys) => return Ok(Issued { keys: keys.clone(), expiration: None }),
            Self::Host(source) => source,
        };
        // Held while the host is asked: requests that come together ask once.
        let mut known = source.known.lock().await;
        let now = SystemTime::now();
        let soon = now.checked_add(MARGIN).unwrap_or(now);
        if let Some(issued) = known.current.as_ref().filter(|issued| issued.is_good_at(soon)) {
            return Ok(issued.clone());
        }
        let old = known.current.clone().filter(|issued| issued.is_good_at(now));
        if let Some(old) = old.as_ref().filter(|_| known.failed.is_some_and(|at| at.elapsed() < PAUSE)) {
            return Ok(old.clone());
        }
        match source.read(source.route.connect().await).await {
            Ok(issued) => {
                known.previous = known.current.replace(issued.clone());
                known.failed = None;
                Ok(issued)
            }
            Err(error) => {
                known.failed = Some(Instant::now());
                old.ok_or(error)
            }
        }
    }

    /// The secret of this access key, if it is one that programs here may sign with.
    pub async fn secret_of(&self, access_key_id: &str) -> Option<Zeroizing<String>> {
        match self {
            Self::Fixed(keys) => {
                (keys.access_key_id == access_key_id).then(|| keys.secret_access_key.clone())
            }
            Self::Host(source) => {
                let (known, now) = (source.known.lock().await, SystemTime::now());
                [&known.current, &known.previous]
                    .into_iter()
                    .flatten()
                    .find(|issued| issued.keys.access_key_id == access_key_id && issued.is_good_at(now))
                    .map(|issued| issued.keys.secret_access_key.clone())
            }
        }
    }
}

impl HostSource {
    async fn read(&self, stream: io::Result<UnixStream>) -> Result<Issued, CredentialsError> {
        let stream =
            stream.map_err(|source| CredentialsError::Connect { route: self.route.clone(), source })?;
        let failed = |why: String| CredentialsError::Answer { route: self.route.clone(), why };
        // Its whole capacity at once: a vector that grows leaves copies behind.
        let room = MAX_LEN.saturating_add(1);
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        let mut bounded = stream.take(u64::try_from(room).unwrap_or(u64::MAX));
        timeout(self.limit, bounded.read_to_end(&mut text))
            .await
            .map_err(|_| failed(format!("it did not end within {:?}", self.limit)))?
            .map_err(|error| failed(error.to_string()))?;
        let issued = parse(&text).map_err(|error| failed(error.to_string()))?;
        if !issued.is_good_at(SystemTime::now()) {
            return Err(CredentialsError::Expired(self.route.clone()));
        }
        Ok(issued)
    }
}

/// Credentials as AWS's container endpoint answers them; SDKs insist on a token and a date.
#[must_use]
pub fn served(issued: &Issued, now: SystemTime) -> Zeroizing<Vec<u8>> {
    let end = issued.expiration.or_else(|| now.checked_add(ASK_AGAIN)).unwrap_or(now);
    let expiration = Timestamp::try_from(end).unwrap_or(Timestamp::MAX);
    let served = Served {
        access_key_id: &issued.keys.access_key_id,
        secret_access_key: &issued.keys.secret_access_key,
        token: issued.keys.session_token.as_deref().unwrap_or_default(),
        expiration: expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    // Texts and nothing else: this cannot fail.
    Zeroizing::new(serde_json::to_vec(&served).unwrap_or_default())
}
