//! What an enclave's processes can give up on this host: tried, by a process that does just that.

use std::process::{Command, Stdio};

use super::Finding;
use crate::guest;

/// Does this host allow all of the containment?
pub(super) fn measures() -> Finding {
    const CHECK: &str = "Containment";
    const MEANING: &str = "what keeps a process that its guest has taken over from everything else";
    const MEND: &str = "use Linux 6.12 or later with landlock, and allow this user user namespaces (user.max_user_namespaces)";
    match try_out() {
        Ok(missing) if missing.is_empty() => Finding::ok(CHECK, "every measure can be taken", MEANING),
        Ok(missing) => Finding::warning(CHECK, missing.lines().collect::<Vec<_>>().join("; "), MEANING, MEND),
        Err(why) => Finding::warning(CHECK, format!("not known: {why}"), MEANING, "see Hypervisor below"),
    }
}

/// What cannot be taken, a line for each.
fn try_out() -> Result<String, String> {
    let program = guest::companion("enclave-hypervisor").map_err(|failure| failure.to_string())?;
    let tried = Command::new(program).arg("containment").stdin(Stdio::null()).output();
    let tried = tried.map_err(|error| error.to_string())?;
    if tried.status.success() {
        return Ok(String::from_utf8_lossy(&tried.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&tried.stderr);
    Err(format!("it ended with {}: {}", tried.status, words.trim()))
}
