//! The configuration's text, and what is made of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_protocol::cms::Encoding;
use serde::Deserialize;

use super::principals::{self, PrincipalEntry};
use super::{Config, ConfigError, DEFAULT_ACCOUNT, DEFAULT_REGION, FILE, MAX_DOCUMENT_AGE, Root};
use crate::recipient::DEFAULT_MAX_AGE;
use crate::server::limits::{MAX_CONNECTIONS, MAX_REQUESTS, MAX_TIME};
use crate::server::{Endpoint, Limits, TlsFiles};
use crate::store::MasterKeySource;
use crate::store::private_file;

/// Longest configuration.
const MAX_FILE_LEN: usize = 1024 * 1024;
/// Digits of an account.
const ACCOUNT_LEN: usize = 12;
/// Longest name of a region (as in `sigv4::Scope`).
const MAX_REGION_LEN: usize = 64;

/// `kms.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default = "default_region")]
    region: String,
    #[serde(default = "default_account")]
    pub(super) account: String,
    database: PathBuf,
    audit_log: PathBuf,
    #[serde(default = "default_roots")]
    roots: Vec<String>,
    max_document_age_seconds: Option<u64>,
    #[serde(default)]
    cms_encoding: CmsEncoding,
    master_key: MasterKeySource,
    tls: Option<TlsEntry>,
    #[serde(default)]
    limits: LimitsEntry,
    #[serde(default, rename = "listener")]
    listeners: Vec<ListenerEntry>,
    #[serde(default, rename = "principal")]
    pub(super) principals: Vec<PrincipalEntry>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CmsEncoding {
    /// As AWS's KMS answers.
    #[default]
    Ber,
    Der,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsEntry {
    certificate: PathBuf,
    key: PathBuf,
}

/// One of the first four, and `tls` for those that leave a choice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerEntry {
    https: Option<SocketAddr>,
    http: Option<SocketAddr>,
    unix: Option<PathBuf>,
    vsock: Option<u32>,
    tls: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsEntry {
    connections: Option<usize>,
    connections_per_listener: Option<usize>,
    requests: Option<usize>,
    handshake_seconds: Option<u64>,
    head_seconds: Option<u64>,
    body_seconds: Option<u64>,
    turn_seconds: Option<u64>,
    write_seconds: Option<u64>,
    shutdown_seconds: Option<u64>,
}

fn default_region() -> String {
    DEFAULT_REGION.to_owned()
}

fn default_account() -> String {
    DEFAULT_ACCOUNT.to_owned()
}

fn default_roots() -> Vec<String> {
    vec!["own".to_owned()]
}

/// The text of the configuration in `folder`, and its path.
pub(super) fn read(folder: &Path) -> Result<(PathBuf, String), ConfigError> {
    let path = folder.join(FILE);
    let bytes = private_file::read(&path, MAX_FILE_LEN)?;
    match core::str::from_utf8(&bytes) {
        Ok(text) => Ok((path, text.to_owned())),
        Err(_) => Err(ConfigError::Toml { file: path, message: "it is not UTF-8".to_owned() }),
    }
}

/// What a text says, as far as that can be told without looking at other files.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Toml {
        file: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

pub(super) fn load(folder: &Path) -> Result<Config, ConfigError> {
    let (path, text) = read(folder)?;
    let file = parse(&path, &text)?;
    check_region(&path, &file.region)?;
    check_account(&path, &file.account)?;
    let endpoints: Result<Vec<_>, _> = file
        .listeners
        .into_iter()
        .enumerate()
        .map(|(index, entry)| endpoint(&path, folder, index, entry))
        .collect();
    let tls =
        file.tls.map(|tls| TlsFiles { certificate: folder.join(tls.certificate), key: folder.join(tls.key) });
    Ok(Config {
        principals: principals::load(&path, folder, &file.account, file.principals)?,
        region: file.region,
        account: file.account,
        database: folder.join(file.database),
        audit_log: folder.join(file.audit_log),
        master_key: file.master_key.within(folder),
        roots: roots(&path, folder, &file.roots)?,
        max_document_age: document_age(&path, file.max_document_age_seconds)?,
        encoding: match file.cms_encoding {
            CmsEncoding::Ber => Encoding::Ber,
            CmsEncoding::Der => Encoding::Der,
        },
        endpoints: endpoints?,
        tls,
        limits: limits(&path, &file.limits)?,
    })
}

fn check_region(path: &Path, region: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=MAX_REGION_LEN).contains(&region.len()) && region.bytes().all(plain) {
        return Ok(());
    }
    let problem = format_args!("{region:?} is no region").to_string();
    Err(ConfigError::value(path, "region", problem, "use lower-case letters, digits and -, such as local-1"))
}

pub(super) fn check_account(path: &Path, account: &str) -> Result<(), ConfigError> {
    if account.len() == ACCOUNT_LEN && account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(ConfigError::value(
        path,
        "account",
        format_args!("{account:?} is no account"),
        "give 12 digits, in quotes",
    ))
}

fn roots(path: &Path, folder: &Path, names: &[String]) -> Result<Vec<Root>, ConfigError> {
    if names.is_empty() {
        let advice = "give \"own\" for this host's, or the path of a root certificate";
        return Err(ConfigError::value(
            path,
            "roots",
            "there is none: no document could be verified",
            advice,
        ));
    }
    let root = |name: &String| match name.as_str() {
        "own" => Ok(Root::Own),
        "aws" | "" => Err(ConfigError::value(
            path,
            "roots",
            format_args!("{name:?} is no root that is built in"),
            "download AWS's root G1 from https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip, compare its \
             fingerprint with AWS's documentation, and give the path of root.pem",
        )),
        file => Ok(Root::File(folder.join(file))),
    };
    names.iter().map(root).collect()
}

fn document_age(path: &Path, seconds: Option<u64>) -> Result<Duration, ConfigError> {
    let age = seconds.map_or(DEFAULT_MAX_AGE, Duration::from_secs);
    if (Duration::from_secs(1)..=MAX_DOCUMENT_AGE).contains(&age) {
        return Ok(age);
    }
    let range = format!("give 1 to {}", MAX_DOCUMENT_AGE.as_secs());
    Err(ConfigError::value(path, "max_document_age_seconds", "too small or too large", range))
}

fn endpoint(path: &Path, folder: &Path, index: usize, entry: ListenerEntry) -> Result<Endpoint, ConfigError> {
    let key = format!("listener {}", index.saturating_add(1));
    let wrong = |problem: &str, advice: &str| Err(ConfigError::value(path, &key, problem, advice));
    match (entry.https, entry.http, entry.unix, entry.vsock, entry.tls) {
        (Some(_), None, None, None, Some(_)) | (None, Some(_), None, None, Some(_)) => {
            wrong("tls is said by https and http already", "leave tls out")
        }
        (Some(address), None, None, None, None) => Ok(Endpoint::Https(address)),
        (None, Some(address), None, None, None) if address.ip().is_loopback() => Ok(Endpoint::Http(address)),
        (None, Some(_), None, None, None) => {
            wrong("HTTP without TLS is for loopback addresses alone", "use https, or 127.0.0.1")
        }
        (None, None, Some(socket), None, tls) => {
            Ok(Endpoint::Unix { path: folder.join(socket), tls: tls.unwrap_or(true) })
        }
        (None, None, None, Some(port), tls) => Ok(Endpoint::Vsock { port, tls: tls.unwrap_or(true) }),
        _ => wrong(
            "it has not just one of https, http, unix and vsock",
            "give each listener a table of its own",
        ),
    }
}

fn limits(path: &Path, entry: &LimitsEntry) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let count = |name: &str, value: Option<usize>, default: usize, max: usize| match value {
        None => Ok(default),
        Some(value) if (1..=max).contains(&value) => Ok(value),
        Some(_) => Err(ConfigError::value(
            path,
            format_args!("limits.{name}"),
            "too small or too large",
            format_args!("give 1 to {max}"),
        )),
    };
    let time = |name: &str, value: Option<u64>, default: Duration| match value.map(Duration::from_secs) {
        None => Ok(default),
        Some(value) if !value.is_zero() && value <= MAX_TIME => Ok(value),
        Some(_) => Err(ConfigError::value(
            path,
            format_args!("limits.{name}"),
            "too short or too long",
            format_args!("give 1 to {} seconds", MAX_TIME.as_secs()),
        )),
    };
    Ok(Limits {
        connections: count("connections", entry.connections, default.connections, MAX_CONNECTIONS)?,
        connections_per_listener: count(
            "connections_per_listener",
            entry.connections_per_listener,
            default.connections_per_listener,
            MAX_CONNECTIONS,
        )?,
        requests: count("requests", entry.requests, default.requests, MAX_REQUESTS)?,
        handshake_time: time("handshake_seconds", entry.handshake_seconds, default.handshake_time)?,
        head_time: time("head_seconds", entry.head_seconds, default.head_time)?,
        body_time: time("body_seconds", entry.body_seconds, default.body_time)?,
        turn_time: time("turn_seconds", entry.turn_seconds, default.turn_time)?,
        write_time: time("write_seconds", entry.write_seconds, default.write_time)?,
        shutdown_time: time("shutdown_seconds", entry.shutdown_seconds, default.shutdown_time)?,
    })
}
