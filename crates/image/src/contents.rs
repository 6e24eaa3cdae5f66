//! What is inside an image's sections: the kernel's version, the command line, the files of the ramdisks.
//!
//! For whoever looks into an image. What boots one reads it otherwise: `eif::load`.

use std::io::{self, BufReader, Read};

use eif::header::SectionKind;
use eif::reader::{ReadError, Reader};

use crate::kernel::{LOOKED_AT, bzimage_version};
use crate::newc::Limits;
use crate::newc::list::{Listing, list};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// What was found in an image.
#[derive(Debug, Default)]
pub struct Contents {
    /// The kernel's version, if it says so: bzImages do.
    pub kernel_version: Option<String>,
    /// The command line, byte for byte.
    pub command_line: Vec<u8>,
    /// The ramdisks in file order, as far as each can be read.
    pub ramdisks: Vec<Listing>,
}

/// Looks at kernel and command line of an image of `length` bytes, and no further.
///
/// # Errors
/// If the image cannot be read.
pub fn boot(source: impl Read, length: u64) -> Result<Contents, ReadError> {
    read(source, length, None)
}

/// Looks at everything in an image of `length` bytes. Ramdisks may not ask for more than `limits`, each for itself.
///
/// # Errors
/// If the image cannot be read. A ramdisk that cannot be is no error: its listing says so.
pub fn all(source: impl Read, length: u64, limits: Limits) -> Result<Contents, ReadError> {
    read(source, length, Some(limits))
}

fn read(source: impl Read, length: u64, limits: Option<Limits>) -> Result<Contents, ReadError> {
    let mut reader = Reader::new(source, length)?;
    let mut contents = Contents::default();
    let (mut kernel, mut command_line) = (false, false);
    while limits.is_some() || !(kernel && command_line) {
        let Some(section) = reader.next_section()? else { break };
        match (section.kind, limits) {
            (SectionKind::Kernel, _) => {
                let mut start = Vec::new();
                section_data(&mut reader).take(LOOKED_AT).read_to_end(&mut start).map_err(ReadError::Io)?;
                contents.kernel_version = bzimage_version(&start);
                kernel = true;
            }
            (SectionKind::Cmdline, _) => {
                // At most 64 KiB by the rules of the format.
                let data = &mut contents.command_line;
                section_data(&mut reader).read_to_end(data).map_err(ReadError::Io)?;
                command_line = true;
            }
            (SectionKind::Ramdisk, Some(limits)) => {
                let data = BufReader::with_capacity(CHUNK, section_data(&mut reader));
                contents.ramdisks.push(list(data, limits));
            }
            _ => {}
        }
    }
    Ok(contents)
}

/// The data of the section that a reader is at.
pub(crate) fn section_data<R: Read>(reader: &mut Reader<R>) -> SectionData<'_, R> {
    SectionData(reader)
}

/// See [`section_data`].
#[derive(Debug)]
pub(crate) struct SectionData<'r, R>(&'r mut Reader<R>);

impl<R: Read> Read for SectionData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(io::Error::other)
    }
}
