//! What requests are signed with: from the environment, or from the host.
//!
//! The host may know them: they say who asks, and open nothing without a document. But a host that gives others says by them in whose
//! account an alias or a bare key id is looked for: with AWS's KMS, an application that encrypts by such a name lets the host choose
//! the key, and so read what it encrypts. It names keys by their ARN. They come as one JSON object, to the end of the
//! stream, in either of the two forms that AWS's tools write:
//!
//! | | the session token is called |
//! |---|---|
//! | `credential_process`, `aws configure export-credentials` ([reference]) | `SessionToken` |
//! | container and instance endpoints | `Token` |
//!
//! Both have `AccessKeyId`, `SecretAccessKey` and `Expiration` (ISO 8601; none: they stay good).
//!
//! [reference]: https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use kms_protocol::sigv4;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::route::Route;

/// Longest answer of the host in bytes; session tokens have some hundred to a few thousand.
pub const MAX_ANSWER: usize = 64 << 10;

/// How long the host may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// New ones are asked for when the old ones are good for less than this.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// Said to programs that want to hear a date although the credentials have none: they ask again then.
const ASK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// Nobody listens on the host.
    #[error(
        "cannot connect to {route} for credentials: {source}; have a program there answer each connection with the JSON of `aws configure export-credentials`"
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

/// Credentials, and until when.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What to sign with.
    pub keys: sigv4::Credentials,
    /// Until when they are good; `None` is for ever.
    pub expiration: Option<SystemTime>,
}

impl Issued {
    fn is_good_at(&self, time: SystemTime) -> bool {
        self.expiration.is_none_or(|end| time < end)
    }
}

/// The forms in which they come.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: Option<u64>,
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<String>,
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

/// Reads credentials in either form. The error says what is wrong and repeats nothing of the text.
///
/// # Errors
/// If it is neither, or a version that did not exist in 2026.
pub fn parse(json: &[u8]) -> Result<Issued, String> {
    let document: Document = serde_json::from_slice(json).map_err(|error| match error.classify() {
        // Of values this one repeats its text; which member it is says nothing of a secret.
        serde_json::error::Category::Data => {
            "a JSON object with the texts AccessKeyId and SecretAccessKey was expected".to_owned()
        }
        _ => format!("no JSON: {error}"),
    })?;
    if document.version.is_some_and(|version| version != 1) {
        return Err("Version is not 1".to_owned());
    }
    let secret_access_key = Zeroizing::new(document.secret_access_key);
    if document.access_key_id.is_empty() || secret_access_key.is_empty() {
        return Err("AccessKeyId or SecretAccessKey is empty".to_owned());
    }
    let expiration = document.expiration.map(|text| {
        text.parse::<Timestamp>()
            .map(SystemTime::from)
            .map_err(|_| "Expiration is no time in ISO 8601".to_owned())
    });
    Ok(Issued {
        keys: sigv4::Credentials {
            access_key_id: document.access_key_id,
            secret_access_key,
            session_token: document.session_token.filter(|token| !token.is_empty()),
        },
        expiration: expiration.transpose()?,
    })
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
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    current: Option<Issued>,
    /// The ones before: an SDK may sign with them until they expire.
    previous: Option<Issued>,
}

impl Source {
    /// Credentials that the host gives at this route.
    #[must_use]
    pub fn host(route: Route) -> Self {
        Self::Host(HostSource { route, known: Mutex::default() })
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
        match source.read(source.route.connect().await).await {
            Ok(issued) => {
                known.previous = known.current.replace(issued.clone());
                Ok(issued)
            }
            Err(error) => known.current.clone().filter(|issued| issued.is_good_at(now)).ok_or(error),
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
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_ANSWER.saturating_add(1)));
        let limit = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX).saturating_add(1);
        let mut bounded = stream.take(limit);
        timeout(ANSWER_LIMIT, bounded.read_to_end(&mut text))
            .await
            .map_err(|_| failed(format!("it did not end within {} seconds", ANSWER_LIMIT.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if text.len() > MAX_ANSWER {
            return Err(failed(format!("it is longer than {MAX_ANSWER} bytes")));
        }
        let issued = parse(&text).map_err(failed)?;
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
