//! Where the sections of an image file lie, looked at before anything is started.
//!
//! Only to tell the user something early, or what nothing measures: what is booted, the supervisor reads and measures itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use eif::header::{HEADER_LEN, Header, SECTION_HEADER_LEN, SectionHeader, SectionKind};
use eif::reader::{ReadError, Reader};

/// The sections of one file, in file order.
#[derive(Debug)]
pub(crate) struct Sections(Vec<Section>);

/// One section's data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// What it holds.
    pub(crate) kind: SectionKind,
    /// Where its data begin in the file.
    offset: u64,
    /// Bytes of its data.
    pub(crate) size: u64,
}

impl Sections {
    /// Reads the header, the section table and every section's own header; the file's position stays where it is.
    ///
    /// # Errors
    /// If the file cannot be read or is not put together as an image is.
    pub(crate) fn of(image: &File) -> Result<Self, ReadError> {
        let length = image.metadata().map_err(ReadError::Io)?.len();
        let mut start = vec![0; usize::try_from(length).unwrap_or(HEADER_LEN).min(HEADER_LEN)];
        image.read_exact_at(&mut start, 0).map_err(ReadError::Io)?;
        let reader = Reader::new(start.as_slice(), length)?;
        let sections = table(reader.header())
            .map(|(index, offset, size)| section_at(image, index, offset, size))
            .collect::<Result<_, _>>()?;
        Ok(Self(sections))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Section> {
        self.0.iter()
    }

    /// The data of the first section of this kind, or `None` if there is none.
    ///
    /// # Errors
    /// If it is longer than `limit`, or cannot be read.
    pub(crate) fn read(&self, image: &File, kind: SectionKind, limit: u64) -> Option<io::Result<Vec<u8>>> {
        self.0.iter().find(|section| section.kind == kind).map(|section| section.read(image, limit))
    }
}

impl Section {
    /// Its data.
    ///
    /// # Errors
    /// If they are longer than `limit`, or cannot be read.
    pub(crate) fn read(&self, image: &File, limit: u64) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size).ok().filter(|_| self.size <= limit).ok_or_else(|| {
            let text =
                format!("the {} section has {} bytes; at most {limit} are allowed", self.kind, self.size);
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        })?;
        let mut data = vec![0; size];
        image.read_exact_at(&mut data, self.offset)?;
        Ok(data)
    }

    /// The first and the last of its data, at most so many bytes of each.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn ends(&self, image: &File, first: usize, last: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let at_most = |bytes: usize| usize::try_from(self.size).map_or(bytes, |size| size.min(bytes));
        let (mut start, mut end) = (vec![0; at_most(first)], vec![0; at_most(last)]);
        image.read_exact_at(&mut start, self.offset)?;
        let from_start = self.size.saturating_sub(end.len() as u64);
        image.read_exact_at(&mut end, self.offset.saturating_add(from_start))?;
        Ok((start, end))
    }
}

/// Place, offset and size of each entry that counts.
fn table(header: &Header) -> impl Iterator<Item = (usize, u64, u64)> {
    let entries = header.section_offsets.into_iter().zip(header.section_sizes);
    let count = header.section_count.into();
    entries.take(count).enumerate().map(|(index, (offset, size))| (index, offset, size))
}

fn section_at(image: &File, index: usize, offset: u64, size: u64) -> Result<Section, ReadError> {
    let mut bytes = [0; SECTION_HEADER_LEN];
    image.read_exact_at(&mut bytes, offset).map_err(ReadError::Io)?;
    let header = SectionHeader::decode(&bytes);
    let code = header.code;
    let kind = SectionKind::from_code(code).ok_or(ReadError::UnknownKind { index, code })?;
    if header.size != size {
        return Err(ReadError::SizeMismatch { index, table: size, header: header.size });
    }
    // The reader has found that header and data lie within the file.
    Ok(Section { kind, offset: offset.saturating_add(SECTION_HEADER_LEN as u64), size })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Seek, Write};

    use super::*;

    /// A file with these sections, one behind the other, and nothing that needs a checksum.
    pub(crate) fn image_of(sections: &[(u16, &[u8])]) -> File {
        let mut header = vec![0; HEADER_LEN];
        header[..8].copy_from_slice(b".eif\0\x04\0\0");
        header[0x1b] = u8::try_from(sections.len()).unwrap();
        let mut data = Vec::new();
        for (index, (code, content)) in sections.iter().enumerate() {
            let (offset, size) = ((HEADER_LEN + data.len()) as u64, content.len() as u64);
            header[0x1c + 8 * index..][..8].copy_from_slice(&offset.to_be_bytes());
            header[0x11c + 8 * index..][..8].copy_from_slice(&size.to_be_bytes());
            data.extend(SectionHeader { code: *code, flags: 0, size }.encode());
            data.extend(*content);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[header, data].concat()).unwrap();
        file
    }

    #[test]
    fn sections_are_read_up_to_the_limit_and_the_position_stays() {
        let mut image = image_of(&[(1, b"KERNEL"), (5, b"{}"), (3, b"")]);
        image.rewind().unwrap();
        let sections = Sections::of(&image).unwrap();
        assert_eq!(sections.iter().map(|section| section.size).collect::<Vec<_>>(), [6, 2, 0]);
        let read = |limit| sections.read(&image, SectionKind::Metadata, limit).unwrap();
        assert_eq!(read(2).unwrap(), b"{}");
        assert!(read(1).unwrap_err().to_string().contains("at most 1"));
        assert!(sections.read(&image, SectionKind::Signature, 9).is_none());
        assert_eq!(image.stream_position().unwrap(), 0);
    }

    #[test]
    fn what_is_not_put_together_as_an_image_is_refused() {
        assert!(matches!(Sections::of(&image_of(&[(6, b"K")])), Err(ReadError::UnknownKind { code: 6, .. })));
        let image = image_of(&[(1, b"KERNEL"), (3, b"R")]);
        image.write_all_at(&[7], HEADER_LEN as u64 + 11).unwrap();
        assert!(matches!(Sections::of(&image), Err(ReadError::SizeMismatch { table: 6, header: 7, .. })));
        image.set_len(HEADER_LEN as u64 - 1).unwrap();
        assert!(matches!(Sections::of(&image), Err(ReadError::Truncated { .. })));
    }
}
