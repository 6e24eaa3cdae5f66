//! `nitro-cli build-enclave`.

use std::env;
use std::path::PathBuf;

use super::args::BuildEnclaveArgs;
use super::codes::Code;
use super::error::{Error, Result};
use super::output::{self, Measured};
use super::sign_eif;
use crate::args::BuildArgs;
use crate::commands::build;
use crate::error::Failure;
use crate::output::tell;

/// Names a folder with AWS's kernel, command line, init and module.
const BLOBS_VARIABLE: &str = "NITRO_CLI_BLOBS";

pub(super) fn build(args: &BuildEnclaveArgs) -> Result<()> {
    tell("Start building the Enclave Image...");
    let coded = |code| move |failure: Failure| Error::of(code, failure);
    let order = order(args)?;
    let prepared = build::prepare(&order).map_err(coded(Code::EIF_BUILDING))?;
    let fetching = if args.docker_dir.is_some() { Code::DOCKER_IMAGE_BUILD } else { Code::DOCKER_IMAGE_PULL };
    let fetched = prepared.fetch(&order).map_err(coded(fetching))?;
    let built = build::make(&order, prepared, fetched.as_ref()).map_err(coded(Code::EIF_BUILDING))?;
    tell("Enclave Image successfully created.");
    output::print(&Measured { measurements: built.measurements })
}

/// The same in the words of `enclave build`.
fn order(args: &BuildEnclaveArgs) -> Result<BuildArgs> {
    if let Some(folder) = args.docker_dir.as_deref().filter(|folder| !folder.is_dir()) {
        return Err(Error::new(
            Code::EIF_BUILDING,
            format_args!("{} is not a folder", folder.display()),
            "give --docker-dir the folder with the Dockerfile",
        ));
    }
    if let Some(key) = &args.signing.private_key {
        sign_eif::refuse_key_service(key).map_err(|error| error.coded(Code::EIF_BUILDING))?;
    }
    Ok(BuildArgs {
        image: args.docker_dir.is_none().then(|| args.docker_uri.clone()),
        dockerfile: args.docker_dir.clone(),
        bootstrap: blobs(),
        sign_key: args.signing.private_key.clone(),
        sign_cert: args.signing.signing_certificate.clone(),
        name: Some(args.name.clone().unwrap_or_else(|| default_name(&args.docker_uri))),
        version: args.version.clone(),
        metadata: args.metadata.clone(),
        ..BuildArgs::to(args.output_file.clone())
    })
}

/// As nitro-cli names images: the reference without tag or digest.
fn default_name(docker_uri: &str) -> String {
    docker_uri.split(':').next().unwrap_or_default().to_owned()
}

/// AWS's files, where the environment names a folder of them.
fn blobs() -> Option<PathBuf> {
    env::var_os(BLOBS_VARIABLE).map(PathBuf::from).filter(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_after_its_container_image() {
        for (uri, name) in [("hello", "hello"), ("hello:1", "hello"), ("a/b:2", "a/b")] {
            assert_eq!(default_name(uri), name);
        }
    }
}
