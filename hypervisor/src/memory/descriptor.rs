//! The file in memory that guest memory is made of: sealed in size, never executable, overwritten before it is freed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fstat, fstatfs, ftruncate,
    memfd_create, seek,
};
use rustix::io::Errno;

use super::MemoryError;

/// Bytes of an ordinary page on every architecture supported.
const ORDINARY_PAGE: u64 = 4096;

/// `f_type` of a file made of huge pages (linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// Bytes overwritten by one system call.
const OVERWRITE_CHUNK: usize = 1 << 20;

/// A file in memory of a fixed size.
#[derive(Debug)]
pub(super) struct Descriptor {
    file: File,
    bytes: u64,
    huge_page_size: Option<u64>,
}

impl Descriptor {
    pub(super) fn create(bytes: u64, huge_page_size: Option<u64>) -> Result<Self, MemoryError> {
        let page = huge_page_size.unwrap_or(ORDINARY_PAGE);
        if bytes == 0 || !bytes.is_multiple_of(page) {
            return Err(MemoryError::Size { bytes, page });
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge_page_flags(huge_page_size)?;
        let file = match memfd_create("enclave-memory", flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3 does not know the flag.
            Err(Errno::INVAL) => memfd_create("enclave-memory", flags),
            created => created,
        }
        .map_err(|source| match huge_page_size {
            Some(page) if matches!(source, Errno::NODEV | Errno::INVAL | Errno::NOENT) => {
                MemoryError::HugePageSize(page)
            }
            Some(page) => MemoryError::HugePages { bytes, page, source },
            None => MemoryError::System { step: "creating it", source },
        })?;
        ftruncate(&file, bytes).map_err(MemoryError::system("giving it its size"))?;
        // Nobody who gets the descriptor can make accesses to the mapping fail, or add seals of his own.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(MemoryError::system("sealing its size"))?;
        Ok(Self { file: file.into(), bytes, huge_page_size })
    }

    /// Takes a descriptor that somebody else made.
    pub(super) fn received(file: File) -> Result<Self, MemoryError> {
        let step = "reading its properties";
        let stat = fstat(&file).map_err(MemoryError::system(step))?;
        let file_system = fstatfs(&file).map_err(MemoryError::system(step))?;
        let page = u64::try_from(file_system.f_bsize).ok();
        let huge_page_size = page.filter(|_| file_system.f_type == HUGETLBFS_MAGIC);
        Ok(Self { file, bytes: u64::try_from(stat.st_size).unwrap_or(0), huge_page_size })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn is_huge(&self) -> bool {
        self.huge_page_size.is_some()
    }

    pub(super) fn page_size(&self) -> u64 {
        self.huge_page_size.unwrap_or(ORDINARY_PAGE)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Overwrites what is allocated of ordinary memory, and returns how many bytes that was. Holes stay holes: a guest
    /// that used little of much memory costs no more while it is cleaned up.
    pub(super) fn overwrite_allocated(&self) -> Result<u64, MemoryError> {
        let zeros = vec![0; OVERWRITE_CHUNK];
        let mut overwritten = 0_u64;
        let mut position = 0;
        while let Some((start, end)) = self.next_extent(position)? {
            let mut at = start;
            while at < end {
                let length =
                    usize::try_from(end.saturating_sub(at)).map_or(zeros.len(), |left| left.min(zeros.len()));
                let chunk = zeros.get(..length).unwrap_or_default();
                self.file
                    .write_all_at(chunk, at)
                    .map_err(|error| MemoryError::System { step: "overwriting it", source: errno(&error) })?;
                at = at.saturating_add(OVERWRITE_CHUNK as u64);
            }
            overwritten = overwritten.saturating_add(end.saturating_sub(start));
            position = end;
        }
        Ok(overwritten)
    }

    /// The next range that is not a hole, from `position` on.
    fn next_extent(&self, position: u64) -> Result<Option<(u64, u64)>, MemoryError> {
        let start = match seek(&self.file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(source) => return Err(MemoryError::System { step: "finding what was used of it", source }),
        };
        let end = seek(&self.file, SeekFrom::Hole(start))
            .map_err(MemoryError::system("finding what was used of it"))?;
        Ok(Some((start, end)))
    }

    /// Gives all pages back to the host.
    pub(super) fn release(&self) -> Result<(), MemoryError> {
        fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, self.bytes)
            .map_err(MemoryError::system("freeing it"))
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn huge_page_flags(size: Option<u64>) -> Result<MemfdFlags, MemoryError> {
    match size {
        None => Ok(MemfdFlags::empty()),
        Some(0x20_0000) => Ok(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB),
        Some(0x4000_0000) => Ok(MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB),
        Some(size) => Err(MemoryError::HugePageSize(size)),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
