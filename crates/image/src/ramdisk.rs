//! The two ramdisks of an image: what boots, and what it boots for.
//!
//! | ramdisk | path | |
//! |---|---|---|
//! | boot | `dev/` | for devtmpfs |
//! | | `init` | the first process |
//! | | `nsm.ko` | a module that AWS's init loads, if given |
//! | | `modules/`, `modules/order` | modules that our init loads in that order, if given |
//! | application | `rootfs/` | the root folder, and the folders that init mounts on |
//! | | `rootfs/.enclave/` | what the builder adds to the root folder, if anything |
//! | | `cmd`, `env` | command and environment, one entry a line |
//! | | `workdir`, `user` | where and as whom it starts, if given |
//! | | `xattrs` | extended attributes of files, if there are any: [`crate::attributes`] |
//!
//! AWS's init knows all of them but `modules`, `workdir`, `user` and `xattrs`.

use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::attributes;
use crate::error::BuildError;
use crate::folder;
use crate::root::ROOT;
use crate::tree::Tree;

/// Folders that init mounts on: they must exist in every root file system.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "var"];

/// The folder of the application's root file system that is the builder's own.
pub const RESERVED_FOLDER: &str = ".enclave";

/// A file that the builder adds to [`RESERVED_FOLDER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Its name there.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its mode.
    pub permissions: u32,
}

/// What the boot ramdisk is made of.
#[derive(Debug, Clone, Default)]
pub struct BootFiles {
    /// The first process, a static program.
    pub init: PathBuf,
    /// Modules that our init loads before anything else, in this order.
    pub modules: Vec<PathBuf>,
    /// The NSM driver for kernels that have it as a module and AWS's init.
    pub nsm_module: Option<PathBuf>,
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Application {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE` each.
    pub environment: Vec<String>,
    /// Where it starts; `/` if not given.
    pub working_directory: Option<String>,
    /// As whom it runs, as in a Dockerfile's USER; root if not given.
    pub user: Option<String>,
}

/// The ramdisk that boots.
///
/// # Errors
/// If a file cannot be read.
pub fn boot(files: &BootFiles) -> Result<Archive, BuildError> {
    let mut archive = Archive::default();
    archive.directory("dev")?;
    archive.file("init", folder::read(&files.init, "reading init")?, 0o755)?;
    if let Some(module) = &files.nsm_module {
        archive.file("nsm.ko", folder::read(module, "reading the NSM driver")?, 0o755)?;
    }
    if files.modules.is_empty() {
        return Ok(archive);
    }
    archive.directory("modules")?;
    let mut order = String::new();
    for module in &files.modules {
        let name = module_name(module)?;
        archive.file(
            &format!("modules/{name}"),
            folder::read(module, "reading the kernel module")?,
            0o644,
        )?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file("modules/order", order.into_bytes(), 0o644)?;
    Ok(archive)
}

fn module_name(path: &Path) -> Result<&str, BuildError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.filter(|name| !name.contains('\n') && *name != "order").ok_or_else(|| BuildError::Setting {
        what: "the kernel module",
        text: path.display().to_string(),
        why: "its name must be text on one line, and not \"order\"",
    })
}

/// Puts the builder's own files into the root file system.
///
/// # Errors
/// If something is in their folder's place already.
pub(crate) fn add(archive: &mut Archive, additions: &[Addition]) -> Result<(), BuildError> {
    if additions.is_empty() {
        return Ok(());
    }
    let folder = format!("{ROOT}/{RESERVED_FOLDER}");
    if archive.get(folder.as_bytes()).is_some() {
        return Err(BuildError::Reserved);
    }
    archive.directory(&folder)?;
    for addition in additions {
        archive.file(&format!("{folder}/{}", addition.name), addition.bytes.clone(), addition.permissions)?;
    }
    Ok(())
}

/// Completes the application's ramdisk, which holds the root file system already.
///
/// # Errors
/// If a setting cannot be written as a line, or the working directory is something else in the image.
pub(crate) fn complete(archive: &mut Archive, application: &Application) -> Result<(), BuildError> {
    check(application)?;
    if let Some(folder) = &application.working_directory {
        let made = Tree::new(archive, ROOT).make(folder.as_bytes());
        made.map_err(|error| BuildError::WorkingDirectory {
            folder: folder.clone(),
            why: error.to_string(),
        })?;
    }
    for mount_point in MOUNT_POINTS {
        archive.directory(&format!("{ROOT}/{mount_point}"))?;
    }
    archive.file("cmd", lines(&application.arguments), 0o644)?;
    archive.file("env", lines(&application.environment), 0o644)?;
    for (name, setting) in [("workdir", &application.working_directory), ("user", &application.user)] {
        if let Some(setting) = setting {
            archive.file(name, lines(core::slice::from_ref(setting)), 0o644)?;
        }
    }
    if let Some(text) = attributes::file(archive, ROOT.as_bytes())? {
        archive.file("xattrs", text, 0o644)?;
    }
    Ok(())
}

fn lines(entries: &[String]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [entry.as_bytes(), b"\n"].concat()).collect()
}

/// Refuses settings that cannot be handed to init.
///
/// # Errors
/// If there is no command, or a setting is not one line of text of its form.
pub(crate) fn check(application: &Application) -> Result<(), BuildError> {
    if application.arguments.first().is_none_or(String::is_empty) {
        return Err(BuildError::NoCommand);
    }
    let refuse = |what, text: &str, why| Err(BuildError::Setting { what, text: text.to_owned(), why });
    let settings = (application.arguments.iter().map(|text| ("the argument", text)))
        .chain(application.environment.iter().map(|text| ("the environment variable", text)))
        .chain(application.working_directory.iter().map(|text| ("the working directory", text)))
        .chain(application.user.iter().map(|text| ("the user", text)));
    for (what, text) in settings {
        if text.contains(['\n', '\0']) {
            return refuse(
                what,
                text,
                "init reads it as one line of text; a line break or zero byte cannot be in it",
            );
        }
    }
    if let Some(variable) =
        application.environment.iter().find(|text| text.find('=').is_none_or(|at| at == 0))
    {
        return refuse("the environment variable", variable, "write it as NAME=VALUE");
    }
    if let Some(folder) = application.working_directory.as_ref().filter(|folder| !folder.starts_with('/')) {
        return refuse("the working directory", folder, "it must begin with /");
    }
    if let Some(user) = application.user.as_ref().filter(|user| user.is_empty()) {
        return refuse("the user", user, "it is empty");
    }
    Ok(())
}
