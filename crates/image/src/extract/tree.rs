//! Which paths of a ramdisk may become names in another archive.
//!
//! Linux unpacks a ramdisk into a file system of its own, where `..` and links can do no harm. Whoever unpacks what we write
//! has more to lose: a name must stay where it is put, whatever came before it.

use std::collections::HashSet;

use super::ExtractError;

/// The paths seen so far, as far as they matter to later ones.
#[derive(Debug, Default)]
pub(super) struct Tree {
    symlinks: HashSet<Vec<u8>>,
}

impl Tree {
    /// Takes the next entry's path: without `.`, empty parts and slashes at either end.
    ///
    /// # Errors
    /// If it has a part `..`, or leads through a symbolic link that came before.
    pub(super) fn admit(&mut self, path: &[u8], is_symlink: bool) -> Result<Vec<u8>, ExtractError> {
        let path = clean(path)?;
        self.check(&path)?;
        if is_symlink {
            self.symlinks.insert(path.clone());
        } else {
            // In place of the link, if there was one: Linux does the same.
            self.symlinks.remove(&path);
        }
        Ok(path)
    }

    /// Checks that no folder of a clean path is a symbolic link.
    ///
    /// # Errors
    /// If one is.
    pub(super) fn check(&self, path: &[u8]) -> Result<(), ExtractError> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut folders = slashes.filter_map(|at| path.get(..at));
        if folders.any(|folder| self.symlinks.contains(folder)) {
            return Err(ExtractError::ThroughLink(display(path)));
        }
        Ok(())
    }
}

fn clean(path: &[u8]) -> Result<Vec<u8>, ExtractError> {
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(ExtractError::Outside(display(path)));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

pub(super) fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
