//! What an image is built from, by the option that names it.

use std::path::Path;

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
use crate::args::BuildArgs;
use crate::error::{Failure, Result};

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
pub(super) fn open(args: &BuildArgs, limits: &Limits) -> Result<Source> {
    if let Some(path) = &args.rootfs {
        return root_file_system(args, path);
    }
    let selection = selection(args, limits)?;
    let (image, kind) = if let Some(path) = &args.oci {
        (open_layout(path, &selection), "OCILayout")
    } else if let Some(path) = &args.docker_archive {
        (open_docker_archive(path, &selection), "DockerArchive")
    } else {
        return Err(not_supported(args));
    };
    let image = image.map_err(|error| build_failure(&BuildError::from(error)))?;
    container(args, image, kind)
}

/// A registry and a Dockerfile both end in a layout in a temporary folder, which `open_layout` reads.
fn not_supported(args: &BuildArgs) -> Failure {
    let option = if args.image.is_some() { "--image" } else { "--dockerfile" };
    Failure::new(
        format_args!("this version builds images from files alone: {option} is not supported"),
        "fetch or build the image with other tools (skopeo copy, buildah) into an OCI layout and give it with --oci, or \
         export its root file system and give it with --rootfs",
    )
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

fn selection(args: &BuildArgs, limits: &Limits) -> Result<Selection> {
    let architecture = args.arch.or_else(Architecture::of_this_machine).ok_or_else(|| {
        Failure::new(
            "enclaves do not run on this machine's architecture",
            "say what the image is for with --arch",
        )
    })?;
    let folder =
        args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Selection {
        architecture,
        tag: args.tag.clone(),
        limits: limits.clone(),
        temporary: temporary_folder(folder),
    })
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
