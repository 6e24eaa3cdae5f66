//! What the key service and `enclave-kms-token` say to each other: one question on standard input, one answer on standard output.
//!
//! The program speaks PKCS#11 to a token: a hardware security module, a smart card, or software that behaves like one. The token keeps an
//! AES key that cannot leave it; that key wraps the service's master key, and the wrapped master key lies beside the database.
//!
//! Why a program of its own: PKCS#11 is a library of the token's maker, loaded at run time. The service is static, so that it cannot load
//! any; and it should not: such a library is a lot of code that nobody here has read, with threads, locks and network connections of its
//! own. Here it has a process that lives for one question, knows one PIN and one key, and is killed if it does not answer.
//!
//! Both messages are JSON of at most [`MAX_MESSAGE_LEN`] bytes. Nothing secret is on the command line or in the environment.

use core::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the longest question or answer.
pub const MAX_MESSAGE_LEN: usize = 16 * 1024;
/// Bytes of the master key.
pub const MASTER_KEY_LEN: usize = 32;
/// Bytes of a wrapped master key: version, nonce, ciphertext, tag.
pub const WRAPPED_LEN: usize = 1 + 12 + MASTER_KEY_LEN + 16;
/// The name of the program.
pub const PROGRAM: &str = "enclave-kms-token";

/// What the service asks.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Question {
    /// The token's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The label of the key in it.
    pub key: String,
    /// The user's PIN.
    pub pin: String,
    /// What to do.
    pub task: Task,
}

/// What the program can do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Make the key in the token, if there is none of that label.
    MakeKey,
    /// Wrap these bytes, in hexadecimal: a master key.
    Wrap(String),
    /// Unwrap these bytes, in hexadecimal.
    Unwrap(String),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("module", &self.module)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MakeKey => "MakeKey",
            Self::Wrap(_) => "Wrap(..)",
            Self::Unwrap(_) => "Unwrap(..)",
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(_) => f.write_str("Done(..)"),
            Self::Failed(failure) => f.debug_tuple("Failed").field(failure).finish(),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.pin.zeroize();
        if let Task::Wrap(key) = &mut self.task {
            key.zeroize();
        }
    }
}

/// What the program answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Bytes in hexadecimal: the result, none of `make-key`.
    Done(String),
    /// Why not.
    Failed(Failure),
}

impl Answer {
    /// The bytes of the result, the answer wiped.
    ///
    /// # Errors
    /// What the program says went wrong.
    pub fn into_result(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        match self {
            Self::Done(text) => {
                let text = Zeroizing::new(text);
                hex::decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| Failure::Question)
            }
            Self::Failed(failure) => Err(failure),
        }
    }
}

/// What can go wrong in the program. Advice stands behind a semicolon.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The question, or the answer, was not one.
    #[error("the service and {PROGRAM} do not understand each other; install both from the same release")]
    Question,
    /// The library could not be loaded.
    #[error("the token's library cannot be used: {0}; check its path in the configuration")]
    Module(String),
    /// No token has that label.
    #[error("no token is labelled `{0}`; plug it in, or check its label with `pkcs11-tool --list-slots`")]
    NoToken(String),
    /// More than one has.
    #[error("several tokens are labelled `{0}`; give each a label of its own")]
    ManyTokens(String),
    /// The PIN is wrong. It was tried once.
    #[error(
        "the token refuses the PIN; correct it before the next start: most tokens lock after a few wrong ones"
    )]
    WrongPin,
    /// The token takes no PIN any more.
    #[error("the token's PIN is locked; unlock it as its maker says")]
    PinLocked,
    /// No key in the token has that label.
    #[error(
        "the token has no AES key labelled `{0}`; check the label: without that key the master key cannot be unwrapped"
    )]
    NoKey(String),
    /// More than one has.
    #[error("the token has several AES keys labelled `{0}`; give each a label of its own")]
    ManyKeys(String),
    /// The key could be read out.
    #[error(
        "the key `{0}` can leave the token; use one that is sensitive and not extractable, as `enclave kms init` makes it"
    )]
    KeyCanLeave(String),
    /// Another key wrapped this, or it was changed.
    #[error(
        "the token's key does not open the wrapped master key; check that this is the token with which it was wrapped"
    )]
    NotOurs,
    /// Any other refusal.
    #[error("the token failed: {0}; see what its maker says about this error")]
    Token(String),
}
