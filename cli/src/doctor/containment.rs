//! What an enclave's processes can give up on this host: tried, by a process that does just that.

use std::process::{Command, Stdio};

use super::Finding;
use crate::config::Config;
use crate::guest;

/// Does this host allow all of the containment?
pub(super) fn measures() -> Finding {
    const CHECK: &str = "Containment";
    const MEANING: &str = "what keeps a process that its guest has taken over from everything else";
    const MEND: &str = "use Linux 6.12 or later with landlock and the unified cgroup hierarchy, and allow this user user \
                        namespaces (user.max_user_namespaces)";
    match try_out() {
        Ok(measures) => {
            let found = measures.lines().collect::<Vec<_>>().join("; ");
            if measures.contains(": no: ") {
                Finding::warning(CHECK, found, MEANING, MEND)
            } else {
                Finding::ok(CHECK, found, MEANING)
            }
        }
        Err(why) => Finding::warning(CHECK, format!("not known: {why}"), MEANING, "see Hypervisor below"),
    }
}

/// A line for each measure.
fn try_out() -> Result<String, String> {
    let program = guest::companion("enclave-hypervisor").map_err(|failure| failure.to_string())?;
    let config = Config::load().unwrap_or_default();
    let mut command = Command::new(program);
    command.arg("containment").stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        // The range's end, where enclaves come last.
        let users = config.users();
        command.args([users.last.to_string(), users.last.saturating_sub(1).to_string()]);
    }
    let tried = command.args(&config.cgroup).output().map_err(|error| error.to_string())?;
    if tried.status.success() {
        return Ok(String::from_utf8_lossy(&tried.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&tried.stderr);
    Err(format!("it ended with {}: {}", tried.status, words.trim()))
}
