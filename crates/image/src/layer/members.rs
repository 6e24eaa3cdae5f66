//! The members of a tar archive, each with what long names and extended headers say about it.
//!
//! The tar crate reads the headers; what stands before a member and belongs to it is read here, because the crate holds
//! such texts in memory whatever their size. Anything that could be understood in two ways is refused by name.

use std::io::{self, Read};

use tar::{Archive, EntryType, Header};

use super::LayerError;
use super::pax;
use crate::archive::PATH_MAX;
use crate::attributes::{self, Attributes, Others};
use crate::extent::Extent;
use crate::folder::to_path;
use crate::limits::Limits;

/// Largest extended header of a member: attributes have at most 64 KiB each (`XATTR_SIZE_MAX`), paths 4 KiB.
const MAX_EXTENDED_HEADER: u64 = 1 << 20;

/// Bytes of a header, and what contents are padded to.
const BLOCK: u64 = 512;

/// What a member is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file with these bytes.
    File(Extent),
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// Another name for the file of this path.
    HardLink(Vec<u8>),
    /// A device or pipe.
    Special {
        /// The type bits of its mode.
        kind: u32,
        /// Major number of a device.
        major: u32,
        /// Minor number of a device.
        minor: u32,
    },
}

/// A member of an archive.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path: relative, without `.`, `..` and empty parts. Empty for the root folder.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-user-id, set-group-id and sticky bit included.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The attributes to keep.
    pub attributes: Attributes,
}

/// An archive to be read.
#[derive(Debug)]
pub struct Reader<'r> {
    /// What it is called in messages.
    pub name: &'r str,
    /// Its bytes, uncompressed.
    pub archive: &'r Extent,
    /// Its bounds.
    pub limits: &'r Limits,
    /// What becomes of attributes that cannot be kept.
    pub others: Others,
    /// Whether an archive without the zero blocks at its end is refused: they alone tell that nothing is missing, unless a
    /// digest does.
    pub must_end: bool,
}

impl Reader<'_> {
    /// Calls `each` for every member in order.
    ///
    /// # Errors
    /// If the archive is none, ends early, holds what cannot be taken, or `each` fails.
    pub fn read(&self, mut each: impl FnMut(Member) -> Result<(), LayerError>) -> Result<(), LayerError> {
        let mut archive = Archive::new(self.archive.reader());
        // Raw: long names and extended headers come as members.
        let members = archive.entries_with_seek().map_err(|error| self.broken(&error))?.raw(true);
        let (mut extended, mut end, mut count) = (Extended::default(), 0, 0_usize);
        for member in members {
            let mut member = member.map_err(|error| self.broken(&error))?;
            count = count.saturating_add(1);
            if count > self.limits.entries {
                return Err(self.limit("entries", self.limits.entries as u64));
            }
            let size = member.header().entry_size().map_err(|error| self.broken(&error))?;
            let start = member.raw_file_position();
            let content = self.archive.part(start, size);
            end = start.saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX));
            let header = member.header().clone();
            match header.entry_type() {
                EntryType::GNULongName => extended.path = Some(self.long_text(&mut member, size)?),
                EntryType::GNULongLink => extended.link = Some(self.long_text(&mut member, size)?),
                EntryType::XHeader => {
                    self.extend(&mut extended, &self.text(&mut member, size, MAX_EXTENDED_HEADER)?)?
                }
                // For all members that follow: tools write comments there, and engines do not look.
                EntryType::XGlobalHeader => {}
                _ => each(self.member(&header, size, content, core::mem::take(&mut extended))?)?,
            }
        }
        if !extended.is_empty() {
            return Err(self.incomplete("it ends after an extended header"));
        }
        self.check_end(end)
    }

    /// umoci leaves out even the padding of the last file; nothing of its content can be missing.
    fn check_end(&self, end: u64) -> Result<(), LayerError> {
        if self.must_end && self.archive.part(end, BLOCK).is_none() {
            return Err(self.incomplete("it ends in the middle"));
        }
        Ok(())
    }

    fn member(
        &self,
        header: &Header,
        size: u64,
        content: Option<Extent>,
        extended: Extended,
    ) -> Result<Member, LayerError> {
        let name = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let refuse = |why: &str| Err(self.refusal(&name, why));
        let number = |found: io::Result<u32>| found.map_err(|error| self.refusal(&name, &error.to_string()));
        if extended.sparse {
            return refuse(SPARSE);
        }
        let path = plain_path(&name).map_err(|why| self.refusal(&name, why))?;
        let link =
            || extended.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                let claimed = extended.size.unwrap_or(size);
                if claimed > u64::from(u32::MAX) {
                    let (layer, path) = (self.name.to_owned(), to_path(&name));
                    return Err(LayerError::TooLarge { layer, path, size: claimed });
                }
                if claimed != size {
                    return refuse("its two headers disagree about its size");
                }
                Kind::File(content.ok_or_else(|| self.incomplete("it ends in the middle of a file"))?)
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link().unwrap_or_default()),
            EntryType::Link => {
                let target = link().unwrap_or_default();
                Kind::HardLink(plain_path(&target).map_err(|why| {
                    self.refusal(&name, &format!("it is a link to {}: {why}", to_path(&target).display()))
                })?)
            }
            EntryType::Char => self.device(header, TYPE_CHARACTER, &name)?,
            EntryType::Block => self.device(header, TYPE_BLOCK, &name)?,
            EntryType::Fifo => Kind::Special { kind: TYPE_FIFO, major: 0, minor: 0 },
            EntryType::GNUSparse => return refuse(SPARSE),
            _ => {
                return refuse(
                    "it is of a kind that no file system has (a volume label or a part of several)",
                );
            }
        };
        if !matches!(kind, Kind::File(_)) && size != 0 {
            return refuse("it has contents, and only files may");
        }
        if matches!(&kind, Kind::Symlink(text) if text.is_empty()) {
            return refuse("it is a symbolic link to nothing");
        }
        if path.is_empty() && !matches!(kind, Kind::Directory) {
            return refuse("the root must be a folder");
        }
        let old = header.as_old();
        let id = |found: Option<u64>, field: &[u8], parsed: io::Result<u64>| {
            let id = found.map_or_else(|| or_zero(field, parsed), Ok);
            number(id.and_then(|id| {
                u32::try_from(id).map_err(|_| io::Error::other("its owner is no number of 32 bits"))
            }))
        };
        Ok(Member {
            path,
            kind,
            permissions: number(or_zero(&old.mode, header.mode()))? & 0o7777,
            uid: id(extended.uid, &old.uid, header.uid())?,
            gid: id(extended.gid, &old.gid, header.gid())?,
            attributes: self.keep(&name, extended.attributes)?,
        })
    }

    fn device(&self, header: &Header, kind: u32, name: &[u8]) -> Result<Kind, LayerError> {
        let number = |found: io::Result<Option<u32>>| {
            let missing = || self.refusal(name, "it is a device without a number");
            found.ok().flatten().ok_or_else(missing)
        };
        Ok(Kind::Special {
            kind,
            major: number(header.device_major())?,
            minor: number(header.device_minor())?,
        })
    }

    fn keep(&self, path: &[u8], found: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Attributes, LayerError> {
        let mut kept = Attributes::new();
        for (name, value) in found {
            let kept_name = attributes::keeps(&name, self.others).map_err(|()| LayerError::Attribute {
                layer: self.name.to_owned(),
                path: to_path(path),
                name: String::from_utf8_lossy(&name).into_owned(),
            })?;
            if let Some(kept_name) = kept_name {
                kept.insert(kept_name.to_owned(), value);
            }
        }
        Ok(kept)
    }

    /// Adds what an extended header says.
    fn extend(&self, extended: &mut Extended, header: &[u8]) -> Result<(), LayerError> {
        for record in pax::records(header) {
            let record = record.map_err(|why| self.incomplete(why))?;
            extended
                .take(&record)
                .ok_or_else(|| self.incomplete("an extended header holds a malformed number"))?;
        }
        Ok(())
    }

    fn long_text(&self, member: &mut impl Read, size: u64) -> Result<Vec<u8>, LayerError> {
        // With a zero byte at its end.
        let mut text = self.text(member, size, PATH_MAX as u64)?;
        while text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn text(&self, member: &mut impl Read, size: u64, limit: u64) -> Result<Vec<u8>, LayerError> {
        if size > limit {
            return Err(self.limit("bytes of a path or extended header", limit));
        }
        let mut text = Vec::new();
        member.take(limit).read_to_end(&mut text).map_err(|error| self.broken(&error))?;
        if text.len() as u64 != size {
            return Err(self.incomplete("it ends in the middle of a header"));
        }
        Ok(text)
    }

    fn broken(&self, error: &io::Error) -> LayerError {
        LayerError::Archive { layer: self.name.to_owned(), why: error.to_string() }
    }

    fn incomplete(&self, why: &str) -> LayerError {
        LayerError::Archive { layer: self.name.to_owned(), why: why.to_owned() }
    }

    fn limit(&self, what: &'static str, limit: u64) -> LayerError {
        LayerError::Limit { layer: self.name.to_owned(), what, limit }
    }

    fn refusal(&self, path: &[u8], why: &str) -> LayerError {
        LayerError::Member { layer: self.name.to_owned(), path: to_path(path), why: why.to_owned() }
    }
}

const SPARSE: &str = "it is a sparse file, which is not supported; make the archive without --sparse";

// Type bits of modes (inode(7)).
const TYPE_FIFO: u32 = 0o010_000;
const TYPE_CHARACTER: u32 = 0o020_000;
const TYPE_BLOCK: u32 = 0o060_000;

/// What stands before a member and belongs to it.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    sparse: bool,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.size.is_none() && self.attributes.is_empty()
    }

    /// Takes what is of interest. `None` for a number that is none.
    fn take(&mut self, record: &pax::Record<'_>) -> Option<()> {
        let text = || Some(record.value.to_vec()).filter(|text| !text.is_empty());
        match record.key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = Some(pax::number(record.value)?),
            b"uid" => self.uid = Some(pax::number(record.value)?),
            b"gid" => self.gid = Some(pax::number(record.value)?),
            key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            key => {
                if let Some(name) = attribute(key) {
                    self.attributes.push((name, record.value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// The attribute that a record stands for: GNU tar's, star's and Go's form, and access control lists as star writes them.
fn attribute(key: &[u8]) -> Option<Vec<u8>> {
    match key {
        b"SCHILY.acl.access" => Some(b"system.posix_acl_access".to_vec()),
        b"SCHILY.acl.default" => Some(b"system.posix_acl_default".to_vec()),
        key => key.strip_prefix(b"SCHILY.xattr.").map(<[u8]>::to_vec),
    }
}

/// Some programs leave fields empty that they have no use for; every reader takes that for zero.
fn or_zero<N: Default>(field: &[u8], parsed: io::Result<N>) -> io::Result<N> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(N::default()) } else { parsed }
}

/// A member's name as a path below the root.
fn plain_path(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.starts_with(b"/") {
        return Err("an absolute path, which is outside the archive");
    }
    if name.is_empty() {
        return Err("an empty path");
    }
    if name.contains(&0) {
        return Err("a path with a zero byte");
    }
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("a path that leads out of the archive"),
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_and_stay_inside() {
        assert_eq!(plain_path(b"./a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(plain_path(b"./").unwrap(), b"");
        assert_eq!(plain_path(b"a..b/...").unwrap(), b"a..b/...");
        for path in [&b"/a"[..], b"..", b"a/..", b"a/../../b", b"", b"a\0b"] {
            assert!(plain_path(path).is_err(), "{path:?}");
        }
    }
}
