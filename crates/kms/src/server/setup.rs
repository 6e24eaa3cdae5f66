//! A new service's folder: configuration, master key, database, certificates, an administrator.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use thiserror::Error;

use super::certificates::{self, CertificateError};
use super::config::{self, Added, ConfigError};
use crate::store::private_file;
use crate::store::{FileError, MasterKeyError, MasterKeySource, Store, StoreError};

/// The certificate that clients trust, in the service's folder.
pub const AUTHORITY: &str = "ca.pem";
/// The user that a new service has.
pub const ADMINISTRATOR: &str = "administrator";

const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "server.pem";
const CERTIFICATE_KEY: &str = "server.key";
const DATABASE: &str = "keys.db";
/// The master key, in the service's folder, unless it is kept elsewhere.
pub const MASTER_KEY: &str = "master.key";
/// The master key that a token's key wraps, in the service's folder.
pub const WRAPPED_MASTER_KEY: &str = "master.key.wrapped";
/// The administrator may do everything that key policies leave to the account.
const ADMINISTRATOR_POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;

/// What a new service shall be.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// The account in ARNs.
    pub account: String,
    /// The region in ARNs.
    pub region: String,
    /// Where to serve HTTPS.
    pub listen: SocketAddr,
    /// Names in the certificate, besides those of this host's loopback.
    pub names: Vec<String>,
    /// Where the master key is: relative paths are within the service's folder. It is made there, but for a credential, which systemd has.
    pub master_key: MasterKeySource,
}

/// Why there is no new service. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum SetupError {
    /// There is something in the folder's place.
    #[error("{} is there already; choose another folder with --dir, or move that one away", .0.display())]
    Exists(PathBuf),
    /// A folder could not be made or put into place.
    #[error("cannot {action} {}: {source}", path.display())]
    Folder {
        /// A verb phrase.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// One of the files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificates.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] CertificateError),
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// A path that a configuration cannot hold.
    #[error("the master key's place cannot be written into kms.toml: {0}; choose a path of UTF-8 text")]
    MasterKeyPlace(toml::ser::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Account or region, or the administrator.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Makes the folder of a new service, mode 0700, and returns its administrator. It is filled beside its place: the folder is there whole, or
/// not at all.
///
/// # Errors
/// If there is something in its place, a wish cannot be fulfilled, or a file cannot be written.
pub fn make(folder: &Path, wishes: &Wishes, now: SystemTime) -> Result<Added, SetupError> {
    let parent = folder.parent().ok_or_else(|| SetupError::Exists(folder.to_owned()))?;
    fs::create_dir_all(parent).map_err(|source| SetupError::Folder {
        action: "make",
        path: parent.to_owned(),
        source,
    })?;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(SetupError::Exists(folder.to_owned()));
    }
    // If this fails it goes again: what is left would be keys of nothing.
    let new = private_file::workplace(folder)?;
    let made = fill(new.path(), wishes, now)?;
    // Replaces an empty folder, and nothing else.
    private_file::rename(new.path(), folder).map_err(|error| match &error {
        // Another command was faster.
        FileError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) =>
        {
            SetupError::Exists(folder.to_owned())
        }
        _ => error.into(),
    })?;
    // There is nothing of that name any more.
    let _ = new.keep();
    Ok(made)
}

fn fill(folder: &Path, wishes: &Wishes, now: SystemTime) -> Result<Added, SetupError> {
    let write = |name: &str, text: &str| private_file::write_new(&folder.join(name), text.as_bytes());
    write(config::FILE, &configuration(wishes)?)?;
    let certificates = certificates::make(&wishes.names, now)?;
    write(AUTHORITY, &certificates.authority)?;
    write(AUTHORITY_KEY, &certificates.authority_key)?;
    write(CERTIFICATE, &certificates.certificate)?;
    write(CERTIFICATE_KEY, &certificates.key)?;
    let place = wishes.master_key.clone().within(folder);
    let master = match place {
        MasterKeySource::Credential(_) => place.load()?,
        MasterKeySource::File(_) | MasterKeySource::Token(_) => place.generate()?,
    };
    drop(Store::create(&folder.join(DATABASE), &master)?);
    Ok(config::add_principal(folder, ADMINISTRATOR, Some(ADMINISTRATOR_POLICY))?)
}

/// The text of a new configuration.
fn configuration(wishes: &Wishes) -> Result<String, SetupError> {
    #[derive(Serialize)]
    struct Place<'a> {
        master_key: &'a MasterKeySource,
    }
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let master_key =
        toml::to_string(&Place { master_key: &wishes.master_key }).map_err(SetupError::MasterKeyPlace)?;
    Ok(format!(
        "\
# The configuration of a key service (`enclave kms serve`): docs/kms.md. Relative paths are within this folder.

# In the names (ARNs) of keys; requests are signed for this region.
region = {region}
account = {account}

database = \"{DATABASE}\"
# Every decision, a line of JSON each, chained by hashes.
audit_log = \"audit.log\"

# Roots of trust for attestation documents: \"own\" is this host's (`enclave pki show`); others are paths of certificates.
roots = [\"own\"]
max_document_age_seconds = 300
# How CiphertextForRecipient is encoded: \"ber\" as AWS does, or \"der\".
cms_encoding = \"ber\"

{master_key}
[tls]
certificate = \"{CERTIFICATE}\"
key = \"{CERTIFICATE_KEY}\"

# Each listener is one of https, http (loopback addresses alone), unix and vsock; the last two speak TLS unless tls = false.
[[listener]]
https = \"{listen}\"
",
        region = quoted(&wishes.region),
        account = quoted(&wishes.account),
        listen = wishes.listen,
    ))
}
