//! The image's metadata, kept beside an enclave's state for `describe`.
//!
//! Nothing measures metadata, so the supervisor does not read it: the command that starts an enclave keeps it.

use std::io::{self, Read, Write};

use crate::client::error::ClientError;
use crate::description::Description;
use crate::run_dir::{EnclaveFolder, RunDirError, RunRoot};

/// Name of the file.
const METADATA_FILE: &str = "metadata.json";

/// Bytes of the longest metadata that is kept; what container tools write has a few KiB.
pub const MAX_KEPT_METADATA: u64 = 1 << 20;

/// Keeps the metadata of the image that an enclave was started from, as it stands in the image.
///
/// # Errors
/// If it is longer than [`MAX_KEPT_METADATA`], is kept already, or cannot be written.
pub fn keep_metadata(root: &RunRoot, enclave: &Description, metadata: &[u8]) -> Result<(), ClientError> {
    // It ended in this moment and was removed: nobody will ask.
    let Some(folder) = root.open(&enclave.enclave_id)? else { return Ok(()) };
    let failed = |error| RunDirError::Folder { path: folder.path().join(METADATA_FILE), error };
    if u64::try_from(metadata.len()).unwrap_or(u64::MAX) > MAX_KEPT_METADATA {
        return Err(failed(too_long()).into());
    }
    let mut file = folder.create_file(METADATA_FILE).map_err(failed)?;
    Ok(file.write_all(metadata).map_err(failed)?)
}

/// The metadata that was kept, or `None` if there is none.
///
/// # Errors
/// If it cannot be read, or is longer than what is ever kept.
pub fn metadata(root: &RunRoot, enclave: &Description) -> Result<Option<Vec<u8>>, ClientError> {
    let Some(folder) = root.open(&enclave.enclave_id)? else { return Ok(None) };
    match read(&folder) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RunDirError::Folder { path: folder.path().join(METADATA_FILE), error }.into()),
    }
}

fn read(folder: &EnclaveFolder) -> io::Result<Vec<u8>> {
    let mut metadata = Vec::new();
    let read = folder.open_file(METADATA_FILE)?.take(MAX_KEPT_METADATA + 1).read_to_end(&mut metadata)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_KEPT_METADATA { Err(too_long()) } else { Ok(metadata) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("metadata longer than {MAX_KEPT_METADATA} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An enclave's folder, and what is described of it.
    fn enclave(root: &RunRoot, enclave_id: &str) -> Description {
        let folder = root.create(&root.lock().unwrap(), enclave_id).unwrap();
        let run_dir = folder.path().to_owned();
        Description { enclave_id: enclave_id.to_owned(), run_dir, ..Description::example() }
    }

    #[test]
    fn what_was_kept_is_read_and_never_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let enclave = enclave(&root, "i-1-enc1");
        assert_eq!(metadata(&root, &enclave).unwrap(), None);
        keep_metadata(&root, &enclave, b"{}").unwrap();
        assert_eq!(metadata(&root, &enclave).unwrap().as_deref(), Some(&b"{}"[..]));
        assert!(keep_metadata(&root, &enclave, b"[]").is_err());
        assert_eq!(metadata(&root, &enclave).unwrap().as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn a_link_in_its_place_is_followed_neither_way() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path().join("run"));
        let enclave = enclave(&root, "i-1-enc1");
        let outside = temporary.path().join("outside");
        std::fs::write(&outside, "theirs").unwrap();
        std::os::unix::fs::symlink(&outside, enclave.run_dir.join(METADATA_FILE)).unwrap();
        assert!(keep_metadata(&root, &enclave, b"{}").is_err());
        assert!(metadata(&root, &enclave).is_err());
        assert_eq!(std::fs::read(&outside).unwrap(), b"theirs");
    }

    #[test]
    fn metadata_up_to_the_limit_is_kept_and_read() {
        let temporary = tempfile::tempdir().unwrap();
        let root = RunRoot::at(temporary.path());
        let most = vec![b' '; usize::try_from(MAX_KEPT_METADATA).unwrap()];
        let fits = enclave(&root, "i-1-enc1");
        keep_metadata(&root, &fits, &most).unwrap();
        assert_eq!(metadata(&root, &fits).unwrap().as_deref(), Some(&most[..]));
        let longer = enclave(&root, "i-1-enc2");
        assert!(keep_metadata(&root, &longer, &[&most[..], b" "].concat()).is_err());
        std::fs::write(longer.run_dir.join(METADATA_FILE), [&most[..], b" "].concat()).unwrap();
        assert!(metadata(&root, &longer).is_err());
    }
}
