//! Parts of open files: what the contents of an image are read from, without being copied first.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

/// A file that stays open, and what tells whether it was changed since.
#[derive(Debug)]
pub struct Source {
    file: File,
    name: String,
    state: State,
}

/// What changes when a file is written: size, and dates of content and of properties.
#[derive(Debug, PartialEq, Eq)]
struct State {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Source {
    /// Takes an open file as it is now; `name` is for people.
    ///
    /// # Errors
    /// If its properties cannot be read.
    pub fn new(file: File, name: impl Into<String>) -> io::Result<Rc<Self>> {
        let state = State::of(&file)?;
        Ok(Rc::new(Self { file, name: name.into(), state }))
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if nothing has been written to it since it was taken.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        State::of(&self.file).is_ok_and(|state| state == self.state)
    }
}

/// A part of a file.
#[derive(Debug, Clone)]
pub struct Extent {
    source: Rc<Source>,
    offset: u64,
    size: u64,
}

impl Extent {
    /// The whole of a file.
    #[must_use]
    pub fn whole(source: Rc<Source>) -> Self {
        let size = source.state.size;
        Self { source, offset: 0, size }
    }

    /// A part of this one; none if it would reach beyond its end.
    #[must_use]
    pub fn part(&self, offset: u64, size: u64) -> Option<Self> {
        offset.checked_add(size).filter(|end| *end <= self.size)?;
        Some(Self { source: Rc::clone(&self.source), offset: self.offset.checked_add(offset)?, size })
    }

    /// Bytes of it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The file it is a part of.
    #[must_use]
    pub const fn source(&self) -> &Rc<Source> {
        &self.source
    }

    /// Reads it from its start; several readers do not disturb each other.
    #[must_use]
    pub const fn reader(&self) -> ExtentReader<'_> {
        ExtentReader { extent: self, position: 0 }
    }
}

/// Reads an [`Extent`].
#[derive(Debug)]
pub struct ExtentReader<'e> {
    extent: &'e Extent,
    position: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.extent.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        let read =
            self.extent.source.file.read_at(buffer, self.extent.offset.saturating_add(self.position))?;
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for ExtentReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.extent.size.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn extent(content: &[u8]) -> Extent {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Extent::whole(Source::new(file, "test").unwrap())
    }

    #[test]
    fn a_part_is_read_alone_and_ends_where_it_ends() {
        let part = extent(b"0123456789").part(2, 5).unwrap().part(1, 3).unwrap();
        let mut text = String::new();
        part.reader().read_to_string(&mut text).unwrap();
        assert_eq!(text, "345");
        let mut reader = part.reader();
        reader.seek(SeekFrom::End(-1)).unwrap();
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "5");
        assert!(reader.seek(SeekFrom::Current(-100)).is_err());
    }

    #[test]
    fn no_part_reaches_beyond_the_end() {
        let whole = extent(b"0123");
        assert!(whole.part(4, 0).is_some());
        assert!(whole.part(4, 1).is_none());
        assert!(whole.part(u64::MAX, 2).is_none());
    }

    #[test]
    fn a_write_is_noticed() {
        let whole = extent(b"0123");
        assert!(whole.source().is_unchanged());
        whole.source().file.set_len(2).unwrap();
        assert!(!whole.source().is_unchanged());
    }
}
