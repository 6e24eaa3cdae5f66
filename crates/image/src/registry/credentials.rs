//! The user's credentials, where `docker login` put them.
//!
//! Docker's manual, "docker login": `auths`, `credHelpers` and `credsStore` of `config.json`, and the programs `docker-credential-NAME`.
//! The crate `docker_credential` reads them; this module says where they are and what went wrong, without saying a secret.

use core::fmt;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::error::RegistryError;
use super::reference::ImageReference;

/// Bytes of a configuration file that are read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// What a helper says, as Docker's do, if it knows the registry but no credentials for it.
const HELPER_KNOWS_NONE: &str = "credentials not found";

/// Docker's configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// None if there can be none.
    file: Option<PathBuf>,
}

impl DockerConfig {
    /// The user's: `$DOCKER_CONFIG` (a folder with `config.json`, as Docker has it, or that file itself, as `nitro-cli` has it), else
    /// `$HOME/.docker/config.json`.
    #[must_use]
    pub fn of_user() -> Self {
        Self::choose(std::env::var_os("DOCKER_CONFIG"), std::env::var_os("HOME"))
    }

    /// This file, which need not exist.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()) }
    }

    /// None: everything is asked for by nobody in particular.
    #[must_use]
    pub const fn none() -> Self {
        Self { file: None }
    }

    fn choose(docker_config: Option<OsString>, home: Option<OsString>) -> Self {
        let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
        let file = match set(docker_config) {
            Some(path) if path.is_file() => Some(path),
            Some(folder) => Some(folder.join("config.json")),
            None => set(home).map(|home| home.join(".docker").join("config.json")),
        };
        Self { file }
    }

    /// What the user may say to this registry. A helper may ask the user something.
    pub(super) fn find(&self, reference: &ImageReference) -> Result<Credentials, RegistryError> {
        let Some(path) = &self.file else { return Ok(Credentials::None) };
        let Some(text) = read(path)? else { return Ok(Credentials::None) };
        match docker_credential::get_credential_from_reader(text.as_slice(), reference.login()) {
            Ok(DockerCredential::IdentityToken(token)) => Ok(Credentials::Identity(token)),
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                Ok(Credentials::Password { user, password })
            }
            Err(error) => refusal(error, path, reference),
        }
    }
}

/// The file's bytes, None if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, RegistryError> {
    let refused = |why: String| RegistryError::Credentials { path: path.to_owned(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(refused(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(|error| refused(error.to_string()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(refused(format!("it has more than {MAX_CONFIG_BYTES} bytes")));
    }
    Ok(Some(bytes))
}

/// What it means that there are none. The texts of the crate hold what a helper printed, so none of them is passed on.
fn refusal(
    error: CredentialRetrievalError,
    path: &Path,
    reference: &ImageReference,
) -> Result<Credentials, RegistryError> {
    let broken = |why: &str| RegistryError::Credentials { path: path.to_owned(), why: why.to_owned() };
    let host = reference.login().to_owned();
    match error {
        CredentialRetrievalError::NoCredentialConfigured => Ok(Credentials::None),
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. }
            if stdout.contains(HELPER_KNOWS_NONE) || stderr.contains(HELPER_KNOWS_NONE) =>
        {
            Ok(Credentials::None)
        }
        CredentialRetrievalError::HelperFailure { helper, .. } => {
            let name = helper.strip_prefix("docker-credential-").unwrap_or(&helper).to_owned();
            Err(RegistryError::Helper { name, host, why: "it failed" })
        }
        CredentialRetrievalError::HelperCommunicationError => Err(broken(
            "the credential helper that it names for this registry cannot be started; install it, or log in again",
        )),
        CredentialRetrievalError::MalformedHelperResponse => Err(broken(
            "the credential helper that it names for this registry answers something else than credentials",
        )),
        CredentialRetrievalError::ConfigReadError | CredentialRetrievalError::ConfigNotFound => {
            Err(broken("it is not the JSON that Docker writes"))
        }
        CredentialRetrievalError::CredentialDecodingError
        | CredentialRetrievalError::CredentialMismatchError => {
            Err(broken("its entry for this registry is damaged; log in again with `docker login`"))
        }
    }
}

/// What is said to a registry that asks who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// A user's name and password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token that counts as one.
        password: String,
    },
    /// A token that is exchanged for others: OAuth 2.0's refresh token.
    Identity(String),
}

impl Credentials {
    /// Who we are, for messages.
    pub(super) fn who(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Password { user, .. } => Some(format!("user {user:?}")),
            Self::Identity(_) => Some("an identity token".to_owned()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Password { .. } => "a password (hidden)",
            Self::Identity(_) => "an identity token (hidden)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, image: &str) -> Result<Credentials, RegistryError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).expect("written");
        DockerConfig::file(file).find(&image.parse().expect("a reference"))
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn the_file_is_where_docker_and_nitro_cli_look_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("other-name.json");
        std::fs::write(&file, "{}").expect("written");
        let home = Some(OsString::from("/home/someone"));
        let chosen = |docker_config: Option<&Path>| {
            DockerConfig::choose(docker_config.map(|path| path.as_os_str().to_owned()), home.clone()).file
        };
        assert_eq!(chosen(Some(folder.path())), Some(folder.path().join("config.json")));
        assert_eq!(chosen(Some(&file)), Some(file));
        assert_eq!(chosen(Some(Path::new(""))), Some(PathBuf::from("/home/someone/.docker/config.json")));
        assert_eq!(chosen(None), Some(PathBuf::from("/home/someone/.docker/config.json")));
        assert_eq!(DockerConfig::choose(None, None).file, None);
    }

    #[test]
    fn credentials_are_found_by_the_registry_alone() {
        // printf 'me:se:cret' | base64
        let text = r#"{"auths":{"reg.example:5000":{"auth":"bWU6c2U6Y3JldA=="},"https://index.docker.io/v1/":{"identitytoken":"it","auth":"bWU6"}}}"#;
        assert_eq!(find(text, "reg.example:5000/a").expect("found"), password("me", "se:cret"));
        assert_eq!(find(text, "alpine").expect("found"), Credentials::Identity("it".to_owned()));
        for other in ["reg.example/a", "reg.example:5001/a", "example:5000/a", "localhost/reg.example"] {
            assert_eq!(find(text, other).expect("none"), Credentials::None, "{other}");
        }
    }

    #[test]
    fn no_file_and_no_entry_mean_nobody() {
        let reference = "localhost:5000/a".parse().expect("a reference");
        assert_eq!(DockerConfig::none().find(&reference).expect("none"), Credentials::None);
        assert_eq!(
            DockerConfig::file("/nonexistent/config.json").find(&reference).expect("none"),
            Credentials::None
        );
        assert_eq!(
            DockerConfig::file("/dev/null/config.json").find(&reference).expect("none"),
            Credentials::None
        );
        assert_eq!(find("{}", "localhost:5000/a").expect("none"), Credentials::None);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_no_secret() {
        for text in [
            "",
            "[]",
            "nonsense-secret",
            r#"{"auths":{"localhost:5000":{"auth":"!secret"}}}"#,
            r#"{"auths":{"localhost:5000":{"auth":"c2VjcmV0"}}}"#,
        ] {
            let message = find(text, "localhost:5000/a").expect_err(text).to_string();
            assert!(
                message.contains("config.json") && !message.contains("secret") && !message.contains("c2Vj"),
                "{message}"
            );
        }
        let endless = DockerConfig::file("/dev/zero").find(&"localhost/a".parse().expect("a reference"));
        assert!(endless.expect_err("too large").to_string().contains("more than"));
    }

    #[test]
    fn a_helper_that_is_not_there_is_an_error_that_names_the_file() {
        let text = r#"{"credHelpers":{"localhost:5000":"enclave-test-nonexistent"}}"#;
        let message = find(text, "localhost:5000/a").expect_err("no helper").to_string();
        assert!(message.contains("credential helper"), "{message}");
        assert_eq!(find(text, "localhost:5001/a").expect("none"), Credentials::None);
    }

    #[test]
    fn credentials_are_not_shown() {
        let shown =
            format!("{:?} {:?}", password("me", "secret"), Credentials::Identity("secret".to_owned()));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
