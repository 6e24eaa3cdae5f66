//! Container images that are no files yet: one from a registry, one that a Dockerfile describes. Both end in a layout in a
//! temporary folder.

use std::path::PathBuf;
use std::time::SystemTime;

use image::dockerfile::{self, DockerfileError};
use image::kernel::Architecture;
use image::registry::{self, DockerConfig, Event, ImageReference, Pulled, RegistryError};
use image::scratch::Scratch;

use super::failure::failure;
use super::source;
use crate::args::BuildArgs;
use crate::error::{Failure, Result};
use crate::output::{self, printable};
use crate::progress::Progress;

/// Digits of a digest that are shown.
const SHOWN_DIGITS: usize = 12;

/// A container image in a layout of its own. The layout is gone with this value.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(super) layout: PathBuf,
    /// What was pulled; `None` if it was made from a Dockerfile.
    pub(super) pulled: Option<Pulled>,
    _scratch: Scratch,
}

/// Pulls or makes the container image, if what is to be built comes from one that is no file.
///
/// # Errors
/// If it cannot be had.
pub(super) fn fetch(args: &BuildArgs, build_time: SystemTime) -> Result<Option<Fetched>> {
    if args.image.is_none() && args.dockerfile.is_none() {
        return Ok(None);
    }
    let architecture = source::architecture(args)?;
    let place = source::temporary(args);
    let failed = |error| Failure::file("make a temporary folder in", &place, &error);
    let scratch = Scratch::new_in(&place).map_err(failed)?;
    let layout = scratch.make("layout").map_err(failed)?;
    let mut fetched = Fetched { layout, pulled: None, _scratch: scratch };
    if let Some(reference) = &args.image {
        fetched.pulled = Some(pull(args, reference, architecture, &fetched)?);
    } else if let Some(context) = &args.dockerfile {
        let request =
            dockerfile::Request { context, platform: architecture, build_time: seconds(build_time) };
        let line = &mut |line: &str| output::tell(printable(line));
        dockerfile::build(&request, &fetched.layout, line).map_err(|error| dockerfile_failure(&error))?;
    }
    Ok(Some(fetched))
}

fn pull(args: &BuildArgs, reference: &str, platform: Architecture, fetched: &Fetched) -> Result<Pulled> {
    let reference: ImageReference = reference.parse().map_err(|error| registry_failure(&error))?;
    // Nobody transfers more than it unpacks to.
    let unpacked = source::max_unpacked(args);
    let limits =
        registry::Limits { blob_bytes: unpacked, image_bytes: unpacked, ..registry::Limits::default() };
    let request = registry::Request {
        reference: &reference,
        platform,
        limits: &limits,
        credentials: &DockerConfig::of_user(),
    };
    output::tell(format_args!("Pulling {}.", printable(&reference.to_string())));
    let mut display = Display::default();
    let pulled = registry::pull(&request, &fetched.layout, &mut |event| display.show(event));
    drop(display);
    let pulled = pulled.map_err(|error| registry_failure(&error))?;
    output::tell(format_args!("It is {}.", printable(&pulled.pinned)));
    Ok(pulled)
}

/// The blob that is on its way.
#[derive(Default)]
struct Display(Option<(String, Progress)>);

impl Display {
    fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Blob { digest, done, total } => {
                if self.0.as_ref().is_none_or(|(shown, _)| shown != digest) {
                    let digits = digest.split(':').next_back().unwrap_or(digest);
                    let name: String = digits.chars().take(SHOWN_DIGITS).collect();
                    self.0 = Some((digest.to_owned(), Progress::new(format!("Pulling {name}"))));
                }
                if let Some((_, progress)) = &mut self.0 {
                    progress.bytes(done, total);
                }
            }
            Event::Retry { what, why } => {
                self.0 = None;
                output::tell(format_args!("Trying again to fetch {}: {}.", printable(what), printable(why)));
            }
        }
    }
}

/// Seconds since 1970 for everything that a Dockerfile makes, so that it makes the same again.
fn seconds(build_time: SystemTime) -> u64 {
    build_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn registry_failure(error: &RegistryError) -> Failure {
    failure(error, "check the reference and the registry, then try again")
}

fn dockerfile_failure(error: &DockerfileError) -> Failure {
    failure(error, "mend the Dockerfile; everything that buildah said stands above")
}
