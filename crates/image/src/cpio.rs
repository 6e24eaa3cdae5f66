//! Archives as Linux unpacks them at boot: cpio in the "newc" format, the same bytes for the same content.
//!
//! What would differ from build to build is fixed: entries are sorted, numbered from 1 and dated 0, links are counted
//! within the archive. Specification: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.

use std::collections::HashMap;
use std::io::{Read, Write};

use crate::archive::{Archive, Content, Entry};
use crate::error::BuildError;
use crate::folder::to_path;

const MAGIC: &str = "070701";
const TRAILER: &[u8] = b"TRAILER!!!";

/// Bytes of a member's header.
const HEADER_LEN: u64 = 110;

/// Headers with names, and contents, are padded to this.
const ALIGNMENT: u64 = 4;
const PADDING: [u8; 3] = [0; 3];

/// Bytes copied at a time.
const COPY_CHUNK: usize = 256 << 10;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// Writes an archive and returns how many bytes that was, a multiple of 4, so that another can follow it.
///
/// # Errors
/// If the output fails, or a file cannot be read or has changed since it was listed.
pub fn write(archive: &Archive, output: impl Write) -> Result<u64, BuildError> {
    let mut writer = Writer { output, written: 0, buffer: vec![0; COPY_CHUNK] };
    let mut links = Links::count(archive);
    for (number, (path, entry)) in (1_u32..).zip(archive.entries()) {
        let name = links.name(entry, number);
        writer.entry(path, entry, name)?;
    }
    writer.header(&Header::default(), TRAILER)?;
    writer.output.flush().map_err(BuildError::Output)?;
    Ok(writer.written)
}

/// Bytes that [`write`] will write, told without reading any file.
#[must_use]
pub fn length(archive: &Archive) -> u64 {
    let mut links = Links::count(archive);
    let entries = (1_u32..).zip(archive.entries()).map(|(number, (path, entry))| {
        let content = match &entry.content {
            Content::Directory | Content::Special { .. } => 0,
            Content::Bytes(bytes) | Content::Symlink(bytes) => bytes.len() as u64,
            Content::File { size, .. } if links.name(entry, number).first => *size,
            Content::Extent(extent) if links.name(entry, number).first => extent.size(),
            Content::File { .. } | Content::Extent(_) => 0,
        };
        member_length(path, content)
    });
    entries.fold(member_length(TRAILER, 0), u64::saturating_add)
}

fn member_length(path: &[u8], content: u64) -> u64 {
    let header = HEADER_LEN.saturating_add(path.len() as u64).saturating_add(1);
    let padded = |length: u64| length.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
    padded(header).saturating_add(padded(content))
}

/// Number, link count and first appearance of a file.
#[derive(Debug, Clone, Copy)]
struct Name {
    inode: u32,
    links: u32,
    /// The contents come with the first name only.
    first: bool,
}

/// Files by several names: how many there are in the archive, and the number of the first.
struct Links(HashMap<(u64, u64), (u32, Option<u32>)>);

impl Links {
    fn count(archive: &Archive) -> Self {
        let mut links = HashMap::new();
        for link in archive.entries().filter_map(|(_, entry)| entry.link) {
            let (count, _) = links.entry(link).or_insert((0_u32, None));
            *count = count.saturating_add(1);
        }
        Self(links)
    }

    fn name(&mut self, entry: &Entry, number: u32) -> Name {
        if let Some((links, first)) = entry.link.and_then(|link| self.0.get_mut(&link)) {
            let is_first = first.is_none();
            return Name { inode: *first.get_or_insert(number), links: *links, first: is_first };
        }
        let links = if matches!(entry.content, Content::Directory) { 2 } else { 1 };
        Name { inode: number, links, first: true }
    }
}

/// The fields of a member's header that are not always 0.
#[derive(Debug, Default)]
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    size: u32,
    major: u32,
    minor: u32,
}

struct Writer<W> {
    output: W,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    fn entry(&mut self, path: &[u8], entry: &Entry, name: Name) -> Result<(), BuildError> {
        let mut header = Header {
            inode: name.inode,
            uid: entry.uid,
            gid: entry.gid,
            links: name.links,
            ..Header::default()
        };
        let size =
            |size: u64| u32::try_from(size).map_err(|_| BuildError::TooLarge { path: to_path(path), size });
        match &entry.content {
            Content::Directory => {
                header.mode = TYPE_DIRECTORY | entry.permissions;
                self.header(&header, path)
            }
            Content::Bytes(bytes) => {
                header.mode = TYPE_FILE | entry.permissions;
                header.size = size(bytes.len() as u64)?;
                self.member(&header, path, bytes)
            }
            Content::Symlink(target) => {
                header.mode = TYPE_SYMLINK | 0o777;
                header.size = size(target.len() as u64)?;
                self.member(&header, path, target)
            }
            Content::Special { kind, major, minor } => {
                header.mode = kind | entry.permissions;
                (header.major, header.minor) = (*major, *minor);
                self.header(&header, path)
            }
            Content::File { folder, path: source, size: bytes } => {
                header.mode = TYPE_FILE | entry.permissions;
                let checked = size(*bytes)?;
                if !name.first {
                    return self.header(&header, path);
                }
                header.size = checked;
                let file = folder.open(source, *bytes)?;
                self.header(&header, path)?;
                self.copy(file, *bytes, || folder.display(source))?;
                self.pad()
            }
            Content::Extent(extent) => {
                header.mode = TYPE_FILE | entry.permissions;
                let checked = size(extent.size())?;
                if !name.first {
                    return self.header(&header, path);
                }
                header.size = checked;
                self.header(&header, path)?;
                self.copy(extent.reader(), extent.size(), || extent.source().name().into())?;
                self.pad()
            }
        }
    }

    fn member(&mut self, header: &Header, path: &[u8], content: &[u8]) -> Result<(), BuildError> {
        self.header(header, path)?;
        self.put(content)?;
        self.pad()
    }

    fn header(&mut self, header: &Header, path: &[u8]) -> Result<(), BuildError> {
        let Header { inode, mode, uid, gid, links, size, major, minor } = header;
        // The name is counted and written with a zero byte at its end. Date, device of the file and checksum are 0.
        let name_length = path.len().saturating_add(1);
        let text = format!(
            "{MAGIC}{inode:08x}{mode:08x}{uid:08x}{gid:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}\
             {name_length:08x}{:08x}",
            0, 0, 0, 0
        );
        debug_assert_eq!(text.len() as u64, HEADER_LEN);
        self.put(text.as_bytes())?;
        self.put(path)?;
        self.put(&[0])?;
        self.pad()
    }

    /// Copies exactly `size` bytes, which must be all there are.
    fn copy(
        &mut self,
        mut file: impl Read,
        size: u64,
        path: impl Fn() -> std::path::PathBuf,
    ) -> Result<(), BuildError> {
        let mut left = size;
        loop {
            let mut buffer = core::mem::take(&mut self.buffer);
            let outcome = file.read(&mut buffer);
            let read = match outcome {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    self.buffer = buffer;
                    continue;
                }
                Err(error) => return Err(BuildError::file(path(), "reading it")(error)),
            };
            let written = self.put(buffer.get(..read).unwrap_or_default());
            self.buffer = buffer;
            written?;
            match (read, left.checked_sub(read as u64)) {
                (0, _) if left == 0 => return Ok(()),
                (1.., Some(rest)) => left = rest,
                _ => return Err(BuildError::Changed(path())),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.output.write_all(bytes).map_err(BuildError::Output)?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn pad(&mut self) -> Result<(), BuildError> {
        let padding = self.written.wrapping_neg() % ALIGNMENT;
        self.put(PADDING.get(..usize::try_from(padding).unwrap_or(0)).unwrap_or_default())
    }
}
