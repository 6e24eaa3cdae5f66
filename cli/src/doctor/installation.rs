//! What must be installed or made: folders, programs, guest kernel, root of trust.

use std::fs;
use std::path::Path;

use enclave_hypervisor::client::RunRoot;
use rustix::fs::Access;

use super::Finding;
use crate::config::Config;
use crate::enclaves::client_failure;
use crate::error::{Failure, Result};
use crate::{guest, paths, pki};

/// Is the host configuration readable?
pub(super) fn configuration() -> Finding {
    const CHECK: &str = "Configuration";
    const MEANING: &str = "defaults of this host";
    let path = paths::config_file();
    match Config::load() {
        Ok(_) if path.exists() => Finding::ok(CHECK, path.display().to_string(), MEANING),
        Ok(_) => Finding::ok(CHECK, format!("{} does not exist: every default", path.display()), MEANING),
        Err(failure) => from_failure(CHECK, MEANING, failure),
    }
}

/// Can the folder of running enclaves be used?
pub(super) fn run_folder() -> Finding {
    let path = RunRoot::from_environment().map(|root| root.path().to_owned());
    folder(
        "Run folder",
        path.map_err(|error| client_failure(error.into())),
        "sockets and state of running enclaves",
    )
}

/// Can the folder of the root of trust be used?
pub(super) fn state_folder() -> Finding {
    folder("State folder", paths::state_dir(), "this host's root of trust")
}

/// A folder that exists and can be written, or can be made.
fn folder(check: &'static str, path: Result<std::path::PathBuf>, meaning: &str) -> Finding {
    let path = match path {
        Ok(path) => path,
        Err(failure) => return from_failure(check, meaning, failure),
    };
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let usable =
        rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok() && existing.is_dir();
    if !usable {
        return Finding::failure(
            check,
            format!("{} cannot be written by this user", existing.display()),
            meaning,
            format!(
                "make {} and give it to this user, or name another folder in the environment",
                path.display()
            ),
        );
    }
    let found = if path.exists() {
        path.display().to_string()
    } else {
        format!("{} will be made on first use", path.display())
    };
    Finding::ok(check, found, meaning)
}

/// Is there a root of trust?
pub(super) fn root_of_trust() -> Finding {
    const CHECK: &str = "Root of trust";
    const MEANING: &str = "signs the attestation documents of this host's enclaves";
    match pki::load() {
        Ok(Some(identity)) => Finding::ok(
            CHECK,
            format!(
                "{}, valid until {}",
                identity.root.subject(),
                crate::time::text(identity.host.not_after())
            ),
            MEANING,
        ),
        Ok(None) => {
            Finding::ok(CHECK, "none yet: the first enclave, or `enclave pki init`, makes one", MEANING)
        }
        Err(failure) => from_failure(CHECK, MEANING, failure),
    }
}

/// Is the other program there?
pub(super) fn hypervisor() -> Finding {
    const CHECK: &str = "Hypervisor";
    const MEANING: &str = "the program that every process of an enclave executes";
    match guest::companion("enclave-hypervisor") {
        Ok(path) => Finding::ok(CHECK, path.display().to_string(), MEANING),
        Err(failure) => from_failure(CHECK, MEANING, failure),
    }
}

/// Is there a guest kernel for `enclave build`?
pub(super) fn guest_kernel() -> Finding {
    const CHECK: &str = "Guest kernel";
    const MEANING: &str = "what `enclave build` puts into images when --kernel is not given";
    match guest::default_kernel() {
        Ok(kernel) => {
            let found = fs::canonicalize(&kernel.file).unwrap_or(kernel.file);
            Finding::ok(
                CHECK,
                format!("{} ({})", found.display(), kernel.version.as_deref().unwrap_or("version unknown")),
                MEANING,
            )
        }
        Err(failure) => warn(from_failure(CHECK, MEANING, failure)),
    }
}

/// Is there an init for `enclave build`?
pub(super) fn guest_init() -> Finding {
    const CHECK: &str = "Guest init";
    const MEANING: &str = "the first process in images when --init is not given";
    match guest::companion("enclave-init") {
        Ok(path) => Finding::ok(CHECK, path.display().to_string(), MEANING),
        Err(failure) => warn(from_failure(CHECK, MEANING, failure)),
    }
}

fn from_failure(check: &'static str, meaning: &str, failure: Failure) -> Finding {
    match failure {
        Failure::Told { cause, next, .. } => Finding::failure(check, cause, meaning, next),
        Failure::PipeClosed => Finding::failure(check, "not known", meaning, "run the command again"),
    }
}

/// Building images is one thing, running them another.
fn warn(finding: Finding) -> Finding {
    Finding { verdict: super::Verdict::Warning, ..finding }
}
