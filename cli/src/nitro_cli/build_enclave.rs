//! `nitro-cli build-enclave`.

use std::env;
use std::path::{Path, PathBuf};

use eif::metadata::{MAX_CUSTOM_METADATA, parse_custom};
use serde_json::Value;

use super::args::BuildEnclaveArgs;
use super::codes::Code;
use super::error::{Error, Result};
use super::image_tools::{self, BuildOrder};
use super::output::{self, Measured};
use super::{describe_eif, sign_eif};
use crate::input;
use crate::output::tell;

/// Names a folder with AWS's kernel, command line, init and module.
const BLOBS_VARIABLE: &str = "NITRO_CLI_BLOBS";

pub(super) fn build(args: &BuildEnclaveArgs) -> Result<()> {
    tell("Start building the Enclave Image...");
    let order = order(args)?;
    image_tools::build(&order)?;
    tell("Enclave Image successfully created.");
    output::print(&Measured { measurements: describe_eif::description_of(&args.output_file)?.measurements })
}

/// What can be checked before anything is fetched is checked here.
fn order(args: &BuildEnclaveArgs) -> Result<BuildOrder> {
    if let Some(folder) = args.docker_dir.as_deref().filter(|folder| !folder.is_dir()) {
        return Err(Error::new(
            Code::EIF_BUILDING,
            format_args!("{} is not a folder", folder.display()),
            "give --docker-dir the folder with the Dockerfile",
        ));
    }
    Ok(BuildOrder {
        docker_uri: args.docker_uri.clone(),
        docker_dir: args.docker_dir.clone(),
        output: args.output_file.clone(),
        signer: sign_eif::signer(&args.signing).map_err(|error| error.coded(Code::EIF_BUILDING))?,
        name: args.name.clone().unwrap_or_else(|| default_name(&args.docker_uri)),
        version: args.version.clone(),
        metadata: args.metadata.as_deref().map_or(Ok(Value::Null), metadata)?,
        blobs: blobs(),
    })
}

/// As nitro-cli names images: the reference without tag or digest.
fn default_name(docker_uri: &str) -> String {
    docker_uri.split(':').next().unwrap_or_default().to_owned()
}

fn metadata(path: &Path) -> Result<Value> {
    let bytes = input::read_bounded(path, MAX_CUSTOM_METADATA as u64, "the metadata")
        .map_err(|failure| Error::of(Code::EIF_BUILDING, failure))?;
    parse_custom(&bytes).map_err(|error| {
        Error::new(
            Code::EIF_BUILDING,
            format_args!("{} cannot be the image's metadata: {error}", path.display()),
            format_args!("write a JSON object of at most {MAX_CUSTOM_METADATA} bytes"),
        )
    })
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
