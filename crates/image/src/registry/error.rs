//! Why an image cannot be pulled. No message holds a secret, an address with a signature in it, or text that a registry chose.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::file_error::{FileError, file};

/// Why an image cannot be pulled.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The reference is none.
    #[error("{text:?} is no image reference: {why}; it looks like registry.example.com:5000/team/app:1.0")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// This machine lacks something.
    #[error("images cannot be pulled on this machine: {why}")]
    Setup {
        /// What.
        why: String,
    },
    /// The registry's certificate does not hold.
    #[error(
        "the certificate of {host} is not accepted: {why}; if its authority is your own, put its certificate into a file together with the system's and set SSL_CERT_FILE to it"
    )]
    Certificate {
        /// Whose.
        host: String,
        /// What the check said.
        why: &'static str,
    },
    /// A transfer did not come to its end.
    #[error(
        "{what} could not be fetched from {host} in {attempts} attempts: {why}; check the network and the registry, then try again"
    )]
    Interrupted {
        /// What was being fetched.
        what: String,
        /// From which host.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// How the last attempt ended.
        why: String,
    },
    /// The registry wants to know who asks.
    #[error(
        "{host} gives {what} to nobody unknown: log in with `docker login {host}`, and check the name: many registries answer so for images that do not exist"
    )]
    LoginNeeded {
        /// Which registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The registry does not accept the user's credentials.
    #[error(
        "{host} refuses the credentials in the Docker configuration ({who}) for {what}: log in again with `docker login {host}`"
    )]
    CredentialsRefused {
        /// Which registry.
        host: String,
        /// The user's name, or that it was a token; never a password.
        who: String,
        /// What was asked for.
        what: String,
    },
    /// The registry knows who asks, and gives nothing.
    #[error("{host} forbids access to {what} (403): ask its owner for the right to pull")]
    Forbidden {
        /// Which host.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// There is no such image.
    #[error("{host} does not have {what} (404): check the repository and the tag")]
    NotFound {
        /// Which host.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Too many requests.
    #[error(
        "{host} allows no more requests for now (429): try again {when}; some registries allow more to users who log in"
    )]
    RateLimited {
        /// Which host.
        host: String,
        /// When, in words.
        when: String,
    },
    /// An answer that no registry should give.
    #[error("{host} answered {status} when asked for {what}; check that it is a container registry")]
    Status {
        /// Which host.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// The challenge of a registry cannot be answered.
    #[error("{host} asks for a login in a way that cannot be followed: {why}")]
    Challenge {
        /// Which registry.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A redirect that is not followed.
    #[error("{host} sends the request for {what} elsewhere, which is not followed: {why}")]
    Redirect {
        /// Which host.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The bytes are not those that the manifest or the reference names.
    #[error(
        "{what} is not what it should be: its digest is {actual}; the registry is broken or not honest, do not use the image"
    )]
    Digest {
        /// What was fetched, with the digest it should have.
        what: String,
        /// The digest of what came.
        actual: String,
    },
    /// There are more or fewer bytes than the manifest says.
    #[error("{what} should have {expected} bytes, but {actual}; the registry is broken or not honest")]
    Size {
        /// What was fetched.
        what: String,
        /// Bytes it should have.
        expected: u64,
        /// What came instead, in words.
        actual: String,
    },
    /// More than a limit allows.
    #[error("{what} has {size} bytes, {limit} are allowed")]
    TooLarge {
        /// What.
        what: String,
        /// Bytes it has, in words where nobody knows how many follow.
        size: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// More layers than the limit.
    #[error("{reference} has {count} layers, {limit} are allowed")]
    TooManyLayers {
        /// Which image.
        reference: String,
        /// How many it has.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// What the reference means is no image that can be built from.
    #[error("{reference} is no container image that can be used: {why}")]
    NotAnImage {
        /// Which reference.
        reference: String,
        /// What it is instead.
        why: &'static str,
    },
    /// A document cannot be understood.
    #[error("{what} cannot be read: {why}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image does not exist for this machine.
    #[error(
        "{reference} is not made for {wanted}; it is made for {available}: choose one with --arch, or another image"
    )]
    NoPlatform {
        /// Which image.
        reference: String,
        /// Which platform was asked for.
        wanted: String,
        /// The platforms there are, in words.
        available: String,
    },
    /// The user's credentials cannot be read.
    #[error("the Docker configuration {} cannot be used: {why}", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A program that keeps the user's credentials failed.
    #[error(
        "docker-credential-{name} gave no credentials for {host}: {why}; `echo {host} | docker-credential-{name} get` shows more"
    )]
    Helper {
        /// The program's name behind `docker-credential-`.
        name: String,
        /// For which registry.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file of the layout cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RegistryError {
    /// An error about a file.
    pub(super) fn file<E: Into<io::Error>>(
        path: impl Into<PathBuf>,
        step: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| file(path, step)(source).into()
    }
}

/// When a registry may be asked again, from the seconds it named.
pub(super) fn when(seconds: Option<Duration>) -> String {
    match seconds {
        Some(wait) => format!("in {} seconds", wait.as_secs()),
        None => "later".to_owned(),
    }
}
