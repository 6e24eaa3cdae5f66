//! What goes into a ramdisk: a tree of entries sorted by path, their contents still where they are.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::attributes::Attributes;
use crate::error::BuildError;
use crate::extent::Extent;
use crate::folder::Folder;

/// One more than the most bytes of a path or link that Linux unpacks (`PATH_MAX`, include/uapi/linux/limits.h).
pub const PATH_MAX: usize = 4096;

/// Most bytes of a name between two slashes (`NAME_MAX`, there as well).
pub const NAME_MAX: usize = 255;

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A folder.
    Directory,
    /// A file whose bytes are here.
    Bytes(Vec<u8>),
    /// A file in a folder of the host.
    File {
        /// The folder.
        folder: Rc<Folder>,
        /// The path in it.
        path: Vec<u8>,
        /// Bytes of it.
        size: u64,
    },
    /// A file whose bytes are a part of another.
    Extent(Extent),
    /// A symbolic link with this target.
    Symlink(Vec<u8>),
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

/// One entry of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub content: Content,
    /// Permission bits, set-user-id, set-group-id and sticky bit included.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Files with the same number here are the same file by several names.
    pub link: Option<(u64, u64)>,
    /// Extended attributes. A ramdisk cannot hold them: see [`crate::attributes`].
    pub attributes: Attributes,
}

impl Entry {
    /// Something that belongs to root.
    #[must_use]
    pub const fn of_root(content: Content, permissions: u32) -> Self {
        Self { content, permissions, uid: 0, gid: 0, link: None, attributes: Attributes::new() }
    }
}

/// A tree of entries, sorted by the bytes of their paths: folders come before what is in them.
#[derive(Debug, Clone, Default)]
pub struct Archive(BTreeMap<Vec<u8>, Entry>);

impl Archive {
    /// Adds an entry, in place of another of that path. The path is relative, without a slash at either end.
    ///
    /// # Errors
    /// If the path, a name in it or the link's target is longer than Linux unpacks.
    pub fn insert(&mut self, path: impl Into<Vec<u8>>, entry: Entry) -> Result<(), BuildError> {
        let path = path.into();
        let link = if let Content::Symlink(target) = &entry.content { target.len() } else { 0 };
        let name_too_long = || path.split(|byte| *byte == b'/').any(|name| name.len() > NAME_MAX);
        if path.len() >= PATH_MAX || link >= PATH_MAX || name_too_long() {
            return Err(BuildError::PathTooLong(crate::folder::to_path(&path)));
        }
        self.0.insert(path, entry);
        Ok(())
    }

    /// Adds a folder of root's with mode 0755, unless the path is taken.
    ///
    /// # Errors
    /// As [`Archive::insert`].
    pub fn directory(&mut self, path: &str) -> Result<(), BuildError> {
        if self.0.contains_key(path.as_bytes()) {
            return Ok(());
        }
        self.insert(path, Entry::of_root(Content::Directory, 0o755))
    }

    /// Adds a file of root's.
    ///
    /// # Errors
    /// As [`Archive::insert`].
    pub fn file(&mut self, path: &str, bytes: Vec<u8>, permissions: u32) -> Result<(), BuildError> {
        self.insert(path, Entry::of_root(Content::Bytes(bytes), permissions))
    }

    /// The entries, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_slice(), entry))
    }

    /// The entry of a path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.0.get(path)
    }

    /// The entry of a path, to be changed.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Entry> {
        self.0.get_mut(path)
    }

    /// Takes an entry out. What lies below it stays.
    pub fn remove(&mut self, path: &[u8]) -> Option<Entry> {
        self.0.remove(path)
    }

    /// The paths of everything below a folder, sorted.
    pub fn below<'a>(&'a self, folder: &[u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let first = [folder, b"/"].concat();
        self.0
            .range(first.clone()..)
            .map(|(path, _)| path.as_slice())
            .take_while(move |path| path.starts_with(&first))
    }
}
