//! An image file signed, signed anew, or without its signature: in place or as a new file.
//!
//! What is written goes to a file beside the output that takes its name when it is complete, so there is never half an
//! image, and an enclave that is just loading the old one reads it to its end. The bytes are those of [`eif::rewrite`].

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attestation::pcr::Measurements;
use eif::certificate::SigningCertificate;
use eif::header::Flags;
use eif::rewrite::{RewriteError, sign, unsign};
use eif::sign::{Signer, attach};
use eif::writer::Written;
use thiserror::Error;

use crate::builder::folder_of;
use crate::file_error::{FileError, file};

/// Bytes written at a time.
const WRITE_CHUNK: usize = 256 << 10;

/// What is done about an image's signature.
#[derive(Debug, Clone, Copy)]
pub enum Signature<'s> {
    /// It is signed with a key.
    Sign(&'s Signer),
    /// A signature is put in that was made elsewhere.
    Attach {
        /// The certificate of the key that made it.
        certificate: &'s SigningCertificate,
        /// The signature, in DER or as r and s.
        signature: &'s [u8],
        /// The time at which the certificate must be valid: now.
        at: SystemTime,
    },
    /// Its signature is taken out.
    Remove,
}

/// An image file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// PCR 0, 1, 2, and 8 if it is signed.
    pub measurements: Measurements,
    /// Bytes of the image.
    pub image_bytes: u64,
    /// Flags of its header: what an image with unknown ones is measured to is not published.
    pub flags: Flags,
}

/// Why an image file could not be signed. The file is as it was.
#[derive(Debug, Error)]
pub enum SigningError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was named is no ordinary file.
    #[error("{} is not an ordinary file", .0.display())]
    NotAFile(PathBuf),
    /// The image cannot be written again so.
    #[error("{} cannot be signed: {source}", path.display())]
    Image {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: RewriteError,
    },
}

/// Writes the file `image` to `output` with another signature. They may be the same; a symbolic link is followed, and stays
/// one. The permissions are the image's; in place, so is the owner where the system lets us.
///
/// # Errors
/// If the image cannot be read, is damaged or cannot be signed so, or the output cannot be written. Nothing has changed
/// then.
pub fn write(image: &Path, output: &Path, signature: Signature<'_>) -> Result<Signed, SigningError> {
    let source = File::open(image).map_err(file(image, "opening the image"))?;
    let metadata = source.metadata().map_err(file(image, "reading its properties"))?;
    if !metadata.is_file() {
        return Err(SigningError::NotAFile(image.to_owned()));
    }
    let (output, in_place) = resolve(output, &metadata)?;
    let folder = output.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::Builder::new()
        .prefix(".enclave-image-")
        .tempfile_in(folder)
        .map_err(file(folder, "creating the signed image"))?;
    let signed = rewrite(source, metadata.len(), draft.as_file_mut(), signature)
        .map_err(|source| SigningError::Image { path: image.to_owned(), source })?;
    if in_place {
        // An ordinary user's files are their own; root gives the file back to whose it was.
        let _ = fchown(draft.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    }
    let permissions = fs::Permissions::from_mode(metadata.mode() & 0o777);
    draft
        .as_file()
        .set_permissions(permissions)
        .and_then(|()| draft.as_file().sync_all())
        .map_err(file(&output, "completing the signed image"))?;
    draft
        .persist(&output)
        .map_err(|error| file(&output, "putting the signed image into place")(error.error))?;
    Ok(signed)
}

fn rewrite(
    source: File,
    length: u64,
    output: &mut File,
    signature: Signature<'_>,
) -> Result<Signed, RewriteError> {
    let output = BufWriter::with_capacity(WRITE_CHUNK, output);
    let (written, certificate) = match signature {
        Signature::Sign(signer) => {
            let written = sign(source, length, output, |pcr0| signer.section(pcr0))?;
            (written, Some(signer.certificate()))
        }
        Signature::Attach { certificate, signature, at } => {
            let written = sign(source, length, output, |pcr0| attach(pcr0, certificate, signature, at))?;
            (written, Some(certificate))
        }
        Signature::Remove => (unsign(source, length, output)?, None),
    };
    let Written { header, mut measurements, length, .. } = written;
    measurements.pcr8 = certificate.map(SigningCertificate::pcr8);
    Ok(Signed { measurements, image_bytes: length, flags: header.flags })
}

/// Where the output really is, and whether it is the image itself.
fn resolve(output: &Path, image: &Metadata) -> Result<(PathBuf, bool), SigningError> {
    match fs::metadata(output) {
        Ok(found) if !found.is_file() => Err(SigningError::NotAFile(output.to_owned())),
        Ok(found) => {
            let path = fs::canonicalize(output).map_err(file(output, "finding the output"))?;
            Ok((path, (found.dev(), found.ino()) == (image.dev(), image.ino())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = fs::canonicalize(folder_of(output));
            let folder = folder.map_err(file(output, "finding the output's folder"))?;
            let name = output.file_name().ok_or_else(|| SigningError::NotAFile(output.to_owned()))?;
            Ok((folder.join(name), false))
        }
        Err(error) => Err(file(output, "finding the output")(error).into()),
    }
}
