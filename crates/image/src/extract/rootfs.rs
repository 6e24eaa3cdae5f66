//! The application's root folder in an image as a tar archive: what `enclave build --rootfs` takes again, for the same PCR 2.
//!
//! Owners, modes, links, devices and the extended attributes that the image keeps are those of the image, whoever runs this:
//! nothing is unpacked. Names are checked by [`super::tree`].

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read, Write};

use eif::header::SectionKind;
use eif::reader::Reader as ImageReader;
use sha2::{Digest, Sha384};
use tar::{Builder, EntryType, Header};

use super::ExtractError;
use super::tree::{Tree, display};
use crate::attributes::MAX_FILE_BYTES;
use crate::contents::section_data;
use crate::newc::{Entry, Kind, Limits, NewcError, Reader, content_digest};

/// Where a ramdisk keeps the root folder.
const ROOT: &[u8] = b"rootfs";

/// The file of a ramdisk that lists extended attributes: [`crate::attributes`] says how.
const ATTRIBUTES: &[u8] = b"xattrs";

/// Largest numbers of a device that there can be (`MINORBITS`, include/linux/kdev_t.h).
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// Bytes hashed at a time.
const CHUNK: usize = 64 << 10;

/// Extended attributes by path below the root folder.
type Attributes = BTreeMap<Vec<u8>, Vec<(String, Vec<u8>)>>;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of the archive.
    pub entries: u64,
    /// Sockets and the like, which a tar archive cannot hold.
    pub left_out: Vec<String>,
}

/// Writes the root folder of an image of `length` bytes. `open` opens it anew: it is read twice, first for the extended
/// attributes.
///
/// # Errors
/// If the image or a ramdisk cannot be read or has no root folder, a path in it is hostile, or the output fails.
pub fn write<R: Read>(
    mut open: impl FnMut() -> io::Result<R>,
    length: u64,
    limits: Limits,
    output: impl Write,
) -> Result<Report, ExtractError> {
    let mut attributes = Attributes::new();
    let image = open().map_err(eif::reader::ReadError::Io)?;
    each_ramdisk(image, length, limits, |reader| collect_attributes(reader, &mut attributes))?;
    let mut archive = Archive::new(output, attributes);
    let image = open().map_err(eif::reader::ReadError::Io)?;
    each_ramdisk(image, length, limits, |reader| Ramdisk::new(&mut archive).add(reader))?;
    archive.finish()
}

/// The same for one ramdisk by itself, without extended attributes.
pub(crate) fn write_ramdisk(
    ramdisk: &mut dyn Read,
    limits: Limits,
    output: impl Write,
) -> Result<Report, ExtractError> {
    let mut archive = Archive::new(output, Attributes::new());
    let mut reader = Reader::new(BufReader::with_capacity(CHUNK, ramdisk), limits);
    Ramdisk::new(&mut archive).add(&mut reader).map_err(|trouble| trouble.of(1))?;
    archive.finish()
}

/// What can go wrong with one ramdisk.
#[derive(Debug)]
enum Trouble {
    Newc(NewcError),
    Other(ExtractError),
}

impl Trouble {
    fn of(self, number: usize) -> ExtractError {
        match self {
            Self::Newc(source) => ExtractError::Ramdisk { number, source },
            Self::Other(error) => error,
        }
    }
}

impl From<NewcError> for Trouble {
    fn from(error: NewcError) -> Self {
        Self::Newc(error)
    }
}

impl From<ExtractError> for Trouble {
    fn from(error: ExtractError) -> Self {
        Self::Other(error)
    }
}

/// A ramdisk being read from the section it is in.
type RamdiskReader<'r> = Reader<BufReader<&'r mut dyn Read>>;

fn each_ramdisk<R: Read>(
    image: R,
    length: u64,
    limits: Limits,
    mut each: impl FnMut(&mut RamdiskReader<'_>) -> Result<(), Trouble>,
) -> Result<(), ExtractError> {
    let mut image = ImageReader::new(image, length)?;
    let mut number: usize = 0;
    while let Some(section) = image.next_section()? {
        if section.kind != SectionKind::Ramdisk {
            continue;
        }
        number = number.saturating_add(1);
        let mut data = section_data(&mut image);
        let data: &mut dyn Read = &mut data;
        each(&mut Reader::new(BufReader::with_capacity(CHUNK, data), limits))
            .map_err(|trouble| trouble.of(number))?;
    }
    Ok(())
}

fn collect_attributes(reader: &mut RamdiskReader<'_>, attributes: &mut Attributes) -> Result<(), Trouble> {
    while let Some(entry) = reader.next_entry()? {
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if entry.path != ATTRIBUTES || entry.kind() != Kind::File || size > MAX_FILE_BYTES {
            continue;
        }
        let mut text = vec![0; size];
        reader.read(&mut text)?;
        for line in text.split(|byte| *byte == b'\n') {
            if let Some((name, value, path)) = attribute(line) {
                attributes.entry(path).or_default().push((name, value));
            }
        }
    }
    Ok(())
}

/// One line of the file; `None` for what init would not set either.
fn attribute(line: &[u8]) -> Option<(String, Vec<u8>, Vec<u8>)> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let name = core::str::from_utf8(parts.next()?).ok().filter(|name| !name.is_empty())?;
    let value = hex::decode(parts.next()?).ok()?;
    let mut path = Vec::new();
    let mut bytes = parts.next()?.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some((name.to_owned(), value, path))
}

/// The tar archive.
struct Archive<W: Write> {
    tar: Builder<W>,
    /// Of all ramdisks: they are unpacked over each other.
    tree: Tree,
    attributes: Attributes,
    report: Report,
    buffer: Vec<u8>,
}

impl<W: Write> Archive<W> {
    fn new(output: W, attributes: Attributes) -> Self {
        let (tar, tree, report) = (Builder::new(output), Tree::default(), Report::default());
        Self { tar, tree, attributes, report, buffer: vec![0; CHUNK] }
    }

    fn finish(self) -> Result<Report, ExtractError> {
        if self.report.entries == 0 {
            return Err(ExtractError::NoRootfs);
        }
        let mut output = self.tar.into_inner().map_err(ExtractError::Output)?;
        output.flush().map_err(ExtractError::Output)?;
        Ok(self.report)
    }

    /// Adds an entry; names that do not fit the header stand before it (pax).
    fn add(
        &mut self,
        entry: &Entry,
        path: &[u8],
        kind: EntryType,
        link: Option<&[u8]>,
        size: u64,
        content: impl Read,
    ) -> Result<(), ExtractError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(entry.permissions());
        header.set_uid(u64::from(entry.uid));
        header.set_gid(u64::from(entry.gid));
        header.set_mtime(u64::from(entry.mtime));
        header.set_size(size);
        let name = match (path.is_empty(), kind) {
            (true, _) => b"./".to_vec(),
            (false, EntryType::Directory) => [path, b"/"].concat(),
            _ => path.to_vec(),
        };
        let mut records: Vec<(String, &[u8])> = Vec::new();
        if let Some(ustar) = header.as_ustar_mut() {
            if !put(&mut ustar.name, &name) {
                records.push(("path".to_owned(), &name));
            }
            if let Some(link) = link
                && !put(&mut ustar.linkname, link)
            {
                records.push(("linkpath".to_owned(), link));
            }
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(entry.special.0).map_err(ExtractError::Output)?;
            header.set_device_minor(entry.special.1).map_err(ExtractError::Output)?;
        }
        let key = if path.is_empty() { b"." } else { path };
        if kind != EntryType::Link {
            for (name, value) in self.attributes.get(key).into_iter().flatten() {
                records.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        header.set_cksum();
        self.tar
            .append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))
            .and_then(|()| self.tar.append(&header, content))
            .map_err(ExtractError::Output)?;
        self.report.entries = self.report.entries.saturating_add(1);
        Ok(())
    }
}

/// Puts a name into a header's field, if it fits with a zero byte behind it. A name that does not is cut.
fn put(field: &mut [u8], name: &[u8]) -> bool {
    field.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    name.len() < field.len()
}

/// Files are the same if archive, device and inode are.
type Identity = (u64, (u32, u32), u32);

/// A file of several names.
enum Links {
    /// Names that have come without the content.
    Waiting(Vec<(Entry, Vec<u8>)>),
    /// The content has come under this name.
    Written { path: Vec<u8>, digest: [u8; 48] },
}

/// One ramdisk being added.
struct Ramdisk<'a, W: Write> {
    archive: &'a mut Archive<W>,
    links: HashMap<Identity, Links>,
}

impl<'a, W: Write> Ramdisk<'a, W> {
    fn new(archive: &'a mut Archive<W>) -> Self {
        Self { archive, links: HashMap::new() }
    }

    fn add(mut self, reader: &mut RamdiskReader<'_>) -> Result<(), Trouble> {
        while let Some(entry) = reader.next_entry()? {
            let path = self.archive.tree.admit(&entry.path, entry.kind() == Kind::Symlink)?;
            let Some(path) = below_root(&path) else { continue };
            self.entry(reader, entry, path)?;
        }
        // Files of several names that are all empty. In a fixed order: the archive depends on the image alone.
        let mut waiting: Vec<Vec<(Entry, Vec<u8>)>> = self
            .links
            .drain()
            .filter_map(|(_, links)| match links {
                Links::Waiting(names) => Some(names),
                Links::Written { .. } => None,
            })
            .collect();
        waiting.sort_by(|one, other| {
            one.first().map(|(_, path)| path).cmp(&other.first().map(|(_, path)| path))
        });
        for names in waiting {
            let mut names = names.into_iter();
            let Some((first, path)) = names.next() else { continue };
            self.archive.add(&first, &path, EntryType::Regular, None, 0, io::empty())?;
            for (entry, name) in names {
                self.hard_link(&entry, &name, &path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, reader: &mut RamdiskReader<'_>, entry: Entry, path: Vec<u8>) -> Result<(), Trouble> {
        let (major, minor) = entry.special;
        let kind = match entry.kind() {
            kind if path.is_empty() && kind != Kind::Folder => return Err(ExtractError::NoRootfs.into()),
            Kind::CharacterDevice | Kind::BlockDevice if major > MAX_MAJOR || minor > MAX_MINOR => {
                self.archive.report.left_out.push(display(&path));
                return Ok(());
            }
            Kind::File => return self.file(reader, entry, path),
            Kind::Folder => EntryType::Directory,
            Kind::Symlink => EntryType::Symlink,
            Kind::CharacterDevice => EntryType::Char,
            Kind::BlockDevice => EntryType::Block,
            Kind::Fifo => EntryType::Fifo,
            Kind::Socket | Kind::Unknown => {
                self.archive.report.left_out.push(display(&path));
                return Ok(());
            }
        };
        Ok(self.archive.add(&entry, &path, kind, entry.target.as_deref(), 0, io::empty())?)
    }

    fn file(&mut self, reader: &mut RamdiskReader<'_>, entry: Entry, path: Vec<u8>) -> Result<(), Trouble> {
        if entry.links < 2 {
            return self.content(reader, &entry, &path, None);
        }
        let identity = (entry.archive, entry.device, entry.inode);
        match (self.links.remove(&identity), entry.size) {
            (None, 0) => {
                self.links.insert(identity, Links::Waiting(vec![(entry, path)]));
            }
            (Some(Links::Waiting(mut names)), 0) => {
                names.push((entry, path));
                self.links.insert(identity, Links::Waiting(names));
            }
            (Some(Links::Written { path: first, digest }), size) => {
                if size > 0 && content_digest(reader, &mut self.archive.buffer)? != digest {
                    return Err(ExtractError::Links(display(&path)).into());
                }
                self.hard_link(&entry, &path, &first)?;
                self.links.insert(identity, Links::Written { path: first, digest });
            }
            (waiting, _) => {
                let mut hasher = Sha384::new();
                self.content(reader, &entry, &path, Some(&mut hasher))?;
                let digest = hasher.finalize().into();
                if let Some(Links::Waiting(names)) = waiting {
                    for (other, name) in names {
                        self.hard_link(&other, &name, &path)?;
                    }
                }
                self.links.insert(identity, Links::Written { path, digest });
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &[u8], to: &[u8]) -> Result<(), ExtractError> {
        // What has come meanwhile may have put a symbolic link on the way.
        for path in [path, to] {
            self.archive.tree.check(&[ROOT, b"/", path].concat())?;
        }
        self.archive.add(entry, path, EntryType::Link, Some(to), 0, io::empty())
    }

    /// Adds a file with its content, which `hasher` sees as well.
    fn content(
        &mut self,
        reader: &mut RamdiskReader<'_>,
        entry: &Entry,
        path: &[u8],
        hasher: Option<&mut Sha384>,
    ) -> Result<(), Trouble> {
        let mut content = Content { reader, hasher, failure: None };
        let added =
            self.archive.add(entry, path, EntryType::Regular, None, u64::from(entry.size), &mut content);
        if let Some(failure) = content.failure {
            return Err(failure.into());
        }
        Ok(added?)
    }
}

/// The part of a clean path below the root folder; empty for that itself.
fn below_root(path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(ROOT)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    rest.strip_prefix(b"/").map(<[u8]>::to_vec)
}

/// The content of the entry at hand. The archive's writer only knows errors of the system: the real one is kept.
struct Content<'c, 'r> {
    reader: &'c mut RamdiskReader<'r>,
    hasher: Option<&'c mut Sha384>,
    failure: Option<NewcError>,
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(count) => {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(buffer.get(..count).unwrap_or_default());
                }
                Ok(count)
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }
}
