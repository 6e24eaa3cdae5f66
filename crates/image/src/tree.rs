//! Paths in a tree of entries: symbolic links on the way are resolved inside the tree, whose root they cannot leave.

use thiserror::Error;

use crate::archive::{Archive, Content, Entry};
use crate::error::BuildError;
use crate::folder::to_path;

/// Most symbolic links on the way to one path, as Linux has it (`MAXSYMLINKS`, include/linux/namei.h).
pub const MAX_LINKS: usize = 40;

/// Why a path leads nowhere.
#[derive(Debug, Error)]
pub enum TreeError {
    /// Something on the way is a file.
    #[error("{} is not a folder in the image", .0.display())]
    NotAFolder(std::path::PathBuf),
    /// The links on the way have no end.
    #[error("more than {MAX_LINKS} symbolic links on the way")]
    TooManyLinks,
    /// A path that Linux does not unpack.
    #[error(transparent)]
    Path(Box<BuildError>),
}

/// A folder that a path leads to.
#[derive(Debug)]
pub struct Resolved {
    /// Its own path, free of links.
    pub path: Vec<u8>,
    /// The folders that had to be made for it.
    pub made: Vec<Vec<u8>>,
}

/// The part of an archive below one folder, as a tree with a root of its own. Its paths are relative; the root's is empty.
#[derive(Debug)]
pub struct Tree<'a> {
    archive: &'a mut Archive,
    prefix: &'static str,
}

impl<'a> Tree<'a> {
    /// The tree below the folder `prefix`.
    pub const fn new(archive: &'a mut Archive, prefix: &'static str) -> Self {
        Self { archive, prefix }
    }

    /// The folder that a path leads to, or what would be there; none if something on the way is missing.
    ///
    /// # Errors
    /// If something on the way is neither folder nor link, or there are too many links.
    pub fn find(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.walk(path, false)?.map(|found| found.path))
    }

    /// As [`Self::find`]; what is missing is made, with root as its owner and mode 0755.
    ///
    /// # Errors
    /// As [`Self::find`], and if a path gets longer than Linux unpacks.
    pub fn make(&mut self, path: &[u8]) -> Result<Resolved, TreeError> {
        Ok(self.walk(path, true)?.unwrap_or(Resolved { path: Vec::new(), made: Vec::new() }))
    }

    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<Resolved>, TreeError> {
        let (mut folder, mut made, mut links) = (Vec::new(), Vec::new(), 0_usize);
        let mut ahead = parts(path);
        while let Some(name) = ahead.pop() {
            if name == b".." {
                let parent = folder.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                folder.truncate(parent);
                continue;
            }
            let child = if folder.is_empty() { name } else { [&folder, b"/".as_slice(), &name].concat() };
            match self.archive.get(&self.key(&child)).map(|entry| &entry.content) {
                Some(Content::Directory) => folder = child,
                Some(Content::Symlink(target)) => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        return Err(TreeError::TooManyLinks);
                    }
                    if target.starts_with(b"/") {
                        folder.clear();
                    }
                    ahead.extend(parts(target));
                }
                Some(_) => return Err(TreeError::NotAFolder(to_path(&child))),
                None if make => {
                    self.put(&child, Entry::of_root(Content::Directory, 0o755))
                        .map_err(|error| TreeError::Path(Box::new(error)))?;
                    made.push(child.clone());
                    folder = child;
                }
                None => return Ok(None),
            }
        }
        Ok(Some(Resolved { path: folder, made }))
    }

    /// What a path leads to, links at its end followed as well; none if there is nothing.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<&Entry>, TreeError> {
        let mut path = path.to_vec();
        for _ in 0..=MAX_LINKS {
            let at = path.iter().rposition(|byte| *byte == b'/');
            let (folder, name) = path.split_at(at.map_or(0, |at| at.saturating_add(1)));
            let Some(folder) = self.find(folder)? else { return Ok(None) };
            let found =
                if folder.is_empty() { name.to_vec() } else { [&folder, b"/".as_slice(), name].concat() };
            let key = self.key(&found);
            match self.archive.get(&key).map(|entry| &entry.content) {
                Some(Content::Symlink(target)) if target.starts_with(b"/") => path.clone_from(target),
                Some(Content::Symlink(target)) => path = [&folder, b"/".as_slice(), target].concat(),
                _ => return Ok(self.archive.get(&key)),
            }
        }
        Err(TreeError::TooManyLinks)
    }

    /// Puts an entry at a path that [`Self::make`] has made the way to.
    ///
    /// # Errors
    /// As [`Archive::insert`].
    pub fn put(&mut self, path: &[u8], entry: Entry) -> Result<(), BuildError> {
        self.archive.insert(self.key(path), entry)
    }

    /// The entry of a path free of links.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Entry> {
        let key = self.key(path);
        self.archive.get_mut(&key)
    }

    /// Removes an entry; what is below it stays.
    pub fn remove(&mut self, path: &[u8]) {
        let key = self.key(path);
        self.archive.remove(&key);
    }

    /// The paths of everything below a folder.
    #[must_use]
    pub fn below(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let skip = self.prefix.len().saturating_add(1);
        self.archive
            .below(&self.key(folder))
            .filter_map(|path| path.get(skip..).map(<[u8]>::to_vec))
            .collect()
    }

    fn key(&self, path: &[u8]) -> Vec<u8> {
        let prefix = self.prefix.as_bytes();
        if path.is_empty() { prefix.to_vec() } else { [prefix, b"/", path].concat() }
    }
}

/// The names in a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let mut parts: Vec<_> = names.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, Content)]) -> Archive {
        let mut archive = Archive::default();
        archive.directory("root").unwrap();
        for (path, content) in entries {
            archive.insert(format!("root/{path}"), Entry::of_root(content.clone(), 0o755)).unwrap();
        }
        archive
    }

    fn link(target: &str) -> Content {
        Content::Symlink(target.into())
    }

    fn find(archive: &mut Archive, path: &str) -> Option<String> {
        let found = Tree::new(archive, "root").find(path.as_bytes()).unwrap();
        found.map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn links_are_resolved_inside_the_root_and_never_above_it() {
        let mut archive = archive(&[
            ("usr", Content::Directory),
            ("usr/bin", Content::Directory),
            ("bin", link("usr/bin")),
            ("absolute", link("/usr/bin")),
            ("up", link("../../../../usr")),
            ("usr/back", link("../bin/../back2")),
            ("usr/back2", link("..")),
        ]);
        assert_eq!(find(&mut archive, "bin").unwrap(), "usr/bin");
        assert_eq!(find(&mut archive, "absolute").unwrap(), "usr/bin");
        assert_eq!(find(&mut archive, "up/bin").unwrap(), "usr/bin");
        assert_eq!(find(&mut archive, "usr/back").unwrap(), "");
        assert_eq!(find(&mut archive, "bin/missing"), None);
        assert_eq!(find(&mut archive, "").unwrap(), "");
    }

    #[test]
    fn forty_links_are_followed_and_one_more_refused() {
        let mut entries: Vec<_> =
            (0..MAX_LINKS).map(|n| (format!("{n}"), link(&format!("{}", n + 1)))).collect();
        entries.push((format!("{MAX_LINKS}"), Content::Directory));
        entries.push(("more".to_owned(), link("0")));
        entries.push(("loop".to_owned(), link("loop")));
        let entries: Vec<_> =
            entries.iter().map(|(path, content)| (path.as_str(), content.clone())).collect();
        let mut archive = archive(&entries);
        assert_eq!(find(&mut archive, "0").unwrap(), "40");
        for path in ["more", "loop"] {
            let error = Tree::new(&mut archive, "root").find(path.as_bytes()).unwrap_err();
            assert!(matches!(error, TreeError::TooManyLinks), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_made_also_at_the_end_of_a_link() {
        let mut archive = archive(&[("var", link("/data/var")), ("file", Content::Bytes(Vec::new()))]);
        let made = Tree::new(&mut archive, "root").make(b"var/log/app").unwrap();
        assert_eq!(made.path, b"data/var/log/app");
        assert_eq!(made.made.len(), 4);
        let entry = archive.get(b"root/data/var/log/app").unwrap();
        assert_eq!((entry.permissions, entry.uid), (0o755, 0));
        let error = Tree::new(&mut archive, "root").make(b"file/x").unwrap_err();
        assert_eq!(error.to_string(), "file is not a folder in the image");
    }

    #[test]
    fn a_path_that_grows_too_long_is_refused() {
        let long = "d".repeat(255);
        let path = vec![long.as_str(); 15].join("/");
        let mut archive = archive(&[]);
        let mut tree = Tree::new(&mut archive, "root");
        assert!(tree.make(path.as_bytes()).is_ok());
        let error = tree.make([path.as_str(), &long].join("/").as_bytes()).unwrap_err();
        assert!(matches!(error, TreeError::Path(_)), "{error}");
    }
}
