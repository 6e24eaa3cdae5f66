//! Wraps and unwraps the key service's master key by a key in a token: one question, one answer, then it ends.
//!
//! The master key is encrypted inside the token by AES-256-GCM (PKCS#11's `CKM_AES_GCM`, by `C_Encrypt` and `C_Decrypt`), under a key that the
//! token made and that is sensitive and not extractable. Not by `C_WrapKey`: that would need the master key as an object in the token that can be
//! extracted, and tokens differ in the mechanisms that they have for it.

mod token;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use kms_token::{Answer, Failure, MAX_MESSAGE_LEN, Question};
use zeroize::{Zeroize, Zeroizing};

fn main() -> ExitCode {
    // Secrets are in this memory: no other process of this user may read it, and no core file may hold it.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let Ok(out) = take_stdout() else { return ExitCode::FAILURE };
    let answer = match question().and_then(|question| token::answer(&question)) {
        Ok(bytes) => Answer::Done(hex::encode(&*bytes)),
        Err(failure) => Answer::Failed(failure),
    };
    match write(out, answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Standard output for us alone. What the token's library prints there goes to standard error.
fn take_stdout() -> io::Result<OwnedFd> {
    let out = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(out)
}

fn question() -> Result<Question, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE_LEN + 1));
    let bound = u64::try_from(MAX_MESSAGE_LEN).unwrap_or(u64::MAX).saturating_add(1);
    io::stdin().take(bound).read_to_end(&mut text).map_err(|_| Failure::Question)?;
    if text.len() > MAX_MESSAGE_LEN {
        return Err(Failure::Question);
    }
    serde_json::from_slice(&text).map_err(|_| Failure::Question)
}

fn write(out: OwnedFd, answer: Answer) -> io::Result<()> {
    // A buffer that never grows, and so leaves no copies of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_MESSAGE_LEN));
    serde_json::to_writer(&mut *text, &answer)?;
    if let Answer::Done(mut key) = answer {
        key.zeroize();
    }
    std::fs::File::from(out).write_all(&text)
}
