//! This host's root of trust on disk: made once, on first use, and never half.
//!
//! The folder `pki` in the state folder holds the root's key and certificate, the host's key and certificate,
//! and the host's identity. It is written beside its place, synced and renamed into it under a lock, so two
//! commands at once make one root, and a crash makes none. Private keys are 0600 in a folder that is 0700, and
//! nothing is read through a symbolic link or from a file that somebody else can write.

mod files;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attestation::certificate::Certificate;
use attestation::identity::{InstanceId, Role};
use attestation::key::PrivateKey;
use attestation::pki::{HostAuthority, PkiError, RootAuthority};
use getrandom::SysRng;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serde::{Deserialize, Serialize};

use self::files::PrivateFolder;
use crate::error::{Failure, Result};
use crate::{output, paths};

/// The role of a host that was given none. The partition `enclave` exists nowhere in AWS.
const DEFAULT_ROLE: &str = "arn:enclave:iam::000000000000:role/enclave-host";

const FOLDER: &str = "pki";
const ROOT_KEY: &str = "root.key";
const ROOT_CERTIFICATE: &str = "root.pem";
const HOST_KEY: &str = "host.key";
const HOST_CERTIFICATE: &str = "host.pem";
const IDENTITY: &str = "identity.json";

/// What is public about a host: no key.
#[derive(Debug, Clone)]
pub(crate) struct HostIdentity {
    /// Where it is stored.
    pub(crate) folder: PathBuf,
    /// The host's id, from which PCR 4 follows.
    pub(crate) instance: InstanceId,
    /// The host's role, from which PCR 3 follows.
    pub(crate) role: Role,
    /// What verifiers pin.
    pub(crate) root: Certificate,
    /// The host's level.
    pub(crate) host: Certificate,
}

/// What a new identity shall be; `None` lets this host choose.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) instance: Option<InstanceId>,
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StoredIdentity {
    #[serde(rename = "InstanceID")]
    instance_id: InstanceId,
    role: Role,
}

/// The identity, if it was made.
///
/// # Errors
/// If it exists but cannot be read or trusted.
pub(crate) fn load() -> Result<Option<HostIdentity>> {
    let state = paths::state_dir()?;
    match PrivateFolder::open(&state.join(FOLDER))? {
        Some(folder) => read_identity(&folder).map(Some),
        None => Ok(None),
    }
}

/// The names under which this host's enclaves go, without a look at the certificates; `None` if there is no identity.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn names() -> Result<Option<(InstanceId, Role)>> {
    let Some(folder) = PrivateFolder::open(&paths::state_dir()?.join(FOLDER))? else {
        return Ok(None);
    };
    let stored = read_names(&folder)?;
    Ok(Some((stored.instance_id, stored.role)))
}

/// The identity; made and announced if there is none. The second value tells whether it was made now.
///
/// # Errors
/// If it can neither be read nor made.
pub(crate) fn load_or_make(wishes: Wishes) -> Result<(HostIdentity, bool)> {
    if let Some(identity) = load()? {
        return Ok((identity, false));
    }
    let state = paths::state_dir()?;
    let _lock = files::lock(&state)?;
    // Another command may have made it while this one waited.
    if let Some(identity) = load()? {
        return Ok((identity, false));
    }
    make(&state, wishes)?;
    let identity = load()?.ok_or_else(|| {
        Failure::new(
            "the root of trust was made and is gone again",
            "look for who removes files in the state folder",
        )
    })?;
    announce(&identity);
    Ok((identity, true))
}

/// The authority that certifies enclaves: the one use of the host's key.
///
/// # Errors
/// If the key cannot be read or does not belong to the certificates.
pub(crate) fn host_authority(identity: &HostIdentity) -> Result<HostAuthority> {
    keep_keys_inside()?;
    let folder =
        PrivateFolder::open(&identity.folder)?.ok_or_else(|| damaged(&identity.folder, "it is gone"))?;
    let key = read_key(&folder, HOST_KEY)?;
    HostAuthority::from_parts(key, vec![identity.root.clone(), identity.host.clone()])
        .map_err(|error| damaged(&identity.folder, &error.to_string()))
}

/// Before a key is in its memory: this command leaves no core dump and cannot be traced by its own user.
fn keep_keys_inside() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|errno| {
        Failure::new(
            format_args!("this command cannot keep the host's key out of core dumps: {errno}"),
            "look at `enclave doctor`",
        )
    })
}

fn make(state: &Path, wishes: Wishes) -> Result<()> {
    keep_keys_inside()?;
    let now = SystemTime::now();
    let instance = match wishes.instance {
        Some(instance) => instance,
        None => InstanceId::generate(&mut SysRng).map_err(not_made)?,
    };
    let role = match wishes.role {
        Some(role) => role,
        None => DEFAULT_ROLE.parse().map_err(not_made)?,
    };
    let root = RootAuthority::generate(now, &mut SysRng).map_err(not_made)?;
    let host = root.issue_host(&instance, now, &mut SysRng).map_err(not_made)?;
    let identity =
        serde_json::to_vec_pretty(&StoredIdentity { instance_id: instance, role }).map_err(not_made)?;

    let new = files::NewFolder::make(state, FOLDER)?;
    new.write(ROOT_KEY, root.key().to_pkcs8_pem().map_err(not_made)?.as_bytes())?;
    new.write(HOST_KEY, host.key().to_pkcs8_pem().map_err(not_made)?.as_bytes())?;
    for (name, authority) in [(ROOT_CERTIFICATE, root.chain()), (HOST_CERTIFICATE, host.chain())] {
        let certificate = authority.last().ok_or_else(|| not_made("a chain without certificates"))?;
        new.write(name, certificate.to_pem().map_err(not_made)?.as_bytes())?;
    }
    new.write(IDENTITY, &identity)?;
    new.finish()
}

fn read_identity(folder: &PrivateFolder) -> Result<HostIdentity> {
    let stored = read_names(folder)?;
    let certificate = |name: &str| {
        Certificate::from_pem(&folder.read(name)?)
            .map_err(|error| damaged(folder.path(), &format!("{name}: {error}")))
    };
    let (root, host) = (certificate(ROOT_CERTIFICATE)?, certificate(HOST_CERTIFICATE)?);
    if !host.is_signed_by(&root) || !host.names_as_issuer(&root) {
        return Err(damaged(folder.path(), "the root has not signed the host's certificate"));
    }
    Ok(HostIdentity {
        folder: folder.path().to_owned(),
        instance: stored.instance_id,
        role: stored.role,
        root,
        host,
    })
}

fn read_names(folder: &PrivateFolder) -> Result<StoredIdentity> {
    serde_json::from_str(&folder.read(IDENTITY)?)
        .map_err(|error| damaged(folder.path(), &format!("{IDENTITY}: {error}")))
}

fn read_key(folder: &PrivateFolder, name: &str) -> Result<PrivateKey> {
    PrivateKey::from_pkcs8_pem(&folder.read(name)?)
        .map_err(|error| damaged(folder.path(), &format!("{name}: {error}")))
}

fn announce(identity: &HostIdentity) {
    output::tell(format_args!(
        "This host had no root of trust yet. Made one in {}:\n  root         {}\n  SHA-256      {}\n  \
         instance id  {}\n  role         {}\n\
         Verifiers of this host's attestation documents need the root: enclave pki export-root",
        identity.folder.display(),
        identity.root.subject(),
        hex::encode(identity.root.fingerprint()),
        identity.instance,
        identity.role,
    ));
}

/// What an error in issuing a certificate means here.
pub(crate) fn issuing_failed(error: &PkiError) -> Failure {
    Failure::new(
        format_args!("this host cannot certify the enclave: {error}"),
        "compare the clock with the dates that `enclave pki show` prints",
    )
}

fn not_made(error: impl core::fmt::Display) -> Failure {
    Failure::new(
        format_args!("the root of trust could not be made: {error}"),
        "check this host's clock and random number generator, then run `enclave pki init`",
    )
}

fn damaged(folder: &Path, cause: &str) -> Failure {
    Failure::new(
        format_args!("the root of trust in {} is damaged: {cause}", folder.display()),
        "restore the folder from a backup; or move it away and run `enclave pki init`: documents then have \
         another root, and verifiers need it",
    )
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_command_that_holds_a_key_leaves_no_core_dump() {
        let dumpable = |is| set_dumpable_behavior(is).unwrap();
        let state = tempfile::tempdir().unwrap();
        make(state.path(), Wishes::default()).unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        dumpable(DumpableBehavior::Dumpable);
        let folder = PrivateFolder::open(&state.path().join(FOLDER)).unwrap().unwrap();
        host_authority(&read_identity(&folder).unwrap()).unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        dumpable(DumpableBehavior::Dumpable);
    }
}
