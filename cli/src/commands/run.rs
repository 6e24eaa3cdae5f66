//! `enclave run`, `create` and `start`.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;

use enclave_hypervisor::client::{self, LaunchError, RunRoot};
use enclave_hypervisor::description::Description;
use enclave_hypervisor::exit_reason::ExitReason;
use enclave_hypervisor::launch::LaunchEvent;
use serde::Serialize;

use super::describe::cpu_list;
use crate::args::{CreateArgs, Format, ImageArgs, RunArgs, StartArgs};
use crate::config::Config;
use crate::enclaves::{self, client_failure, launch_failure};
use crate::error::{Failure, Result};
use crate::input;
use crate::launch::{self, Cpus, Image, Plan, Request, StartError};
use crate::memory::Needs;
use crate::output::{self, Fields, printable};
use crate::progress::Progress;
use crate::started::Started;
use crate::terminal::{Shown, pass_on};

/// nitro-cli's object, and the enclave's folder.
#[derive(Debug, Serialize)]
struct StartedIn<'d> {
    #[serde(flatten)]
    started: Started<'d>,
    #[serde(rename = "RunDir")]
    run_dir: &'d Path,
}

impl<'d> StartedIn<'d> {
    fn new(enclave: &'d Description) -> Self {
        Self { started: enclave.into(), run_dir: &enclave.run_dir }
    }

    fn text(&self, what: &str) -> String {
        let started = &self.started;
        let mut fields = Fields::default();
        fields
            .add("EnclaveID", started.enclave_id)
            .add("Vsock CID", started.cid)
            .add(
                "CPUs",
                format_args!("{} on host CPUs {}", started.number_of_cpus, cpu_list(started.cpu_ids)),
            )
            .add("Memory", format_args!("{} MiB", started.memory_mib))
            .add("Folder", self.run_dir.display());
        format!("{} {what}.\n{}", printable(started.name), fields.render(2))
    }
}

pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let debug = args.image.debug || args.attach;
    if args.attach && !args.image.debug {
        output::tell(
            "--attach implies --debug: attestation documents will carry zeros for PCR 0, 1, 2 and 8.",
        );
    }
    let plan = plan(&args.image, debug, true, &root)?;
    let mut attached = args.attach.then(|| Attachment::new(&root, args.output.format));
    let result = launched(plan, &root, attached.as_mut());
    let enclave = match (result, &mut attached) {
        (Ok(enclave), _) => enclave,
        // The whole console was shown: its tail would only repeat it.
        (Err(StartError::Launch(LaunchError::Failed(mut failure))), Some(attached)) => {
            attached.finish();
            failure.console_tail = None;
            return Err(launch_failure(LaunchError::Failed(failure)));
        }
        (Err(error), _) => return Err(error.into()),
    };
    let started = StartedIn::new(&enclave);
    let Some(mut attached) = attached else {
        return output::print(args.output.format, &started, |started| started.text("is running"));
    };
    match args.output.format {
        Format::Json => output::json(&started)?,
        Format::Text => output::tell(started.text("is running").trim_end()),
    }
    attached.finish();
    let last = client::wait(&root, &enclave).map_err(client_failure)?;
    let reason = last.exit_reason.map_or("nothing tells why it ended", ExitReason::explanation);
    output::tell(format_args!("{} has ended: {reason}.", printable(&last.name)));
    Ok(())
}

pub(crate) fn create(args: &CreateArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let plan = plan(&args.image, args.image.debug, false, &root)?;
    let enclave = launched(plan, &root, None)?;
    output::print(args.output.format, &StartedIn::new(&enclave), |started| {
        started.text("is measured and loaded; `enclave start` runs it")
    })
}

pub(crate) fn start(args: &StartArgs) -> Result<()> {
    let root = enclaves::open_root()?;
    let enclave = enclaves::find(&root, &args.name)?;
    let mut narrator = Narrator::new();
    let started =
        client::start(&root, &enclave, &mut |event| narrator.hear(event)).map_err(launch_failure)?;
    output::print(args.output.format, &StartedIn::new(&started), |started| started.text("is running"))
}

/// Checks and prepares what the command line, completed by the configuration, asks for.
fn plan(args: &ImageArgs, debug: bool, start: bool, root: &RunRoot) -> Result<Plan> {
    let config = Config::load()?;
    let image = Image::open(&args.eif)?;
    let memory_mib = memory(args, &config, &image)?;
    let request = Request {
        cpus: cpus(args, &config)?,
        memory_mib,
        name: args.name.clone(),
        exact_name: true,
        cid: args.cid,
        debug,
        start,
        containment: args.containment,
        required_certificate: args
            .require_signature
            .as_deref()
            .map(input::signing_certificate)
            .transpose()?,
    };
    let plan = launch::plan(image, request, &config, root)?;
    if let Some(needs) = plan.needs {
        output::tell(format_args!(
            "The image needs {} MiB to boot ({}); it gets {memory_mib} MiB.",
            needs.least_mib(),
            needs.explained()
        ));
    }
    Ok(plan)
}

fn memory(args: &ImageArgs, config: &Config, image: &Image) -> Result<u64> {
    args.memory.or(config.default_memory_mib).ok_or_else(|| {
        let hint =
            Needs::of(&image.file).map(|needs| format!(" (this image needs {} MiB)", needs.least_mib()));
        Failure::new(
            "no memory size was given",
            format_args!(
                "add --memory MIB{}, or set default_memory_mib in the configuration",
                hint.unwrap_or_default()
            ),
        )
    })
}

fn cpus(args: &ImageArgs, config: &Config) -> Result<Cpus> {
    if !args.cpu_ids.is_empty() {
        return Ok(Cpus::These(args.cpu_ids.clone()));
    }
    args.cpus.or(config.default_cpus).map(Cpus::Count).ok_or_else(|| {
        Failure::new("no number of CPUs was given", "add --cpus N, or set default_cpus in the configuration")
    })
}

fn launched(
    plan: Plan,
    root: &RunRoot,
    mut attached: Option<&mut Attachment>,
) -> core::result::Result<Description, StartError> {
    let mut narrator = Narrator::new();
    let enclave_id = plan.enclave_id().to_owned();
    plan.launch(root, &mut |event| {
        narrator.hear(event);
        if let (LaunchEvent::Booting, Some(attached)) = (event, attached.as_deref_mut()) {
            attached.begin(enclave_id.clone());
        }
    })
}

/// Tells on standard error what a supervisor is doing.
struct Narrator {
    loading: Progress,
}

impl Narrator {
    fn new() -> Self {
        Self { loading: Progress::new("loading and measuring") }
    }

    fn hear(&mut self, event: &LaunchEvent) {
        match event {
            LaunchEvent::Loading { done, total } => self.loading.bytes(*done, *total),
            LaunchEvent::Measured(measurements) => {
                self.loading.clear();
                output::tell(format_args!("Measured: PCR0 {}", measurements.pcr0));
            }
            LaunchEvent::Booting => output::tell("Booting; waiting for the guest's heartbeat."),
            LaunchEvent::Created(_) | LaunchEvent::Running(_) | LaunchEvent::Failed(_) => {
                self.loading.clear()
            }
        }
    }
}

/// The console, shown in a thread of its own from the moment the guest runs.
struct Attachment {
    root: RunRoot,
    format: Format,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Attachment {
    fn new(root: &RunRoot, format: Format) -> Self {
        Self { root: root.clone(), format, thread: None }
    }

    fn begin(&mut self, enclave_id: String) {
        let (root, format) = (self.root.clone(), self.format);
        self.thread = Some(std::thread::spawn(move || {
            let enclave = enclaves::find(&root, &enclave_id)?;
            let console = client::console(&root, &enclave).map_err(client_failure)?;
            match format {
                Format::Json => Ok(pass_on(console, Shown::new(io::stderr()))?),
                Format::Text => Ok(pass_on(console, Shown::new(io::stdout()))?),
            }
        }));
    }

    /// Returns when the console has ended.
    fn finish(&mut self) {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(failure))) if failure != Failure::PipeClosed => output::tell(failure),
            _ => {}
        }
    }
}
