//! The files of a ramdisk, for `enclave eif describe --files`.

use image::newc::Kind;
use image::newc::list::{Listed, Listing};
use serde::Serialize;

use crate::output::{plural, printable};

/// A ramdisk and its files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RamdiskFiles {
    number: usize,
    compression: Vec<&'static str>,
    /// Why it could not be read to its end, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
    files: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FileReport {
    path: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    /// Four octal digits.
    mode: String,
    #[serde(rename = "UID")]
    uid: u32,
    #[serde(rename = "GID")]
    gid: u32,
    size: u32,
    mtime: u32,
    inode: u32,
    links: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Major and minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(rename = "SHA384", skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl RamdiskFiles {
    pub(super) fn new(number: usize, listing: Listing) -> Self {
        Self {
            number,
            compression: listing.compressions.iter().map(|compression| compression.name()).collect(),
            unread: listing.failure.map(|failure| failure.to_string()),
            files: listing.entries.iter().map(FileReport::from).collect(),
        }
    }

    /// A line for each file, as `ls -l` has it.
    pub(super) fn text(&self) -> String {
        let files = plural(self.files.len(), "entry", "entries");
        let mut text =
            format!("\nRamdisk {} (compression: {}), {files}:\n", self.number, self.compression.join(", "));
        for file in &self.files {
            text.push_str(&file.line());
        }
        if let Some(reason) = &self.unread {
            text.push_str(&format!("  NOT READ TO ITS END: {}\n", printable(reason)));
        }
        text
    }
}

impl From<&Listed> for FileReport {
    fn from(listed: &Listed) -> Self {
        let entry = &listed.entry;
        let is_device = matches!(entry.kind(), Kind::CharacterDevice | Kind::BlockDevice);
        Self {
            path: entry.display(),
            kind: entry.kind().name(),
            mode: format!("{:04o}", entry.permissions()),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size,
            mtime: entry.mtime,
            inode: entry.inode,
            links: entry.links,
            target: entry.target.as_deref().map(|target| String::from_utf8_lossy(target).into_owned()),
            device: is_device.then_some(entry.special),
            digest: listed.digest.map(hex::encode),
        }
    }
}

impl FileReport {
    fn line(&self) -> String {
        let letter = match self.kind {
            "folder" => 'd',
            "symbolic link" => 'l',
            "character device" => 'c',
            "block device" => 'b',
            "named pipe" => 'p',
            "socket" => 's',
            "file" => '-',
            _ => '?',
        };
        let size = match self.device {
            Some((major, minor)) => format!("{major}, {minor}"),
            None => self.size.to_string(),
        };
        let target =
            self.target.as_ref().map_or_else(String::new, |target| format!(" -> {}", printable(target)));
        format!(
            "  {letter}{} {:>5} {:>5} {size:>10} {}{target}\n",
            self.mode,
            self.uid,
            self.gid,
            printable(&self.path)
        )
    }
}
