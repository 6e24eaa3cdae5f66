//! From options to a running enclave: what a supervisor is told, and who vouches for it.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use attestation::identity::EnclaveId;
use enclave_hypervisor::client::{self, RunRoot, Supervisor};
use enclave_hypervisor::description::{Description, State};
use enclave_hypervisor::launch::{ContainmentMode, LaunchSpec, PROTOCOL_VERSION};
use enclave_hypervisor::messages::SecurityIdentity;
use enclave_hypervisor::run_dir::is_enclave_id;
use getrandom::SysRng;
use rustix::fs::OFlags;
use serde_bytes::ByteBuf;

use crate::args::ImageArgs;
use crate::config::Config;
use crate::enclaves::client_failure;
use crate::error::{Failure, Result};
use crate::memory::Needs;
use crate::placement::{self, Load};
use crate::{enclaves, host, input, output, pki};

/// Characters of the longest name.
const MAX_NAME: usize = 64;

/// An enclave that is ready to be started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The image, opened.
    pub(crate) image: File,
    /// What its supervisor is told.
    pub(crate) spec: LaunchSpec,
    /// The supervisor, which waits for that.
    pub(crate) supervisor: Supervisor,
}

/// Checks what was asked for against this host and prepares it.
///
/// # Errors
/// If something is missing or does not fit, before an enclave is started.
pub(crate) fn plan(args: &ImageArgs, debug: bool, start: bool, root: &RunRoot) -> Result<Plan> {
    let config = Config::load()?;
    let (image, path) = open_image(&args.eif)?;
    let others = enclaves::list(root)?;
    let memory_mib = memory(args, &config, &image)?;
    let required_certificate = match &args.require_signature {
        Some(path) => Some(ByteBuf::from(input::signing_certificate(path)?.der().to_vec())),
        None => None,
    };
    let name = match &args.name {
        Some(name) => checked_name(name)?,
        None => default_name(&path),
    };
    let cpus = cpus(args, &config, &others)?;
    let containment =
        args.containment.or(config.containment).map_or_else(ContainmentMode::default, Into::into);
    if containment == ContainmentMode::Off {
        output::tell(
            "warning: containment is off: this enclave's processes keep all rights of the user who starts it. For debugging only.",
        );
    }
    // The certificates take about as long as the supervisor's own start: they do not wait for each other.
    let (supervisor, (enclave_id, identity)) = thread::scope(|scope| {
        let identity = scope.spawn(identity);
        let supervisor =
            client::supervisor_program().and_then(|program| Supervisor::spawn(&program, containment));
        let supervisor = supervisor.map_err(client_failure)?;
        let identity = identity.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, Failure>((supervisor, identity))
    })?;
    let spec = LaunchSpec {
        version: PROTOCOL_VERSION,
        // Told by the supervisor that is started.
        process_id: 0,
        containment,
        users: rustix::process::geteuid().is_root().then(|| config.users()),
        cgroup: config.cgroup.clone(),
        enclave_id: enclave_id.to_string(),
        name,
        exact_name: args.name.is_some(),
        run_root: root.path().to_owned(),
        image_path: path,
        cid: args.cid,
        cpus,
        memory_mib,
        huge_page_size: config.huge_page_size(),
        debug,
        required_certificate,
        heartbeat_timeout_ms: config.heartbeat_timeout_ms,
        start,
        identity,
    };
    Ok(Plan { image, spec, supervisor })
}

fn open_image(path: &Path) -> Result<(File, PathBuf)> {
    let failed = |error| Failure::file("open the image", path, &error);
    // Without NONBLOCK a FIFO would keep the command waiting.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let image = File::options().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
    if !image.metadata().map_err(failed)?.is_file() {
        return Err(Failure::new(
            format_args!("{} is not an ordinary file", path.display()),
            "give an enclave image file (EIF), such as `enclave build` writes",
        ));
    }
    Ok((image, path.canonicalize().map_err(failed)?))
}

/// The memory to give, in MiB, checked against the image and the host.
fn memory(args: &ImageArgs, config: &Config, image: &File) -> Result<u64> {
    let needs = Needs::of(image);
    let Some(memory) = args.memory.or(config.default_memory_mib) else {
        let hint = needs.map(|needs| format!(" (this image needs {} MiB)", needs.least_mib()));
        return Err(Failure::new(
            "no memory size was given",
            format_args!(
                "add --memory MIB{}, or set default_memory_mib in the configuration",
                hint.unwrap_or_default()
            ),
        ));
    };
    if let Some(needs) = needs {
        check_needs(memory, needs)?;
    }
    check_available(memory, config)?;
    Ok(memory)
}

fn check_needs(memory: u64, needs: Needs) -> Result<()> {
    let least = needs.least_mib();
    if memory < least {
        return Err(Failure::new(
            format_args!("{memory} MiB is too little: the image needs {least} MiB to boot"),
            format_args!("give at least --memory {least} ({})", needs.explained()),
        ));
    }
    output::tell(format_args!(
        "The image needs {least} MiB to boot ({}); it gets {memory} MiB.",
        needs.explained()
    ));
    Ok(())
}

fn check_available(memory: u64, config: &Config) -> Result<()> {
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
    if memory <= available {
        return Ok(());
    }
    Err(Failure::new(
        format_args!("{memory} MiB is more than this host can give: {available} MiB of {kind}"),
        format_args!("give --memory {available} or less, terminate other enclaves, or {mend}"),
    ))
}

/// The host CPUs to run on, one for each virtual CPU.
fn cpus(args: &ImageArgs, config: &Config, others: &[Description]) -> Result<Vec<u32>> {
    let Some(count) = args.cpus.or(config.default_cpus) else {
        return Err(Failure::new(
            "no number of CPUs was given",
            "add --cpus N, or set default_cpus in the configuration",
        ));
    };
    let mut usable = host::allowed_cpus();
    if let Some(pool) = &config.cpu_pool {
        let pool = host::parse_cpu_list(pool).ok_or_else(|| {
            Failure::new(
                format_args!("cpu_pool is not a list of CPUs: {pool:?}"),
                "write it as \"2-7,10\" in the configuration",
            )
        })?;
        usable.retain(|cpu| pool.contains(cpu));
    }
    let mut load = Load::new();
    for cpu in
        others.iter().filter(|enclave| enclave.state != State::Exited).flat_map(|enclave| &enclave.cpu_ids)
    {
        *load.entry(*cpu).or_default() += 1;
    }
    let chosen =
        usize::try_from(count).ok().and_then(|count| placement::choose(&host::cores(&usable), &load, count));
    chosen.ok_or_else(|| {
        Failure::new(
            format_args!("{count} CPUs were asked for, and this host offers {}", usable.len()),
            "give a lower --cpus: each virtual CPU needs a host CPU of its own",
        )
    })
}

/// A name that was asked for.
fn checked_name(name: &str) -> Result<String> {
    let well_formed = (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if well_formed && !is_enclave_id(name) {
        return Ok(name.to_owned());
    }
    Err(Failure::new(
        format_args!("{name:?} cannot be an enclave's name"),
        format_args!("choose 1 to {MAX_NAME} printable characters that are not an EnclaveID"),
    ))
}

/// The file's name without `.eif`; the supervisor adds `_1`, `_2` and so on if that is taken.
fn default_name(image: &Path) -> String {
    let file = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = file.strip_suffix(".eif").unwrap_or(&file).chars().take(MAX_NAME);
    let stem: String = stem.map(|c| if c.is_control() { '_' } else { c }).collect();
    if stem.is_empty() || is_enclave_id(&stem) { "enclave".to_owned() } else { stem }
}

/// A new id, and a certificate authority for this one enclave, certified by the host's key.
fn identity() -> Result<(EnclaveId, SecurityIdentity)> {
    let (host, _) = pki::load_or_make(pki::Wishes::default())?;
    let now = SystemTime::now();
    let enclave = EnclaveId::generate(host.instance.clone(), now, &mut SysRng)
        .map_err(|error| Failure::new(error, "check this host's clock and random number generator"))?;
    let authority = pki::host_authority(&host)?
        .issue_enclave(&enclave, now, &mut SysRng)
        .map_err(|error| pki::issuing_failed(&error))?;
    let key = authority
        .key()
        .to_pkcs8_der()
        .map_err(|error| Failure::new(error, "try again; if it stays, look at `enclave doctor`"))?;
    let identity = SecurityIdentity {
        module_id: enclave.module_id(),
        instance_id: host.instance.to_string(),
        role: host.role.to_string(),
        ca_key: ByteBuf::from(key.to_vec()),
        ca_chain: authority.chain().iter().map(|certificate| ByteBuf::from(certificate.as_der())).collect(),
    };
    Ok((enclave, identity))
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
        assert_eq!(checked_name("my app"), Ok("my app".to_owned()));
    }
}
