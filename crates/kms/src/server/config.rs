//! `kms.toml`, the service's configuration.
//!
//! It lies in the service's folder, for the service's user alone, as do the secrets it names. Relative paths are within the folder.
//! A key that is not known is refused, so that a slip of the pen is not an option ignored.

mod error;
mod file;
mod principals;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kms_protocol::cms::Encoding;

use super::{Endpoint, Limits, Principals, TlsFiles};
use crate::store::MasterKeySource;

pub use error::ConfigError;
pub use principals::{Added, add_principal};

/// The configuration's name in the service's folder.
pub const FILE: &str = "kms.toml";
/// The region where none is configured.
pub const DEFAULT_REGION: &str = "local-1";
/// The account where none is configured.
pub const DEFAULT_ACCOUNT: &str = "000000000000";
/// Longest time that a document may be old: as long as its leaf certificate is valid.
pub const MAX_DOCUMENT_AGE: Duration = Duration::from_secs(3 * 60 * 60);

/// A root of trust for documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// This host's own.
    Own,
    /// A certificate in a file.
    File(PathBuf),
}

/// All that a service is made from. [`Config::until_restart`] says what of it a running service does not take anew. Every path is absolute if the folder's is.
#[derive(Debug)]
pub struct Config {
    /// The region in ARNs, which requests are signed for.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
    /// The database of keys.
    pub database: PathBuf,
    /// The log of decisions.
    pub audit_log: PathBuf,
    /// Where the master key is.
    pub master_key: MasterKeySource,
    /// The roots of trust for documents.
    pub roots: Vec<Root>,
    /// How old a document may be.
    pub max_document_age: Duration,
    /// How `CiphertextForRecipient` is encoded.
    pub encoding: Encoding,
    /// Where to listen.
    pub endpoints: Vec<Endpoint>,
    /// The certificate for TLS.
    pub tls: Option<TlsFiles>,
    /// What clients may take.
    pub limits: Limits,
    /// Who may sign requests.
    pub principals: Principals,
}

/// What a service keeps as it was when it started, whatever the file says later: each setting's name there, and what it said.
///
/// As text, which is all that a comparison needs: an endpoint may hold a descriptor, of which there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntilRestart([(&'static str, String); 8]);

impl UntilRestart {
    /// The settings that say something else in `now`.
    #[must_use]
    pub fn changed(&self, now: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&now.0);
        pairs.filter(|(before, now)| before != now).map(|((name, _), _)| *name).collect()
    }
}

impl Config {
    /// What takes effect at the next start alone. Everything else is read again at SIGHUP.
    #[must_use]
    pub fn until_restart(&self) -> UntilRestart {
        // In full, so that a new setting has to be put on one side.
        let Self {
            region,
            account,
            database,
            audit_log,
            master_key,
            tls,
            endpoints,
            limits,
            roots: _,
            max_document_age: _,
            encoding: _,
            principals: _,
        } = self;
        UntilRestart([
            ("region", region.clone()),
            ("account", account.clone()),
            ("database", format!("{database:?}")),
            ("audit_log", format!("{audit_log:?}")),
            ("master_key", format!("{master_key:?}")),
            ("tls", format!("{tls:?}")),
            ("listener", format!("{endpoints:?}")),
            ("limits", format!("{limits:?}")),
        ])
    }

    /// Reads the configuration of the service in `folder`, and the secrets and policies of its principals.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the key, and what to do.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        file::load(folder)
    }
}
