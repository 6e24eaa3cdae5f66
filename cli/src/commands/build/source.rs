//! What an image is built from, by the option that names it.

use std::path::{Path, PathBuf};

use image::builder::folder_of;
use image::container::{ContainerImage, Overrides, Selection, open_docker_archive, open_layout};
use image::error::BuildError;
use image::folder::Builder;
use image::kernel::Architecture;
use image::layer::blob::temporary_folder;
use image::limits::Limits;
use image::ramdisk::Application;
use image::root::Root;
use serde::Serialize;
use serde_json::Value;

use super::failure::build_failure;
use super::fetch::Fetched;
use crate::args::BuildArgs;
use crate::error::{Failure, Result};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// What an image is built from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) root: Root,
    pub(super) application: Application,
    /// Null for root file systems.
    pub(super) docker_info: Value,
    /// What the source calls itself.
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) facts: Facts,
}

/// What is said of the source in the result.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Facts {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    /// The manifest's digest, which a registry knows the image by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// The configuration's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image_id: Option<String>,
}

/// Opens what the user names. Layers are not read yet.
///
/// # Errors
/// If it cannot be used, or nothing says what to run.
pub(super) fn open(args: &BuildArgs, limits: &Limits, fetched: Option<&Fetched>) -> Result<Source> {
    if let Some(path) = &args.rootfs {
        return root_file_system(args, path);
    }
    let selection = Selection {
        architecture: architecture(args)?,
        tag: args.tag.clone(),
        limits: limits.clone(),
        temporary: temporary(args),
    };
    let (image, kind) = match (fetched, &args.oci, &args.docker_archive) {
        (Some(Fetched { layout, pulled: Some(_), .. }), ..) => (open_layout(layout, &selection), "Registry"),
        (Some(Fetched { layout, .. }), ..) => (open_layout(layout, &selection), "Dockerfile"),
        (None, Some(path), _) => (open_layout(path, &selection), "OCILayout"),
        (None, None, Some(path)) => (open_docker_archive(path, &selection), "DockerArchive"),
        (None, None, None) => {
            return Err(Failure::new("nothing to build from was named", "see `enclave build --help`"));
        }
    };
    let mut image = image.map_err(|error| build_failure(&BuildError::from(error)))?;
    if let Some(pulled) = fetched.and_then(|fetched| fetched.pulled.as_ref()) {
        image.reference = Some(pulled.reference.clone());
        image.repository_digests = vec![pulled.pinned.clone()];
    }
    container(args, image, kind)
}

fn overrides(args: &BuildArgs) -> Overrides {
    Overrides {
        command: args.command.clone(),
        environment: args.environment.clone(),
        working_directory: args.workdir.clone(),
        user: args.user.clone(),
    }
}

fn root_file_system(args: &BuildArgs, path: &Path) -> Result<Source> {
    let option = [("--tag", args.tag.is_some()), ("--arch", args.arch.is_some())];
    if let Some((option, _)) = option.iter().find(|(_, given)| *given) {
        return Err(Failure::new(
            format_args!("{option} chooses among container images, and --rootfs is none"),
            format_args!("leave out {option}"),
        ));
    }
    let found =
        std::fs::metadata(path).map_err(|error| Failure::file("read the root file system", path, &error))?;
    let (root, kind) = if found.is_dir() {
        (Root::Folder(path.to_owned(), Builder::current()), "RootFolder")
    } else {
        (Root::Archive(path.to_owned()), "RootArchive")
    };
    Ok(Source {
        root,
        application: overrides(args).into(),
        docker_info: Value::Null,
        name: None,
        version: None,
        facts: Facts { kind, reference: None, digest: None, image_id: None },
    })
}

/// What the container image is to run on.
///
/// # Errors
/// If nobody says it, and this machine is none that runs enclaves.
pub(super) fn architecture(args: &BuildArgs) -> Result<Architecture> {
    args.arch.or_else(Architecture::of_this_machine).ok_or_else(|| {
        Failure::new(
            "enclaves do not run on this machine's architecture",
            "say what the image is for with --arch",
        )
    })
}

/// The folder for temporary files.
pub(super) fn temporary(args: &BuildArgs) -> PathBuf {
    temporary_folder(folder_of(&args.output))
}

/// Bytes that all layers together may unpack to.
pub(super) fn max_unpacked(args: &BuildArgs) -> u64 {
    args.max_unpacked.saturating_mul(MIB)
}

fn container(args: &BuildArgs, image: ContainerImage, kind: &'static str) -> Result<Source> {
    let application = image.application(&overrides(args));
    let application = application.map_err(|error| build_failure(&BuildError::from(error)))?;
    Ok(Source {
        application,
        docker_info: image.docker_info(),
        name: image.name().map(str::to_owned),
        version: Some(image.id.hex()),
        facts: Facts {
            kind,
            reference: image.reference.clone(),
            digest: image.manifest_digest.map(|digest| digest.to_string()),
            image_id: Some(image.id.to_string()),
        },
        root: Root::Container(Box::new(image)),
    })
}
