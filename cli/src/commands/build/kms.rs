//! `--kms-endpoint`: the helper between an application and the key service, and how it gets into an image.
//!
//! The helper and the root certificates go into a folder of the root file system that is the builder's own; the helper's command line
//! goes before the application's. All of it is measured (PCR 0 and 2).

use image::ramdisk::{Addition, Application, RESERVED_FOLDER};
use kms_protocol::ports;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::args::KmsHelperArgs;
use crate::error::{Failure, Result};
use crate::{guest, input};

/// The key of the note in the image's metadata.
pub(super) const NOTE: &str = "KMSHelper";

/// The helper's program, beside this one and in the image.
const HELPER: &str = "enclave-kms-proxy";
/// The root certificates in the image.
const ROOTS: &str = "kms-ca.pem";
/// Longest file with root certificates: Mozilla's, as text, are 220 KiB.
const MAX_ROOTS_FILE: u64 = 4 << 20;
/// Longest helper.
const MAX_HELPER: u64 = 64 << 20;

/// What an image's metadata and the result say of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Note {
    pub(super) program: String,
    #[serde(rename = "SHA256")]
    sha256: String,
    pub(super) endpoint: String,
    pub(super) vsock_port: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_vsock_port: Option<u32>,
    #[serde(rename = "CASHA256", skip_serializing_if = "Option::is_none")]
    ca_sha256: Option<String>,
}

/// What is added to an image.
#[derive(Debug)]
pub(super) struct KmsHelper {
    pub(super) additions: Vec<Addition>,
    pub(super) note: Note,
    words: Vec<String>,
}

impl KmsHelper {
    /// Reads what is to be added, if the user wants it.
    ///
    /// # Errors
    /// If the helper is not installed, or the root certificates are none.
    pub(super) fn choose(args: &KmsHelperArgs) -> Result<Option<Self>> {
        let Some(endpoint) = &args.kms_endpoint else { return Ok(None) };
        let helper = input::read_bounded(&guest::companion(HELPER)?, MAX_HELPER, "the helper")?;
        let port = args.kms_port.unwrap_or(ports::SERVICE);
        let mut words = vec![in_image(HELPER), "--endpoint".to_owned(), endpoint.clone()];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("--port", Some(port.to_string()));
        let mut note = Note {
            program: in_image(HELPER),
            sha256: hex::encode(Sha256::digest(&helper)),
            endpoint: endpoint.clone(),
            vsock_port: port,
            credentials_vsock_port: args.kms_credentials_port,
            ca_sha256: None,
        };
        let mut additions = vec![Addition { name: HELPER.to_owned(), bytes: helper, permissions: 0o755 }];
        if let Some(path) = &args.kms_ca {
            let roots = input::read_bounded(path, MAX_ROOTS_FILE, "the root certificates")?;
            check_roots(path, &roots)?;
            option("--ca", Some(in_image(ROOTS)));
            note.ca_sha256 = Some(hex::encode(Sha256::digest(&roots)));
            additions.push(Addition { name: ROOTS.to_owned(), bytes: roots, permissions: 0o644 });
        }
        option("--region", args.kms_region.clone());
        option("--credentials-port", args.kms_credentials_port.map(|port| port.to_string()));
        Ok(Some(Self { additions, note, words }))
    }

    /// Puts the helper before the application's command. Without a command there is nothing to put it before, and the builder says so.
    ///
    /// # Errors
    /// If it would have nothing to sign requests with, or two things: it would end the enclave.
    pub(super) fn wrap(&self, application: &mut Application) -> Result<()> {
        let is_set = |name: &str| {
            let found = application
                .environment
                .iter()
                .filter_map(|entry| entry.split_once('='))
                .find(|(key, _)| *key == name);
            found.is_some_and(|(_, value)| !value.is_empty())
        };
        let keys = [is_set("AWS_ACCESS_KEY_ID"), is_set("AWS_SECRET_ACCESS_KEY")];
        let asks_host = self.note.credentials_vsock_port.is_some();
        match (asks_host, keys) {
            (true, [false, false]) | (false, [true, true]) => {}
            (true, _) => {
                return Err(Failure::new(
                    "the image sets AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY, and --kms-credentials-port is given as well",
                    "leave out one of the two; what is in the image can be read by whoever has the image",
                ));
            }
            (false, _) => {
                return Err(Failure::new(
                    "requests to the key service must be signed, and the image has nothing to sign them with",
                    "have the host give credentials with --kms-credentials-port PORT, or put AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY into the image with --env",
                ));
            }
        }
        if !application.arguments.is_empty() {
            let command = std::mem::take(&mut application.arguments);
            application.arguments =
                self.words.iter().cloned().chain(["--".to_owned()]).chain(command).collect();
        }
        Ok(())
    }
}

/// The path of an addition in the enclave.
fn in_image(name: &str) -> String {
    format!("/{RESERVED_FOLDER}/{name}")
}

/// Refuses what cannot be meant, above all a private key: whoever has the image could read it.
fn check_roots(path: &std::path::Path, roots: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(roots);
    if text.contains("PRIVATE KEY-----") {
        return Err(Failure::new(
            format_args!(
                "{} holds a private key, which anybody who has the image could read",
                path.display()
            ),
            "give a file that holds certificates alone",
        ));
    }
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::new(
            format_args!("{} holds no certificate in PEM", path.display()),
            "give the root certificate of the key service's TLS as PEM",
        ));
    }
    Ok(())
}
