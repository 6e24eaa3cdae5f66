//! A folder of the host as the content of an archive.
//!
//! Nothing outside the folder is ever read: symbolic links are archived as links and never followed, also if the
//! folder changes meanwhile. Owners: whatever belongs to the user (or group) who builds belongs to root in the image;
//! everything else keeps its owner. So a tree unpacked by any user, or made by root, gives the same image. Extended
//! attributes: see [`crate::attributes`]. Sockets are left out: they are nothing without the program that listens.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, lgetxattr, llistxattr, major, minor,
    open, openat2, readlinkat, statat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::archive::{Archive, Content, Entry};
use crate::attributes::{self, Attributes, Others};
use crate::error::BuildError;

/// Most bytes of the names of a file's attributes, and of the value of one (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`,
/// include/uapi/linux/limits.h).
const ATTRIBUTE_MAX: usize = 64 << 10;

/// Which owner and group of the host become root in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builder {
    /// Files of this user belong to user 0.
    pub uid: u32,
    /// Files of this group belong to group 0.
    pub gid: u32,
}

impl Builder {
    /// The user and group of this process.
    #[must_use]
    pub fn current() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    fn owner(self, uid: u32, gid: u32) -> (u32, u32) {
        (if uid == self.uid { 0 } else { uid }, if gid == self.gid { 0 } else { gid })
    }
}

/// A folder whose contents are listed and read.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; its own path may be a symbolic link.
    ///
    /// # Errors
    /// If it is none or cannot be opened.
    pub fn at(path: &Path) -> Result<Self, BuildError> {
        let descriptor = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(BuildError::file(path, "opening the root folder"))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    /// A path in it, for people.
    #[must_use]
    pub fn display(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(to_path(path)) }
    }

    /// Opens a file of the size it had when it was listed.
    ///
    /// # Errors
    /// If it cannot be opened or is no longer what it was.
    pub fn open(&self, path: &[u8], size: u64) -> Result<File, BuildError> {
        let file = self.open_inside(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = fstat(&file).map_err(BuildError::file(self.display(path), "reading its properties"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || u64::try_from(stat.st_size) != Ok(size)
        {
            return Err(BuildError::Changed(self.display(path)));
        }
        Ok(file.into())
    }

    fn open_inside(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, BuildError> {
        let path_or_dot = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.descriptor, path_or_dot, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(BuildError::file(self.display(path), "opening it"))
    }
}

/// Adds everything in a folder to an archive below `prefix`, the folder itself included.
///
/// # Errors
/// If something cannot be listed, lies on another file system, or has an attribute that cannot be kept.
pub fn add(
    archive: &mut Archive,
    prefix: &str,
    folder: &Rc<Folder>,
    builder: Builder,
    others: Others,
) -> Result<(), BuildError> {
    let root = fstat(&folder.descriptor).map_err(BuildError::file(&folder.path, "reading its properties"))?;
    let mut walk = Walk {
        archive,
        prefix,
        folder,
        builder,
        others,
        device: root.st_dev,
        buffer: vec![0; ATTRIBUTE_MAX],
    };
    let found = walk.attributes(&folder.descriptor, b".", b"")?;
    walk.insert(b"", &root, Content::Directory, found)?;
    let mut unlisted = vec![Vec::new()];
    while let Some(path) = unlisted.pop() {
        walk.list(&path, &mut unlisted)?;
    }
    Ok(())
}

struct Walk<'w> {
    archive: &'w mut Archive,
    prefix: &'w str,
    folder: &'w Rc<Folder>,
    builder: Builder,
    others: Others,
    device: u64,
    /// For attributes: their names, then one value after the other.
    buffer: Vec<u8>,
}

impl Walk<'_> {
    /// Adds what is directly in the folder `path`, and notes the folders among it.
    fn list(&mut self, path: &[u8], unlisted: &mut Vec<Vec<u8>>) -> Result<(), BuildError> {
        let descriptor = self.folder.open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let failed = || BuildError::file::<Errno>(self.folder.display(path), "listing it");
        let names = Dir::read_from(&descriptor).map_err(failed())?;
        for name in names {
            let name = name.map_err(failed())?;
            let name = name.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let child = join(path, name.to_bytes());
            let stat = statat(&descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(BuildError::file(self.folder.display(&child), "reading its properties"))?;
            let Some(content) = self.content(&descriptor, name, &child, &stat)? else { continue };
            if matches!(content, Content::Directory) {
                // Only folders tell: overlayfs gives files the device of the layer they lie in.
                if stat.st_dev != self.device {
                    return Err(BuildError::MountPoint(self.folder.display(&child)));
                }
                unlisted.push(child.clone());
            }
            let found = self.attributes(&descriptor, name.to_bytes(), &child)?;
            self.insert(&child, &stat, content, found)?;
        }
        Ok(())
    }

    /// `None` for what is left out.
    fn content(
        &self,
        descriptor: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<Content>, BuildError> {
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Content::Directory,
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                // What cannot be read is told before anything is written.
                self.folder.open(path, size)?;
                Content::File { folder: Rc::clone(self.folder), path: path.to_vec(), size }
            }
            FileType::Symlink => {
                let target = readlinkat(descriptor, name, Vec::new())
                    .map_err(BuildError::file(self.folder.display(path), "reading the symbolic link"))?;
                Content::Symlink(target.into_bytes())
            }
            FileType::Socket => return Ok(None),
            kind => Content::Special {
                kind: kind.as_raw_mode(),
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            },
        }))
    }

    /// The attributes to keep of the entry `name` in an open folder. No link is followed.
    fn attributes(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Attributes, BuildError> {
        let entry = [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat();
        let failed = |step| BuildError::file::<Errno>(self.folder.display(path), step);
        let buffer = &mut self.buffer;
        let length = match llistxattr(entry.as_slice(), buffer.as_mut_slice()) {
            Ok(length) => length,
            // A file system without attributes.
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(failed("listing its extended attributes")(error)),
        };
        let names = buffer.get(..length).unwrap_or_default().to_vec();
        let mut kept = Attributes::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let found = attributes::keeps(name, self.others).map_err(|()| BuildError::Attribute {
                path: self.folder.display(path),
                name: String::from_utf8_lossy(name).into_owned(),
            })?;
            let Some(name) = found else { continue };
            let length = lgetxattr(entry.as_slice(), name, buffer.as_mut_slice())
                .map_err(failed("reading an extended attribute"))?;
            kept.insert(name.to_owned(), buffer.get(..length).unwrap_or_default().to_vec());
        }
        Ok(kept)
    }

    fn insert(
        &mut self,
        path: &[u8],
        stat: &Stat,
        content: Content,
        attributes: Attributes,
    ) -> Result<(), BuildError> {
        let (uid, gid) = self.builder.owner(stat.st_uid, stat.st_gid);
        let several_names = stat.st_nlink > 1 && matches!(content, Content::File { .. });
        let entry = Entry {
            content,
            permissions: stat.st_mode & 0o7777,
            uid,
            gid,
            link: several_names.then_some((stat.st_dev, stat.st_ino)),
            attributes,
        };
        self.archive.insert(join(self.prefix.as_bytes(), path), entry)
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => folder.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// Bytes as a path of this system.
pub(crate) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Reads a whole file that is small by its nature.
pub(crate) fn read(path: &Path, step: &'static str) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(BuildError::file::<io::Error>(path, step))
}
