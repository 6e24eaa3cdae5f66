//! From a request to a running enclave: what a supervisor is told, and who vouches for it.

mod cpus;
mod error;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use attestation::identity::{EnclaveId, Role};
use eif::certificate::SigningCertificate;
use eif::header::SectionKind;
use enclave_hypervisor::client::{self, LaunchError, RunRoot, Supervisor};
use enclave_hypervisor::description::Description;
use enclave_hypervisor::launch::{ContainmentMode, LaunchEvent, LaunchSpec, PROTOCOL_VERSION};
use enclave_hypervisor::messages::SecurityIdentity;
use enclave_hypervisor::run_dir::is_enclave_id;
use getrandom::SysRng;
use rustix::fs::OFlags;
use serde_bytes::ByteBuf;

pub(crate) use self::cpus::Cpus;
pub(crate) use self::error::PlanError;
use crate::args::Level;
use crate::config::Config;
use crate::enclaves::{client_failure, launch_failure};
use crate::error::{Failure, Result};
use crate::memory::Needs;
use crate::sections::Sections;
use crate::{enclaves, host, output, pki};

/// Characters of the longest name.
const MAX_NAME: usize = 64;

/// The image of an enclave to be, opened once: what is looked at beforehand is the file that is loaded.
#[derive(Debug)]
pub(crate) struct Image {
    /// To read.
    pub(crate) file: File,
    /// Where it lies, without links.
    pub(crate) path: PathBuf,
    /// Bytes of the file.
    pub(crate) length: u64,
}

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Request {
    /// The host CPUs to run on.
    pub(crate) cpus: Cpus,
    /// Guest memory in MiB.
    pub(crate) memory_mib: u64,
    /// What to call it; without, as the file.
    pub(crate) name: Option<String>,
    /// Refuse a name that is taken, instead of adding `_1`, `_2` and so on.
    pub(crate) exact_name: bool,
    /// The guest's vsock address, or a free one.
    pub(crate) cid: Option<u32>,
    /// Debug mode.
    pub(crate) debug: bool,
    /// Run at once, or stay loaded.
    pub(crate) start: bool,
    /// How far to contain it; without, as the configuration says.
    pub(crate) containment: Option<Level>,
    /// Who must have signed the image.
    pub(crate) required_certificate: Option<SigningCertificate>,
}

/// An enclave that is ready to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    image: Image,
    spec: LaunchSpec,
    /// In the making: the supervisor's own start and the loading of the image take longer, and do not wait for it.
    identity: JoinHandle<Result<SecurityIdentity>>,
    supervisor: Supervisor,
    /// What the image needs, if that can be told beforehand.
    pub(crate) needs: Option<Needs>,
}

/// Why an enclave did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// It could not be certified.
    Identity(Failure),
    /// What the supervisor says, or what became of it.
    Launch(LaunchError),
}

impl From<LaunchError> for StartError {
    fn from(error: LaunchError) -> Self {
        Self::Launch(error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Identity(failure) => failure,
            StartError::Launch(error) => launch_failure(error),
        }
    }
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// If it cannot be opened or is no ordinary file.
    pub(crate) fn open(path: &Path) -> core::result::Result<Self, PlanError> {
        let failed = |error| PlanError::Image { path: path.to_owned(), error };
        // Without NONBLOCK a FIFO would keep the command waiting.
        let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = File::options().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(PlanError::NotAFile(path.to_owned()));
        }
        Ok(Self { file, path: path.canonicalize().map_err(failed)?, length: metadata.len() })
    }
}

/// Checks what was asked for against this host and prepares it.
///
/// # Errors
/// If something is missing or does not fit, before an enclave is started.
pub(crate) fn plan(
    image: Image,
    request: Request,
    config: &Config,
    root: &RunRoot,
) -> core::result::Result<Plan, PlanError> {
    let others = enclaves::list(root).map_err(PlanError::Others)?;
    let needs = Needs::of(&image.file);
    check_memory(request.memory_mib, needs, config)?;
    let name = match &request.name {
        Some(name) => checked_name(name)?,
        None => default_name(&image.path),
    };
    let cpus = cpus::choose(&request.cpus, config, &others)?;
    let containment =
        request.containment.or(config.containment).map_or_else(ContainmentMode::default, Into::into);
    if containment == ContainmentMode::Off {
        output::tell(
            "warning: containment is off: this enclave's processes keep all rights of the user who starts it. For debugging only.",
        );
    }
    let (enclave_id, role) = names().map_err(PlanError::Identity)?;
    let identity = {
        let enclave_id = enclave_id.clone();
        thread::spawn(move || identity(&enclave_id))
    };
    let supervisor =
        client::supervisor_program().and_then(|program| Supervisor::spawn(&program, containment));
    let supervisor = supervisor.map_err(|error| PlanError::Supervisor(client_failure(error)))?;
    let required_certificate =
        request.required_certificate.map(|certificate| ByteBuf::from(certificate.der().to_vec()));
    let spec = LaunchSpec {
        version: PROTOCOL_VERSION,
        // Told by the supervisor that is started.
        process_id: 0,
        containment,
        users: rustix::process::geteuid().is_root().then(|| config.users()),
        cgroup: config.cgroup.clone(),
        enclave_id: enclave_id.to_string(),
        name,
        exact_name: request.exact_name && request.name.is_some(),
        run_root: root.path().to_owned(),
        image_path: image.path.clone(),
        cid: request.cid,
        cpus,
        memory_mib: request.memory_mib,
        huge_page_size: config.huge_page_size(),
        debug: request.debug,
        required_certificate,
        heartbeat_timeout_ms: config.heartbeat_timeout_ms,
        start: request.start,
        module_id: enclave_id.module_id(),
        role: role.to_string(),
    };
    Ok(Plan { image, spec, identity, supervisor, needs })
}

impl Plan {
    /// The EnclaveID that it will have.
    pub(crate) fn enclave_id(&self) -> &str {
        &self.spec.enclave_id
    }

    /// Starts it and returns once it runs, or is loaded if it is not to be started.
    ///
    /// # Errors
    /// Why it did not start.
    pub(crate) fn launch(
        self,
        root: &RunRoot,
        on_event: &mut dyn FnMut(&LaunchEvent),
    ) -> core::result::Result<Description, StartError> {
        let mut refused = None;
        let identity = || {
            let made = self.identity.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.map_err(|failure| refused = Some(failure)).ok()
        };
        let launched = self.supervisor.launch(&self.spec, &self.image.file, identity, on_event);
        if let Some(failure) = refused {
            return Err(StartError::Identity(failure));
        }
        let enclave = launched?;
        if let Some(metadata) = metadata(&self.image.file) {
            // The enclave runs: what nothing measures is not worth ending it.
            if let Err(error) = client::keep_metadata(root, &enclave, &metadata) {
                output::tell(format_args!("warning: the image's metadata is not kept: {error}"));
            }
        }
        Ok(enclave)
    }
}

/// The metadata section, for `describe`: the supervisor does not look at it.
fn metadata(image: &File) -> Option<Vec<u8>> {
    Sections::of(image).ok()?.read(image, SectionKind::Metadata, client::MAX_KEPT_METADATA)?.ok()
}

/// The memory to give, in MiB, against what the image needs and what the host has.
fn check_memory(asked: u64, needs: Option<Needs>, config: &Config) -> core::result::Result<(), PlanError> {
    if let Some(needs) = needs
        && asked < needs.least_mib()
    {
        return Err(PlanError::TooLittleMemory {
            asked,
            least: needs.least_mib(),
            explained: needs.explained(),
        });
    }
    let (available, kind, mend) = match config.huge_page_size() {
        Some(size) => {
            let (free, _) = host::huge_pages(size).unwrap_or((0, 0));
            let available = free.saturating_mul(size >> 20);
            (available, format!("free huge pages of {} MiB", size >> 20), "reserve more in nr_hugepages")
        }
        None => match host::meminfo_mib("MemAvailable") {
            Some(available) => (available, "available memory".to_owned(), "end other programs"),
            None => return Ok(()),
        },
    };
    if asked <= available {
        return Ok(());
    }
    Err(PlanError::ScarceMemory { asked, available, kind, mend })
}

/// A name that was asked for.
fn checked_name(name: &str) -> core::result::Result<String, PlanError> {
    let well_formed = (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if well_formed && !is_enclave_id(name) {
        return Ok(name.to_owned());
    }
    Err(PlanError::Name(name.to_owned()))
}

/// The file's name without `.eif`; the supervisor adds `_1`, `_2` and so on if that is taken.
fn default_name(image: &Path) -> String {
    let file = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = file.strip_suffix(".eif").unwrap_or(&file).chars().take(MAX_NAME);
    let stem: String = stem.map(|c| if c.is_control() { '_' } else { c }).collect();
    if stem.is_empty() || is_enclave_id(&stem) { "enclave".to_owned() } else { stem }
}

/// A new id, and the host's role. The host's root of trust is made if there is none.
fn names() -> Result<(EnclaveId, Role)> {
    let (instance, role) = match pki::names()? {
        Some(names) => names,
        None => {
            let (host, _) = pki::load_or_make(pki::Wishes::default())?;
            (host.instance, host.role)
        }
    };
    let enclave = EnclaveId::generate(instance, SystemTime::now(), &mut SysRng)
        .map_err(|error| Failure::new(error, "check this host's clock and random number generator"))?;
    Ok((enclave, role))
}

/// A certificate authority for this one enclave, certified by the host's key.
fn identity(enclave: &EnclaveId) -> Result<SecurityIdentity> {
    let (host, _) = pki::load_or_make(pki::Wishes::default())?;
    let authority = pki::host_authority(&host)?
        .issue_enclave(enclave, SystemTime::now(), &mut SysRng)
        .map_err(|error| pki::issuing_failed(&error))?;
    let key = authority
        .key()
        .to_pkcs8_der()
        .map_err(|error| Failure::new(error, "try again; if it stays, look at `enclave doctor`"))?;
    Ok(SecurityIdentity {
        module_id: enclave.module_id(),
        instance_id: host.instance.to_string(),
        role: host.role.to_string(),
        ca_key: ByteBuf::from(key.to_vec()),
        ca_chain: authority.chain().iter().map(|certificate| ByteBuf::from(certificate.as_der())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enclave_is_named_after_its_file() {
        for (file, name) in [
            ("/a/app.eif", "app"),
            ("/a/app.v2.eif", "app.v2"),
            ("/a/app", "app"),
            ("/a/.eif", "enclave"),
            ("/a/i-1-enc2.eif", "enclave"),
            ("/a/b\nc.eif", "b_c"),
        ] {
            assert_eq!(default_name(Path::new(file)), name);
        }
        assert_eq!(default_name(Path::new(&format!("/{}", "x".repeat(200)))).len(), MAX_NAME);
    }

    #[test]
    fn a_name_that_could_be_taken_for_something_else_is_refused() {
        for name in ["", "a\nb", "i-1-enc2", &"x".repeat(MAX_NAME + 1)] {
            assert!(checked_name(name).is_err(), "{name:?}");
        }
        assert_eq!(checked_name("my app").unwrap(), "my app");
    }
}
