//! The OCI image layout that a pull leaves: OCI Image Specification 1.1, "Image Layout".

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::RegistryError;
use super::limits::Limits;
use super::manifest::Descriptor;
use crate::kernel::Architecture;

/// A layout that is being written. It becomes one with [`Layout::finish`], which writes the index.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Begins a layout in an empty folder.
    pub(super) fn create(folder: &Path) -> Result<Self, RegistryError> {
        let mut entries = fs::read_dir(folder).map_err(RegistryError::file(folder, "cannot be read"))?;
        if entries.next().is_some() {
            return Err(RegistryError::file(folder, "must be an empty folder")(std::io::Error::from(
                std::io::ErrorKind::DirectoryNotEmpty,
            )));
        }
        let blobs = folder.join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(RegistryError::file(&blobs, "cannot be made"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn blob(&self, descriptor: &Descriptor) -> PathBuf {
        self.folder.join("blobs").join("sha256").join(descriptor.digest.hex())
    }

    /// A new file for a blob.
    pub(super) fn create_blob(&self, descriptor: &Descriptor) -> Result<BlobFile, RegistryError> {
        let path = self.blob(descriptor);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(RegistryError::file(&path, "cannot be made"))?;
        Ok(BlobFile { path, file })
    }

    /// The image's configuration, which is on disk and was checked.
    pub(super) fn read_config(&self, config: &Descriptor, limits: &Limits) -> Result<Vec<u8>, RegistryError> {
        let path = self.blob(config);
        let file = File::open(&path).map_err(RegistryError::file(&path, "cannot be opened"))?;
        let mut bytes = Vec::new();
        file.take(limits.config_bytes)
            .read_to_end(&mut bytes)
            .map_err(RegistryError::file(&path, "cannot be read"))?;
        Ok(bytes)
    }

    /// Puts the manifest among the blobs.
    pub(super) fn write_manifest(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), RegistryError> {
        self.create_blob(manifest)?.write(bytes)
    }

    /// Writes the index, with which the folder becomes a layout.
    pub(super) fn finish(
        &self,
        manifest: &Descriptor,
        media_type: &str,
        platform: Architecture,
    ) -> Result<(), RegistryError> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": crate::container::INDEXES[0],
            "manifests": [{
                "mediaType": media_type,
                "digest": manifest.digest.to_string(),
                "size": manifest.size,
                "platform": { "architecture": platform.oci_name(), "os": "linux" },
            }],
        });
        self.write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        self.write("index.json", &index)
    }

    fn write(&self, name: &str, value: &serde_json::Value) -> Result<(), RegistryError> {
        let path = self.folder.join(name);
        fs::write(&path, value.to_string()).map_err(RegistryError::file(&path, "cannot be written"))
    }
}

/// A blob on its way to disk.
#[derive(Debug)]
pub(super) struct BlobFile {
    path: PathBuf,
    file: File,
}

impl BlobFile {
    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.file.write_all(bytes).map_err(RegistryError::file(&self.path, "cannot be written"))
    }

    /// Forgets everything that was written, for another attempt.
    pub(super) fn restart(&mut self) -> Result<(), RegistryError> {
        use std::io::Seek;
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(RegistryError::file(&self.path, "cannot be written"))
    }
}
