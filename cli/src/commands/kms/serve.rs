//! `enclave kms serve`: the service, until it is told to end.

use std::path::Path;
use std::sync::Arc;

use attestation::roots::Roots;
use attestation::verify::AgeLimit;
use kms::audit::AuditLog;
use kms::operations::{Parts, Service};
use kms::recipient::Verifier;
use kms::server::config::{Config, ConfigError, Root, UntilRestart};
use kms::server::{Address, Endpoint, Reread, ServeError, Server, Settings, harden};
use kms::store::Store;
use kms_protocol::ports;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{enclave, folder};
use crate::args::{Format, KmsServeArgs};
use crate::error::{Failure, Result};
use crate::{input, output, pki};

/// What the log tells where RUST_LOG does not say otherwise.
const LOGGED: &str = "info";

pub(super) fn serve(args: &KmsServeArgs) -> Result<()> {
    // Before there is a key in this process, or a second thread.
    keep_secrets_inside()?;
    log_to_stderr();
    let folder = folder(&args.folder)?;
    let mut config = load(&folder)?;
    let started = config.until_restart();
    for wanted in &args.enclaves {
        config.endpoints.push(Endpoint::Enclave(enclave::endpoint(wanted, ports::SERVICE)?));
    }
    let (server, service) = start(config)?;
    tell_ready(args.output.format, &folder, server.addresses())?;
    server.run(|| reload(&folder, &service, &started));
    Ok(())
}

/// What a running service takes from its configuration anew: who may sign requests, and how documents are verified. All of it or nothing.
fn reload(folder: &Path, service: &Service, started: &UntilRestart) -> core::result::Result<Reread, String> {
    let config = Config::load(folder).map_err(|error| error.to_string())?;
    let verifier = verifier(&config).map_err(|error| error.to_string())?;
    service.replace_verifier(verifier);
    let at_next_start = started.changed(&config.until_restart());
    Ok(Reread { principals: config.principals, at_next_start })
}

/// Before a command reads or makes a secret: a master key, an access key.
pub(super) fn keep_secrets_inside() -> Result<()> {
    harden().map_err(|error| {
        Failure::new(
            format_args!("this process cannot keep its keys inside: {error}"),
            "start it without a seccomp filter that forbids prctl, setrlimit or mlockall",
        )
    })
}

pub(super) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    // There is no other subscriber in this process.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

/// Reads the configuration, which holds access keys.
pub(super) fn load(folder: &Path) -> Result<Config> {
    if !folder.exists() {
        return Err(Failure::new(
            format_args!("there is no key service in {}", folder.display()),
            "make one with `enclave kms init`, or name its folder with --dir",
        ));
    }
    keep_secrets_inside()?;
    Config::load(folder).map_err(config_failure)
}

fn config_failure(error: ConfigError) -> Failure {
    Failure::advised(error, "check the service's folder, or name another with --dir")
}

fn start(config: Config) -> Result<(Server, Arc<Service>)> {
    let store = Store::open_from(&config.database, &config.master_key)
        .map_err(|error| Failure::advised(error, "check database and master_key in kms.toml"))?;
    let audit = AuditLog::open(&config.audit_log)
        .map_err(|error| Failure::advised(error, "check audit_log in kms.toml"))?;
    let service = Arc::new(Service::new(Parts {
        store,
        audit,
        verifier: verifier(&config)?,
        account: config.account,
        region: config.region.clone(),
    }));
    let settings = Settings {
        endpoints: config.endpoints,
        tls: config.tls,
        region: config.region,
        limits: config.limits,
        principals: config.principals,
        operations: Arc::<Service>::clone(&service),
    };
    Ok((Server::start(settings).map_err(serve_failure)?, service))
}

/// What verifies documents, as the configuration says.
fn verifier(config: &Config) -> Result<Verifier> {
    let age = AgeLimit::new(config.max_document_age);
    Ok(Verifier::new(roots(&config.roots)?, age, config.encoding))
}

fn serve_failure(error: ServeError) -> Failure {
    Failure::advised(error, "check [[listener]] and [tls] in kms.toml, and that nobody else listens there")
}

/// The roots of trust for documents. This host's own is made if it is wanted and there is none, as a first enclave would.
fn roots(configured: &[Root]) -> Result<Roots> {
    let mut roots = Roots::new();
    for root in configured {
        roots.trust(&match root {
            Root::Own => pki::load_or_make(pki::Wishes::default())?.0.root,
            Root::File(path) => input::root_certificate(path)?,
        });
    }
    Ok(roots)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ready<'a> {
    folder: String,
    #[serde(rename = "ProcessID")]
    process_id: u32,
    listeners: &'a [Address],
}

fn tell_ready(format: Format, folder: &Path, listeners: &[Address]) -> Result<()> {
    for listener in listeners {
        output::tell(format_args!("listening on {listener}"));
    }
    match format {
        Format::Text => Ok(()),
        Format::Json => output::json(&Ready {
            folder: folder.display().to_string(),
            process_id: std::process::id(),
            listeners,
        }),
    }
}
