//! `enclave pki`: make, show and export this host's root of trust.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use attestation::pcr::Pcr;
use serde::Serialize;

use crate::args::{Format, PkiCommand, PkiInitArgs};
use crate::certificate::CertificateReport;
use crate::error::{Failure, Result};
use crate::output::{self, Fields};
use crate::pki::{self, HostIdentity, Wishes};

pub(crate) fn pki(command: &PkiCommand) -> Result<()> {
    match command {
        PkiCommand::Init(args) => init(args),
        PkiCommand::Show(args) => show(args.format, &existing()?),
        PkiCommand::ExportRoot { output } => export_root(output.as_deref()),
    }
}

fn init(args: &PkiInitArgs) -> Result<()> {
    let wishes = Wishes { instance: args.instance_id.clone(), role: args.role.clone() };
    let (identity, made) = pki::load_or_make(wishes)?;
    if !made {
        refuse_other_identity(args, &identity)?;
        output::tell("This host has a root of trust already; nothing was changed.");
    }
    show(args.output.format, &identity)
}

/// An identity cannot be changed: documents of running enclaves, and policies that name PCR 3 and 4, depend on it.
fn refuse_other_identity(args: &PkiInitArgs, identity: &HostIdentity) -> Result<()> {
    let other_instance = args.instance_id.as_ref().is_some_and(|wanted| *wanted != identity.instance);
    let other_role = args.role.as_ref().is_some_and(|wanted| *wanted != identity.role);
    if !other_instance && !other_role {
        return Ok(());
    }
    Err(Failure::new(
        format_args!("this host is {} in role {} already", identity.instance, identity.role),
        format_args!("to begin anew, with another root, move {} away first", identity.folder.display()),
    ))
}

fn existing() -> Result<HostIdentity> {
    pki::load()?.ok_or_else(|| {
        Failure::new(
            "this host has no root of trust yet",
            "run `enclave pki init`, or start an enclave: that makes one",
        )
    })
}

fn export_root(file: Option<&Path>) -> Result<()> {
    let (identity, _) = pki::load_or_make(Wishes::default())?;
    let pem = identity.root.to_pem().map_err(|error| {
        Failure::new(
            format_args!("the root certificate cannot be written: {error}"),
            "run `enclave pki show`",
        )
    })?;
    match file {
        None => output::write(pem.as_bytes()),
        Some(path) => File::create(path)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .map_err(|error| Failure::file("write", path, &error)),
    }
}

fn show(format: Format, identity: &HostIdentity) -> Result<()> {
    output::print(format, &Report::new(identity), Report::text)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    folder: String,
    #[serde(rename = "InstanceID")]
    instance_id: String,
    role: String,
    /// What documents of this host say in PCR 3.
    #[serde(rename = "PCR3")]
    pcr3: Pcr,
    /// What documents of this host say in PCR 4.
    #[serde(rename = "PCR4")]
    pcr4: Pcr,
    root: CertificateReport,
    host: CertificateReport,
}

impl Report {
    fn new(identity: &HostIdentity) -> Self {
        Self {
            folder: identity.folder.display().to_string(),
            instance_id: identity.instance.to_string(),
            role: identity.role.to_string(),
            pcr3: identity.role.pcr3(),
            pcr4: identity.instance.pcr4(),
            root: CertificateReport::new(&identity.root),
            host: CertificateReport::new(&identity.host),
        }
    }

    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields
            .add("Folder", &self.folder)
            .add("Instance id", &self.instance_id)
            .add("Role", &self.role)
            .add("PCR3", self.pcr3)
            .add("PCR4", self.pcr4);
        for (label, certificate) in [("Root", &self.root), ("Host", &self.host)] {
            fields
                .add(label, &certificate.subject)
                .add(" valid", format_args!("{} to {}", certificate.not_before, certificate.not_after))
                .add(" SHA-256", &certificate.sha256);
        }
        fields.render(0)
    }
}
