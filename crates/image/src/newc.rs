//! Reading a ramdisk as Linux unpacks it at boot, without unpacking it.
//!
//! A ramdisk is any number of cpio archives in the "newc" format one after the other, with zero bytes between them, each as
//! it is or compressed ([`members`]). [`Reader`] goes through the entries of all of them; contents stream by, nothing is held
//! but the entry at hand. What Linux would pass over in silence (an archive that ends early, a name that is too long) is an
//! error here: whoever looks into an image wants to know. Specification:
//! Documentation/driver-api/early-userspace/buffer-format.rst of Linux; init/initramfs.c has the last word.

pub mod fuzzing;
pub mod list;
pub mod members;
mod peek;

use std::io::{self, BufRead};

use thiserror::Error;

pub(crate) use self::list::content_digest;
pub use self::members::Compression;
use self::members::Members;

/// Bytes of an entry's header: a magic and 13 numbers of 8 hexadecimal digits.
const HEADER_LEN: usize = 110;

/// Magic of an archive with and without checksums.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];

/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Most bytes of a name or of a symbolic link's target, the zero byte at its end included (`PATH_MAX`).
pub const MAX_PATH: usize = 4096;

/// Type bits of a mode (`S_IFMT` and its values, include/uapi/linux/stat.h).
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHARACTER: u32 = 0o020_000;
const TYPE_BLOCK: u32 = 0o060_000;
const TYPE_FIFO: u32 = 0o010_000;
const TYPE_SOCKET: u32 = 0o140_000;

/// What a ramdisk may ask for of whoever looks into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that compressed archives may unpack to.
    pub unpacked_bytes: u64,
    /// Most entries.
    pub entries: u64,
    /// Most bytes of all names and link targets together.
    pub name_bytes: u64,
    /// Binary logarithm of the most bytes of memory for a zstd window. Linux takes 27.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    /// Far above any image that boots: 64 GiB unpacked, a million entries, 256 MiB of names.
    fn default() -> Self {
        Self { unpacked_bytes: 64 << 30, entries: 1 << 20, name_bytes: 256 << 20, zstd_window_log: 27 }
    }
}

/// Why a ramdisk cannot be read further.
#[derive(Debug, Error)]
pub enum NewcError {
    /// The source failed, or compressed bytes are damaged.
    #[error("the ramdisk cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The ramdisk ends in the middle of something.
    #[error("the ramdisk is truncated: it ends inside {0}")]
    Truncated(&'static str),
    /// A compressed archive has no end marker.
    #[error("a compressed archive of the ramdisk has no end; Linux refuses it")]
    NoTrailer,
    /// Neither an archive nor zero bytes nor anything known that is compressed.
    #[error(
        "at byte {at} of the ramdisk is neither a cpio archive nor one that is compressed, but {found:02x?}"
    )]
    Unknown {
        /// Where.
        at: u64,
        /// The bytes there.
        found: Vec<u8>,
    },
    /// Something else than archives inside what is compressed.
    #[error(
        "a compressed archive of the ramdisk goes on with {0:02x?}, which is no archive; Linux refuses it"
    )]
    Nested(Vec<u8>),
    /// Compressed in a way that is not looked into.
    #[error("the ramdisk is compressed with {0}, which is not looked into (gzip and zstd are)")]
    Compression(&'static str),
    /// An archive does not begin at a multiple of 4 bytes.
    #[error("an archive begins at byte {0} of the ramdisk, not at a multiple of 4; Linux does not read it")]
    Unaligned(u64),
    /// An entry does not begin with the format's magic.
    #[error("the entry after {after:?} has no newc header")]
    Magic {
        /// Name of the entry before it.
        after: String,
    },
    /// A number in a header is none.
    #[error("the header after {after:?} holds something else than hexadecimal numbers")]
    Number {
        /// Name of the entry before it.
        after: String,
    },
    /// A name is empty, longer than Linux takes, or has no end.
    #[error("the name of the entry after {after:?} is empty, without end, or longer than {MAX_PATH} bytes")]
    Name {
        /// Name of the entry before it.
        after: String,
    },
    /// A symbolic link's target is longer than Linux takes.
    #[error("the target of the symbolic link {0:?} is longer than {MAX_PATH} bytes")]
    Target(String),
    /// One of [`Limits`] was passed.
    #[error("the ramdisk has more than {limit} {what}; it is not looked into further")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Type bits that stand for nothing.
    Unknown,
}

impl Kind {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Symlink => "symbolic link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::Unknown => "unknown",
        }
    }
}

/// One entry of an archive, as its header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, as it is written there: whoever unpacks it must check it.
    pub path: Vec<u8>,
    /// Which archive of the ramdisk it is in, from 0. Links and their file are in the same.
    pub archive: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change, in seconds since 1970.
    pub mtime: u32,
    /// Number of the file: files with the same are the same by several names.
    pub inode: u32,
    /// How many names it has.
    pub links: u32,
    /// Bytes of its content, or of a symbolic link's target.
    pub size: u32,
    /// Device that the file was on, with `inode` its identity.
    pub device: (u32, u32),
    /// Major and minor number, if it is a device.
    pub special: (u32, u32),
    /// A symbolic link's target.
    pub target: Option<Vec<u8>>,
}

impl Entry {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.mode & TYPE_MASK {
            TYPE_FILE => Kind::File,
            TYPE_FOLDER => Kind::Folder,
            TYPE_SYMLINK => Kind::Symlink,
            TYPE_CHARACTER => Kind::CharacterDevice,
            TYPE_BLOCK => Kind::BlockDevice,
            TYPE_FIFO => Kind::Fifo,
            TYPE_SOCKET => Kind::Socket,
            _ => Kind::Unknown,
        }
    }

    /// Permission bits, with set-user-id, set-group-id and sticky bit.
    #[must_use]
    pub const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// The path for people.
    #[must_use]
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// The entries of a ramdisk, one by one.
#[derive(Debug)]
pub struct Reader<R: BufRead> {
    members: Members<R>,
    limits: Limits,
    /// Between archives, an entry is not what is expected.
    inside: bool,
    archives: u64,
    entries: u64,
    name_bytes: u64,
    /// Bytes of the content at hand that have not been read.
    remaining: u64,
    /// For errors.
    last_name: String,
}

impl<R: BufRead> Reader<R> {
    /// Begins a ramdisk.
    pub fn new(source: R, limits: Limits) -> Self {
        Self {
            members: Members::new(source, &limits),
            limits,
            inside: false,
            archives: 0,
            entries: 0,
            name_bytes: 0,
            remaining: 0,
            last_name: String::new(),
        }
    }

    /// How the archives met so far are compressed, each way once.
    pub fn compressions(&self) -> &[Compression] {
        self.members.compressions()
    }

    /// Goes to the next entry; what was not read of the current one's content is passed over. `None` at the end.
    ///
    /// # Errors
    /// If the ramdisk cannot be read further.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, NewcError> {
        loop {
            self.members.skip(self.remaining, "a file's content")?;
            self.remaining = 0;
            if self.inside {
                self.members.align()?;
                if self.members.ended()? {
                    // Linux takes an archive without an end, but not out of a compressed one.
                    if self.members.is_compressed() {
                        return Err(NewcError::NoTrailer);
                    }
                    return Ok(None);
                }
            } else if self.members.next_archive()? {
                self.inside = true;
            } else {
                return Ok(None);
            }
            let entry = self.entry()?;
            if entry.path == TRAILER {
                self.inside = false;
                self.archives = self.archives.saturating_add(1);
                continue;
            }
            self.count(&entry)?;
            self.last_name = entry.display();
            return Ok(Some(entry));
        }
    }

    /// Reads content of the current entry until `buffer` is full or it ends, and returns how much it was.
    ///
    /// # Errors
    /// If the ramdisk ends first, or cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, NewcError> {
        let wanted = usize::try_from(self.remaining).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        self.members.read_exactly(part, "a file's content")?;
        self.remaining = self.remaining.saturating_sub(wanted as u64);
        Ok(wanted)
    }

    fn entry(&mut self) -> Result<Entry, NewcError> {
        let after = || self.last_name.clone();
        let mut header = [0; HEADER_LEN];
        self.members.read_exactly(&mut header, "a header")?;
        let (magic, numbers) = header.split_at(6);
        if !MAGICS.contains(&magic) {
            return Err(NewcError::Magic { after: after() });
        }
        let fields: Option<Vec<u32>> = numbers.chunks(8).map(number).collect();
        let fields = fields.and_then(|fields| <[u32; 13]>::try_from(fields).ok());
        let Some(
            [inode, mode, uid, gid, links, mtime, size, dev_major, dev_minor, major, minor, name_len, _],
        ) = fields
        else {
            return Err(NewcError::Number { after: after() });
        };
        let name_len = usize::try_from(name_len).unwrap_or(usize::MAX);
        if !(1..=MAX_PATH).contains(&name_len) {
            return Err(NewcError::Name { after: after() });
        }
        let mut path = vec![0; name_len];
        self.members.read_exactly(&mut path, "a name")?;
        if path.pop() != Some(0) {
            return Err(NewcError::Name { after: after() });
        }
        // Linux takes the name to its first zero byte.
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        self.members.align()?;
        let mut entry = Entry {
            path,
            archive: self.archives,
            mode,
            uid,
            gid,
            mtime,
            inode,
            links,
            size,
            device: (dev_major, dev_minor),
            special: (major, minor),
            target: None,
        };
        self.remaining = u64::from(size);
        if entry.kind() == Kind::Symlink && entry.path != TRAILER {
            entry.target = Some(self.target(&entry)?);
        }
        Ok(entry)
    }

    fn target(&mut self, entry: &Entry) -> Result<Vec<u8>, NewcError> {
        let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if length >= MAX_PATH {
            return Err(NewcError::Target(entry.display()));
        }
        let mut target = vec![0; length];
        self.members.read_exactly(&mut target, "a symbolic link")?;
        self.remaining = 0;
        target.truncate(target.iter().position(|byte| *byte == 0).unwrap_or(target.len()));
        Ok(target)
    }

    fn count(&mut self, entry: &Entry) -> Result<(), NewcError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries {
            return Err(NewcError::Limit { what: "entries", limit: self.limits.entries });
        }
        let target = entry.target.as_ref().map_or(0, Vec::len);
        self.name_bytes = self.name_bytes.saturating_add((entry.path.len().saturating_add(target)) as u64);
        if self.name_bytes > self.limits.name_bytes {
            return Err(NewcError::Limit { what: "bytes of names", limit: self.limits.name_bytes });
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
