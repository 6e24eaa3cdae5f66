//! What a layer makes of the tree below it: members added and replaced, names removed by whiteouts.
//!
//! Specification: the OCI image format, `layer.md`, sections "Applying Changesets" and "Whiteouts". Where a parent of a member is a
//! symbolic link (`bin` is one to `usr/bin` in many images), the link is resolved inside the tree, as Docker does.

use std::collections::BTreeSet;

use super::LayerError;
use super::members::{Kind, Member, Reader};
use crate::archive::{Archive, Content, Entry};
use crate::extent::Extent;
use crate::folder::to_path;
use crate::limits::Limits;
use crate::tree::{Resolved, Tree};

/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";

/// Names for the storage's own use, and the one that hides everything that lower layers have in its folder.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// First number of links that layers make. A folder's are numbers of devices and inodes.
const LINKS_OF_LAYERS: u64 = u64::MAX;

/// Whether a name may be a whiteout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// As in layers.
    Apply,
    /// As in any other archive: names like others.
    Ordinary,
}

/// The tree that layers are applied to, one after the other, and how much has been put into it.
#[derive(Debug)]
pub struct Layers<'a> {
    tree: Tree<'a>,
    limits: &'a Limits,
    whiteouts: Whiteouts,
    /// What the present layer has put there: its own whiteouts do not hide it.
    fresh: BTreeSet<Vec<u8>>,
    links: u64,
    names: u64,
    attributes: u64,
    entries: usize,
}

impl<'a> Layers<'a> {
    /// Layers below the folder `prefix` of an archive.
    #[must_use]
    pub const fn new(
        archive: &'a mut Archive,
        prefix: &'static str,
        limits: &'a Limits,
        whiteouts: Whiteouts,
    ) -> Self {
        Self {
            tree: Tree::new(archive, prefix),
            limits,
            whiteouts,
            fresh: BTreeSet::new(),
            links: 0,
            names: 0,
            attributes: 0,
            entries: 0,
        }
    }

    /// Applies a layer: an uncompressed tar archive.
    ///
    /// # Errors
    /// If it cannot be read, or a member cannot be where it wants to be.
    pub fn apply(&mut self, reader: &Reader<'_>) -> Result<(), LayerError> {
        self.fresh.clear();
        reader.read(|member| self.member(reader.name, member))
    }

    fn member(&mut self, layer: &str, member: Member) -> Result<(), LayerError> {
        let (folder, name) = split(&member.path);
        match whiteout(name).filter(|_| self.whiteouts == Whiteouts::Apply) {
            Some(Whiteout::Meta) => Ok(()),
            Some(Whiteout::Opaque) => self.hide(layer, &member, folder, None),
            Some(Whiteout::Name(hidden)) => self.hide(layer, &member, folder, Some(hidden)),
            Some(Whiteout::Malformed) => Err(refusal(layer, &member.path, "a whiteout of no name")),
            None => self.put(layer, &member),
        }
    }

    /// Removes what lower layers have at or below a name, or below a folder.
    fn hide(
        &mut self,
        layer: &str,
        member: &Member,
        folder: &[u8],
        name: Option<&[u8]>,
    ) -> Result<(), LayerError> {
        let folder = match self.tree.find(folder) {
            Ok(Some(folder)) => folder,
            // Nothing to hide.
            Ok(None) => return Ok(()),
            Err(error) => return Err(refusal(layer, &member.path, &error.to_string())),
        };
        let hidden = name.map_or_else(|| folder.clone(), |name| join(&folder, name));
        let mut old: Vec<Vec<u8>> = self.tree.below(&hidden);
        if name.is_some() {
            old.push(hidden);
        }
        for path in old.iter().filter(|path| !self.fresh.contains(*path)) {
            self.tree.remove(path);
        }
        Ok(())
    }

    fn put(&mut self, layer: &str, member: &Member) -> Result<(), LayerError> {
        let fail = |why: &str| refusal(layer, &member.path, why);
        let (folder, name) = split(&member.path);
        let Resolved { path: folder, made } =
            self.tree.make(folder).map_err(|error| fail(&error.to_string()))?;
        for path in made {
            self.count(layer, &path, member)?;
        }
        let path = if member.path.is_empty() { Vec::new() } else { join(&folder, name) };
        let entry = self.entry(layer, member)?;
        if !matches!(entry.content, Content::Directory) {
            for below in self.tree.below(&path) {
                self.tree.remove(&below);
            }
        }
        self.count(layer, &path, member)?;
        self.note_fresh(&path);
        self.tree.put(&path, entry).map_err(|error| fail(&error.to_string()))
    }

    /// A whiteout beside or after it must hide neither the entry nor the folders it is in.
    fn note_fresh(&mut self, path: &[u8]) {
        let mut path = path;
        while self.fresh.insert(path.to_vec()) && !path.is_empty() {
            path = split(path).0;
        }
    }

    fn entry(&mut self, layer: &str, member: &Member) -> Result<Entry, LayerError> {
        let content = match &member.kind {
            Kind::Directory => Content::Directory,
            Kind::File(extent) => Content::Extent(Extent::clone(extent)),
            Kind::Symlink(text) => Content::Symlink(text.clone()),
            Kind::Special { kind, major, minor } => {
                Content::Special { kind: *kind, major: *major, minor: *minor }
            }
            Kind::HardLink(target) => return self.hard_link(layer, member, target),
        };
        Ok(Entry {
            content,
            permissions: member.permissions,
            uid: member.uid,
            gid: member.gid,
            link: None,
            attributes: member.attributes.clone(),
        })
    }

    /// The entry that a hard link shares.
    fn hard_link(&mut self, layer: &str, member: &Member, target: &[u8]) -> Result<Entry, LayerError> {
        let fail = |why: &str| {
            let why = format!("it is a link to {}, {why}", to_path(target).display());
            refusal(layer, &member.path, &why)
        };
        let (folder, name) = split(target);
        let folder = self.tree.find(folder).map_err(|error| fail(&error.to_string()))?;
        let path = folder.map(|folder| join(&folder, name));
        let Some(entry) = path.and_then(|path| self.tree.get_mut(&path)) else {
            return Err(fail("which the image does not have"));
        };
        match entry.content {
            Content::Directory => return Err(fail("which is a folder")),
            // Links may have several names as well, but a ramdisk has one for each.
            Content::Symlink(_) => {}
            _ => {
                self.links = self.links.saturating_add(1);
                entry.link.get_or_insert((LINKS_OF_LAYERS, self.links));
            }
        }
        Ok(entry.clone())
    }

    fn count(&mut self, layer: &str, path: &[u8], member: &Member) -> Result<(), LayerError> {
        let attributes: usize =
            member.attributes.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        self.entries = self.entries.saturating_add(1);
        self.names = self.names.saturating_add(path.len() as u64);
        self.attributes = self.attributes.saturating_add(attributes as u64);
        let exceeded = |what, limit| Err(LayerError::Limit { layer: layer.to_owned(), what, limit });
        if self.entries > self.limits.entries {
            return exceeded("entries in the image", self.limits.entries as u64);
        }
        if self.names > self.limits.names {
            return exceeded("bytes of paths in the image", self.limits.names);
        }
        if self.attributes > self.limits.attributes {
            return exceeded("bytes of extended attributes in the image", self.limits.attributes);
        }
        Ok(())
    }
}

enum Whiteout<'n> {
    Name(&'n [u8]),
    Opaque,
    Meta,
    Malformed,
}

fn whiteout(name: &[u8]) -> Option<Whiteout<'_>> {
    if name == OPAQUE {
        return Some(Whiteout::Opaque);
    }
    if name.starts_with(WHITEOUT_META) {
        return Some(Whiteout::Meta);
    }
    Some(match name.strip_prefix(WHITEOUT)? {
        b"" | b"." | b".." => Whiteout::Malformed,
        hidden => Whiteout::Name(hidden),
    })
}

/// A path's folder and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            (path.get(..at).unwrap_or_default(), path.get(at.saturating_add(1)..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn refusal(layer: &str, path: &[u8], why: &str) -> LayerError {
    LayerError::Member { layer: layer.to_owned(), path: to_path(path), why: why.to_owned() }
}
