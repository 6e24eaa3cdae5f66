//! Tar archives and container images made by hand, byte by byte where they are to be wrong.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use image::archive::{Archive, Content};
use image::container::Selection;
use image::digest::Digest;
use image::extent::{Extent, Source};
use image::kernel::Architecture;
use image::limits::Limits;
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;

/// A tar archive being written, in the ustar format.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A member with this header; the name is taken as it is.
    pub(crate) fn member(
        mut self,
        name: &[u8],
        kind: EntryType,
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        assert!(name.len() <= 100, "longer names need an extended header");
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Regular, content.as_bytes(), |_| {})
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Directory, b"", |_| {})
    }

    pub(crate) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.member(name.as_bytes(), kind, b"", |header| header.set_link_name_literal(target).unwrap())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// An extended header for the member that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            // The length counts itself.
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.member(b"pax", EntryType::XHeader, &text, |_| {})
    }

    /// The archive without its end.
    pub(crate) fn open(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn extent(bytes: &[u8]) -> Extent {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Extent::whole(Source::new(file, "test").unwrap())
}

/// What is in an archive: a line for each entry with what it is, its mode and its owner.
pub(crate) fn listing(archive: &Archive) -> Vec<String> {
    let line = |(path, entry): (&[u8], &image::archive::Entry)| {
        let path = String::from_utf8_lossy(path);
        let rest = format!("{:o} {}:{}", entry.permissions, entry.uid, entry.gid);
        match &entry.content {
            Content::Directory => format!("{path}/ {rest}"),
            Content::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Content::Special { major, minor, kind } => {
                format!("{path} special {kind:o} {major},{minor} {rest}")
            }
            _ => format!("{path} {:?} {rest}", read(archive, &path)),
        }
    };
    archive.entries().map(line).collect()
}

/// The content of a file in an archive.
pub(crate) fn read(archive: &Archive, path: &str) -> String {
    use std::io::Read;
    let entry = archive.get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
    let mut text = String::new();
    match &entry.content {
        Content::Extent(extent) => extent.reader().read_to_string(&mut text).unwrap(),
        other => panic!("{path} is {other:?}"),
    };
    text
}

/// A container image to be written in one of the formats.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Value,
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Default for Image {
    fn default() -> Self {
        let layer = Tar::new().folder("bin/").file("bin/app", "the application").end();
        Self {
            layers: vec![layer],
            config: json!({"Cmd": ["/bin/app"]}),
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
        }
    }
}

impl Image {
    /// The configuration's bytes.
    pub(crate) fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let configuration = json!({
            "created": "2024-01-02T03:04:05Z", "architecture": self.architecture, "os": self.os,
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": diff_ids}
        });
        serde_json::to_vec(&configuration).unwrap()
    }
}

/// A layout being written into a folder.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) folder: TempDir,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder, manifests: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    /// Writes a blob and returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        fs::write(self.blob_path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes an image and returns its manifest's descriptor. Layers are stored as `store` makes them.
    pub(crate) fn image(&self, image: &Image, media_type: &str, store: impl Fn(&[u8]) -> Vec<u8>) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", &image.configuration());
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| self.blob(media_type, &store(layer))).collect();
        self.manifest(&json!({"schemaVersion": 2, "config": config, "layers": layers}))
    }

    pub(crate) fn manifest(&self, manifest: &Value) -> Value {
        self.blob("application/vnd.oci.image.manifest.v1+json", &serde_json::to_vec(manifest).unwrap())
    }

    pub(crate) fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.blob("application/vnd.oci.image.index.v1+json", &serde_json::to_vec(&index).unwrap())
    }

    /// Adds an uncompressed image, or one of any form.
    pub(crate) fn add(&mut self, descriptor: Value) {
        self.manifests.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs::write(self.path().join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    /// A layout of one uncompressed image.
    pub(crate) fn of(image: &Image) -> Self {
        let mut layout = Self::new();
        let descriptor = layout.image(image, LAYER, <[u8]>::to_vec);
        layout.add(descriptor);
        layout
    }

    /// The layout as a tar archive.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all(".", self.path()).unwrap();
        archive.into_inner().unwrap()
    }
}

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A descriptor with a platform and a name.
pub(crate) fn described(mut descriptor: Value, architecture: Option<&str>, name: Option<&str>) -> Value {
    if let Some(architecture) = architecture {
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
    }
    if let Some(name) = name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    descriptor
}

pub(crate) fn selection() -> Selection {
    Selection {
        architecture: Architecture::X86_64,
        tag: None,
        limits: Limits::default(),
        temporary: std::env::temp_dir(),
    }
}

pub(crate) fn tagged(tag: &str) -> Selection {
    Selection { tag: Some(tag.to_owned()), ..selection() }
}
