//! A token that keeps the key under which the master key is wrapped: a hardware security module, or software that behaves like one.
//!
//! The service asks a program of its own, `enclave-kms-token`, which is beside its executable: crate `kms-token` says why, and what the two say
//! to each other. It is asked once for each start of the service.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kms_token::{Answer, Failure, MAX_MESSAGE_LEN, PROGRAM, Question, Task, WRAPPED_LEN};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::master_key::{self, MasterKey, MasterKeyError};
use super::private_file;

/// Bytes of a wrapped master key's file.
pub(super) const MAX_WRAPPED_LEN: usize = WRAPPED_LEN;
/// Bytes of the longest PIN, with a newline behind it.
const MAX_PIN_LEN: usize = 256;
/// How long the token may take: one over a network, or one that has to wake up, needs seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which token, which key in it, and where the wrapped master key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    /// The library of the token's maker: an absolute path.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The label of the AES key in it.
    pub key: String,
    /// Where its PIN is.
    pub pin: PinSource,
    /// The file of the wrapped master key.
    pub wrapped: PathBuf,
    /// The program that speaks to the token, if it is not beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
}

/// Where a PIN is: the first line of a private file, or of a credential of systemd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinSource {
    /// A file of this user alone.
    File(PathBuf),
    /// A credential.
    Credential(String),
}

/// Why the token does not help. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The PIN could not be read.
    #[error("the token's PIN cannot be read: {0}")]
    Pin(Box<MasterKeyError>),
    /// The PIN is no text, or none.
    #[error("the token's PIN is empty or no text; put it into the first line of its file")]
    BadPin,
    /// The program could not be started.
    #[error("cannot start {}: {source}; install it beside `enclave`", program.display())]
    Start {
        /// Which one.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The program ended, or was ended, without an answer.
    #[error("{PROGRAM} gave no answer: {0}; see the messages of the token's library in the service's log")]
    NoAnswer(String),
    /// It did, and says why not.
    #[error(transparent)]
    Refused(#[from] Failure),
}

impl Token {
    /// The same with its relative paths in `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        let pin = match self.pin {
            PinSource::File(path) => PinSource::File(folder.join(path)),
            PinSource::Credential(name) => PinSource::Credential(name),
        };
        Self { pin, wrapped: folder.join(self.wrapped), ..self }
    }

    /// The file of the wrapped master key.
    pub(super) fn wrapped(&self) -> &Path {
        &self.wrapped
    }

    /// Makes the key in the token if there is none of that label.
    pub(super) fn make_key(&self) -> Result<(), TokenError> {
        self.ask(Task::MakeKey).map(|_| ())
    }

    pub(super) fn wrap_key(&self, key: &MasterKey) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let wrapped = self.ask(Task::Wrap(hex::encode(key.as_bytes())))?;
        if wrapped.len() == WRAPPED_LEN { Ok(wrapped) } else { Err(Failure::Question.into()) }
    }

    pub(super) fn unwrap_key(&self, wrapped: &[u8]) -> Result<MasterKey, TokenError> {
        let key = self.ask(Task::Unwrap(hex::encode(wrapped)))?;
        let mut bytes = Zeroizing::new([0; MasterKey::LEN]);
        if key.len() != bytes.len() {
            return Err(Failure::Question.into());
        }
        bytes.copy_from_slice(&key);
        Ok(MasterKey::from_bytes(bytes))
    }

    fn ask(&self, task: Task) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let question = Question {
            module: self.module.clone(),
            token: self.token.clone(),
            key: self.key.clone(),
            pin: self.read_pin()?,
            task,
        };
        // As long as it will ever be, before the PIN is in it: growing would leave a copy.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_MESSAGE_LEN));
        serde_json::to_writer(&mut *text, &question).map_err(|_| Failure::Question)?;
        if text.len() > MAX_MESSAGE_LEN {
            return Err(Failure::Question.into());
        }
        let answer = run(&self.program()?, &text)?;
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| TokenError::NoAnswer("what it said is no answer".to_owned()))?;
        Ok(answer.into_result()?)
    }

    fn read_pin(&self) -> Result<String, TokenError> {
        let pin = |error| TokenError::Pin(Box::new(error));
        let text = match &self.pin {
            PinSource::File(path) => {
                private_file::read(path, MAX_PIN_LEN).map_err(|error| pin(error.into()))?
            }
            PinSource::Credential(name) => master_key::read_credential(name, "", MAX_PIN_LEN).map_err(pin)?.1,
        };
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let line = core::str::from_utf8(line).map_err(|_| TokenError::BadPin)?;
        if line.is_empty() || line.contains('\n') {
            return Err(TokenError::BadPin);
        }
        // Wiped with the question that it is put into.
        Ok(line.to_owned())
    }

    fn program(&self) -> Result<PathBuf, TokenError> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let executable = std::env::current_exe()
            .map_err(|source| TokenError::Start { program: PathBuf::from(PROGRAM), source })?;
        Ok(executable.with_file_name(OsString::from(PROGRAM)))
    }
}

/// Runs the program with a question and returns its answer; it does not outlive this call.
fn run(program: &Path, question: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|source| TokenError::Start { program: program.to_owned(), source })?;
    let mut child = Reaped(child);
    let deadline = Instant::now().checked_add(DEADLINE);
    if let Some(mut stdin) = child.0.stdin.take() {
        // Less than a pipe holds: this never waits. That it has ended already is told by its answer.
        let _ = stdin.write_all(question);
    }
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE_LEN.saturating_add(1)));
    let Some(mut stdout) = child.0.stdout.take() else {
        return Err(TokenError::NoAnswer("it has no output".to_owned()));
    };
    loop {
        wait_readable(&stdout, deadline)?;
        let mut chunk = Zeroizing::new([0; 1024]);
        let length = stdout.read(chunk.as_mut()).map_err(|error| TokenError::NoAnswer(error.to_string()))?;
        answer.extend(chunk.iter().take(length));
        if length == 0 {
            break;
        }
        if answer.len() > MAX_MESSAGE_LEN {
            return Err(TokenError::NoAnswer("it says too much".to_owned()));
        }
    }
    if answer.is_empty() {
        let status = child.0.wait().map_err(|error| TokenError::NoAnswer(error.to_string()))?;
        return Err(TokenError::NoAnswer(status.to_string()));
    }
    Ok(answer)
}

fn wait_readable(stdout: &std::process::ChildStdout, deadline: Option<Instant>) -> Result<(), TokenError> {
    loop {
        let left = deadline.map_or(DEADLINE, |deadline| deadline.saturating_duration_since(Instant::now()));
        let left = Timespec::try_from(left).map_err(|error| TokenError::NoAnswer(error.to_string()))?;
        let mut polled = [PollFd::new(stdout, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Ok(0) => return Err(TokenError::NoAnswer(format!("none came in {} s", DEADLINE.as_secs()))),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(TokenError::NoAnswer(errno.to_string())),
        }
    }
}

/// A process that is ended and reaped when this is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
