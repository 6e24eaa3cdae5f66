//! `enclave eif measure`: the registers that an attestation document will show, and what there is to sign.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attestation::identity::{InstanceId, Role};
use attestation::pcr::{Measurements, Pcr};
use base64ct::{Base64, Encoding};
use eif::certificate::SigningCertificate;
use eif::describe::{HASH_ALGORITHM, MeasurementReport};
use eif::load::Loaded;
use eif::sign::to_be_signed;
use serde::{Serialize, Serializer};

use super::{add_measurements, print_each, refused, require_sound};
use crate::args::EifMeasureArgs;
use crate::error::{Failure, Result};
use crate::output::{Fields, printable};
use crate::{image_file, input, signing};

/// Measures each file.
pub(super) fn measure(args: &EifMeasureArgs) -> Result<()> {
    let certificate = args.sign_cert.as_deref().map(input::signing_certificate).transpose()?;
    if let Some(certificate) = &certificate {
        certificate.check_dates(SystemTime::now()).map_err(|error| signing::failure(&error))?;
    }
    if args.to_be_signed.is_some() && args.images.files.len() > 1 {
        return Err(Failure::new(
            "--to-be-signed writes what is to be signed of one image, but several were given",
            "give one image at a time",
        ));
    }
    let expected = |path: &Path| {
        let mut measured = MeasuredFile::new(path, &image_file::measure(path)?)?;
        if let Some(certificate) = &certificate {
            measured.add_to_be_signed(certificate, args.to_be_signed.as_deref())?;
        }
        Ok(ExpectedFile {
            measurements: Expected {
                image: measured.measurements.0,
                pcr3: args.role.as_ref().map(Role::pcr3),
                pcr4: args.instance_id.as_ref().map(InstanceId::pcr4),
            },
            path: measured.path,
            to_be_signed: measured.to_be_signed,
        })
    };
    print_each(&args.images, expected, ExpectedFile::text)
}

/// nitro-cli's object of a built image, and the file it is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MeasuredFile {
    pub(super) measurements: MeasurementReport,
    pub(super) path: String,
    #[serde(skip)]
    to_be_signed: Option<ToBeSigned>,
}

impl MeasuredFile {
    fn new(path: &Path, image: &Loaded) -> Result<Self> {
        require_sound(path, image)?;
        let mut measurements = image.measurements.clone();
        if let Some(section) = &image.signature {
            let signed = eif::signature::first_entry(section).and_then(|entry| Ok(entry.certificate()?));
            measurements.pcr8 =
                Some(signed.map_err(|error| refused(path, &error, "sign the image again"))?.pcr8());
        }
        Ok(Self::of(path, measurements))
    }

    /// These registers of this file.
    pub(super) fn of(path: &Path, measurements: Measurements) -> Self {
        let path = path.display().to_string();
        Self { measurements: MeasurementReport(measurements), path, to_be_signed: None }
    }

    fn add_to_be_signed(&mut self, certificate: &SigningCertificate, output: Option<&Path>) -> Result<()> {
        let (algorithm, bytes) =
            to_be_signed(&self.measurements.0.pcr0, certificate).map_err(|error| signing::failure(&error))?;
        if let Some(output) = output {
            fs::write(output, &bytes)
                .map_err(|error| Failure::file("write what is to be signed to", output, &error))?;
        }
        self.measurements.0.pcr8 = Some(certificate.pcr8());
        self.to_be_signed = Some(ToBeSigned {
            algorithm: algorithm.name(),
            hash: algorithm.hash(),
            hex: hex::encode(&bytes),
            base64: Base64::encode_string(&bytes),
            file: output.map(PathBuf::from),
        });
        Ok(())
    }

    pub(super) fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Image", printable(&self.path));
        add_measurements(&mut fields, &self.measurements.0);
        fields.render(0)
    }
}

/// The COSE structure that the certificate's key has to sign.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ToBeSigned {
    algorithm: &'static str,
    hash: &'static str,
    hex: String,
    base64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

/// A measured file, with what the host and the signer add.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExpectedFile {
    measurements: Expected,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_be_signed: Option<ToBeSigned>,
}

/// The registers of an image, and those of a host. In JSON sorted by name, as nitro-cli has them.
#[derive(Debug)]
struct Expected {
    image: Measurements,
    pcr3: Option<Pcr>,
    pcr4: Option<Pcr>,
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        let Self { image: Measurements { pcr0, pcr1, pcr2, pcr8 }, pcr3, pcr4 } = self;
        let registers = [
            ("PCR0", Some(pcr0)),
            ("PCR1", Some(pcr1)),
            ("PCR2", Some(pcr2)),
            ("PCR3", pcr3.as_ref()),
            ("PCR4", pcr4.as_ref()),
            ("PCR8", pcr8.as_ref()),
        ];
        let registers =
            registers.into_iter().filter_map(|(name, pcr)| pcr.map(|pcr| (name, pcr.to_string())));
        serializer.collect_map([("HashAlgorithm", HASH_ALGORITHM.to_owned())].into_iter().chain(registers))
    }
}

impl ExpectedFile {
    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields.add("Image", printable(&self.path));
        add_measurements(&mut fields, &self.measurements.image);
        for (name, register) in [("PCR3", &self.measurements.pcr3), ("PCR4", &self.measurements.pcr4)] {
            if let Some(register) = register {
                fields.add(name, register);
            }
        }
        if let Some(signed) = &self.to_be_signed {
            fields.add("To be signed", &signed.hex);
            fields.add("Algorithm", format_args!("{} (the hash is {})", signed.algorithm, signed.hash));
            if let Some(file) = &signed.file {
                fields.add("Written to", printable(&file.display().to_string()));
            }
        }
        fields.render(0)
    }
}
