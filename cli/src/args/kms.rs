//! Options of the commands for the key service.

mod credentials;
mod keeping;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use self::credentials::KmsCredentialsArgs;
pub(crate) use self::keeping::{
    KmsBackupArgs, KmsLogCommand, KmsLogRotateArgs, KmsLogVerifyArgs, KmsRotateArgs,
};
use super::{KmsExplainArgs, KmsLintArgs, OutputArgs};

/// `enclave kms`.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Make a key service's folder: master key, database, certificates, an administrator
    Init(KmsInitArgs),
    /// Serve keys until SIGTERM or SIGINT; SIGHUP reads the principals again, and how documents are verified
    Serve(KmsServeArgs),
    /// Give an enclave the access key in FILE, whenever it asks, until the enclave ends or SIGTERM or SIGINT comes
    Credentials(KmsCredentialsArgs),
    /// Who may sign requests
    #[command(subcommand)]
    Principal(KmsPrincipalCommand),
    /// Find mistakes in a policy that is valid
    Lint(KmsLintArgs),
    /// Say whether a policy allows a request, and why: what the service's log says of a denial, offline
    Explain(Box<KmsExplainArgs>),
    /// Copy the database into a new file, also while the service runs, and check the copy
    Backup(KmsBackupArgs),
    /// Seal all keys anew under a new master key; the service must not run
    RotateMasterKey(KmsRotateArgs),
    /// The log of decisions
    #[command(subcommand)]
    Log(KmsLogCommand),
}

/// Where a key service's folder is.
#[derive(Debug, Clone, Args)]
pub(crate) struct KmsFolderArgs {
    /// The service's folder [default: kms in the state folder]
    #[arg(long = "dir", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// `enclave kms init`.
#[derive(Debug, Args)]
pub(crate) struct KmsInitArgs {
    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    /// The account in the names (ARNs) of keys, 12 digits
    #[arg(long, value_name = "N", default_value = "000000000000")]
    pub(crate) account: String,

    /// The region in the names (ARNs) of keys, which requests are signed for
    #[arg(long, value_name = "REGION", default_value = "local-1")]
    pub(crate) region: String,

    /// Where to serve HTTPS
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,

    /// A further DNS name or IP address in the service's certificate; may be given again
    #[arg(long = "san", value_name = "NAME")]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) master_key: MasterKeyArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where the master key of a new service is kept: in a file of its folder, unless one of these says otherwise.
#[derive(Debug, Args)]
pub(crate) struct MasterKeyArgs {
    /// Wrap the master key by a key in a token that speaks PKCS#11: the library of the token's maker
    #[arg(long = "master-key-token", value_name = "MODULE", requires_all = ["token_label", "pin"], conflicts_with = "credential")]
    pub(crate) module: Option<PathBuf>,

    /// The label of that token
    #[arg(long = "master-key-token-label", value_name = "LABEL", requires = "module")]
    pub(crate) token_label: Option<String>,

    /// The label of the AES key in it, which is made if there is none
    #[arg(
        long = "master-key-label",
        value_name = "LABEL",
        requires = "module",
        default_value = "enclave-kms"
    )]
    pub(crate) key_label: String,

    /// The file of the token's PIN, mode 0600
    #[arg(long = "master-key-pin", value_name = "FILE", requires = "module")]
    pub(crate) pin: Option<PathBuf>,

    /// Take the master key from the credential NAME of this systemd service: `openssl rand -hex 32`, piped into `systemd-creds encrypt`
    #[arg(long = "master-key-credential", value_name = "NAME")]
    pub(crate) credential: Option<String>,
}

/// `enclave kms serve`.
#[derive(Debug, Args)]
pub(crate) struct KmsServeArgs {
    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    /// Serve the running enclave NAME on its vsock port PORT too, as (CID 3, PORT) [default port: 8000]; may be given again
    #[arg(long = "enclave", value_name = "NAME[:PORT]")]
    pub(crate) enclaves: Vec<EnclavePort>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `enclave kms principal`.
#[derive(Debug, Subcommand)]
pub(crate) enum KmsPrincipalCommand {
    /// Make an access key for a new principal, and print it: it is not shown again
    Add(KmsPrincipalAddArgs),
}

/// `enclave kms principal add`.
#[derive(Debug, Args)]
pub(crate) struct KmsPrincipalAddArgs {
    /// The principal's name: arn:aws:iam::ACCOUNT:user/NAME
    pub(crate) name: String,

    /// What the principal may do besides what key policies allow it: an identity policy (JSON) [default: nothing]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) folder: KmsFolderArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `--enclave NAME[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnclavePort {
    pub(crate) name: String,
    /// The command's own port if none is given.
    pub(crate) port: Option<u32>,
}

impl std::str::FromStr for EnclavePort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((name, port)) => {
                (name, Some(port.parse().map_err(|_| "PORT is a number below 4294967295")?))
            }
        };
        if name.is_empty() || port == Some(u32::MAX) {
            return Err("write NAME or NAME:PORT, PORT a number below 4294967295".to_owned());
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enclave_is_named_with_or_without_a_port() {
        let parsed = |text: &str| text.parse::<EnclavePort>().map(|parsed| (parsed.name, parsed.port));
        assert_eq!(parsed("a"), Ok(("a".to_owned(), None)));
        assert_eq!(parsed("a:9"), Ok(("a".to_owned(), Some(9))));
        assert_eq!(parsed("a:4294967294"), Ok(("a".to_owned(), Some(4_294_967_294))));
        for text in ["", ":9", "a:", "a:b", "a:-1", "a:4294967295", "a:4294967296"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
