//! The file in memory that guest memory is made of: of a fixed size, never executable, overwritten before it is freed.
//!
//! It is a memfd, sealed in size. Whether a memfd consists of transparent huge pages is one setting for the whole host, which most
//! distributions leave off (`shmem_enabled`). Where it is off, the file lies in a file system of its own instead, mounted nowhere,
//! for which huge pages are on. It cannot be sealed: that nobody shortens it is the virtual machine process's list of system calls.
//! See memfd_create(2), tmpfs(5), and Documentation/admin-guide/mm/transhuge.rst in Linux.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals,
    fstat, fstatfs, ftruncate, memfd_create, openat, seek, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::MemoryError;

/// Bytes of an ordinary page on every architecture supported.
const ORDINARY_PAGE: u64 = 4096;

/// `f_type` of a file made of huge pages (linux/magic.h).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;

/// Bytes overwritten by one system call.
const OVERWRITE_CHUNK: usize = 1 << 20;

/// The file's name, as /proc shows it.
const NAME: &str = "enclave-memory";

/// Whether memfds consist of transparent huge pages.
const SHMEM_ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// A file in memory of a fixed size.
#[derive(Debug)]
pub struct Descriptor {
    file: File,
    bytes: u64,
    huge_page_size: Option<u64>,
}

impl Descriptor {
    /// Makes a file of `bytes` bytes, of huge pages of `huge_page_size` bytes if given. To be called while the process may mount,
    /// if it ever may: otherwise the host's setting decides about transparent huge pages.
    ///
    /// # Errors
    /// If the size is not a multiple of the page's, or the host has no such pages.
    pub fn create(bytes: u64, huge_page_size: Option<u64>) -> Result<Self, MemoryError> {
        let page = huge_page_size.unwrap_or(ORDINARY_PAGE);
        if bytes == 0 || !bytes.is_multiple_of(page) {
            return Err(MemoryError::Size { bytes, page });
        }
        if huge_page_size.is_none()
            && memfds_are_of_ordinary_pages()
            && let Ok(file) = file_with_huge_pages(bytes)
        {
            return Ok(Self { file, bytes, huge_page_size });
        }
        Self::memfd(bytes, huge_page_size)
    }

    pub(super) fn memfd(bytes: u64, huge_page_size: Option<u64>) -> Result<Self, MemoryError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge_page_flags(huge_page_size)?;
        let file = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3 does not know the flag.
            Err(Errno::INVAL) => memfd_create(NAME, flags),
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

/// Whether the host leaves transparent huge pages to each file system. (`deny` forbids them, whatever a file system says.)
fn memfds_are_of_ordinary_pages() -> bool {
    fs::read_to_string(SHMEM_ENABLED).is_ok_and(|choices| choices.contains("[never]"))
}

/// A file that gets transparent huge pages where they are asked for, and which nobody else can open: its name and its file
/// system's mount are gone.
pub(super) fn file_with_huge_pages(bytes: u64) -> rustix::io::Result<File> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let options = [("huge", "advise"), ("size", &bytes.to_string()), ("nr_inodes", "2"), ("mode", "0700")];
    for (option, value) in options {
        fsconfig_set_string(context.as_fd(), option, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let inert = MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, inert)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&mount, NAME, flags, Mode::RUSR | Mode::WUSR)?;
    unlinkat(&mount, NAME, AtFlags::empty())?;
    ftruncate(&file, bytes)?;
    Ok(file.into())
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
