//! ELF kernels (vmlinux and its like): started at their PVH entry if a note names one (Xen, docs/misc/pvh.pandoc),
//! otherwise at the ELF entry by the rules of the 64-bit Linux boot protocol.

use linux_loader::elf::{Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use super::boot::{BootError, RamRange, to_u64};
use super::layout::{HIGH_MEMORY, MMIO_HOLE};

/// Start of an ELF file, 64 bits, little-endian.
const IDENTITY: &[u8] = b"\x7FELF\x02\x01";
/// `e_machine` of x86-64.
const EM_X86_64: u16 = 62;
/// Segment to load.
const PT_LOAD: u32 = 1;
/// Segment of notes.
const PT_NOTE: u32 = 4;
/// Program headers that a kernel may have; Linux has five.
const MAX_PROGRAM_HEADERS: u16 = 128;
/// Owner of the note that names the PVH entry.
const XEN: &[u8] = b"Xen\0";
/// XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;
/// Names and contents of notes are padded to this.
const NOTE_ALIGNMENT: u64 = 4;

/// Where an ELF kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElfEntry {
    /// 64-bit mode, zero page in RSI.
    Linux64(u64),
    /// 32-bit protected mode, start information in EBX.
    Pvh(u32),
}

/// One checked segment.
#[derive(Debug, Clone, Copy)]
struct Segment {
    file_offset: u64,
    file_length: u64,
    memory: RamRange,
}

/// What matters of a checked ELF kernel.
#[derive(Debug)]
pub(super) struct Elf {
    /// Ascending by address, not overlapping, at least one.
    segments: Vec<Segment>,
    footprint: RamRange,
    entry: ElfEntry,
}

impl Elf {
    /// Whether this claims to be a 64-bit ELF file.
    pub(super) fn recognise(bytes: &[u8]) -> bool {
        bytes.starts_with(IDENTITY)
    }

    /// Checks everything that loading relies on.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BootError> {
        let header: Elf64_Ehdr = read(bytes, 0).ok_or(BootError::Damaged("it ends within its ELF header"))?;
        if header.e_machine != EM_X86_64 {
            return Err(BootError::NotAKernel);
        }
        let program_headers = read_program_headers(bytes, &header)?;
        let mut segments = Vec::new();
        let mut pvh_entry = None;
        for program_header in &program_headers {
            match program_header.p_type {
                PT_LOAD if program_header.p_memsz > 0 => segments.push(check_segment(bytes, program_header)?),
                PT_NOTE => pvh_entry = pvh_entry.or(find_pvh_entry(file_range(bytes, program_header)?)),
                _ => {}
            }
        }
        let footprint = check_overlaps(&mut segments)?;
        let entry = pvh_entry.map_or(ElfEntry::Linux64(header.e_entry), ElfEntry::Pvh);
        let elf = Self { segments, footprint, entry };
        elf.check_entry()?;
        Ok(elf)
    }

    /// Where it is entered.
    pub(super) const fn entry(&self) -> ElfEntry {
        self.entry
    }

    /// From the lowest segment's start to the highest one's end.
    pub(super) const fn footprint(&self) -> RamRange {
        self.footprint
    }

    /// Copies the segments; what a segment has beyond its bytes in the file is fresh memory, which is zero.
    pub(super) fn load(&self, bytes: &[u8], memory: &GuestMemoryMmap) -> Result<(), BootError> {
        for segment in &self.segments {
            let contents = slice(bytes, segment.file_offset, segment.file_length)
                .ok_or(BootError::Damaged("it ends within a segment"))?;
            memory.write_slice(contents, GuestAddress(segment.memory.guest_address))?;
        }
        Ok(())
    }

    fn check_entry(&self) -> Result<(), BootError> {
        let instruction = match self.entry {
            ElfEntry::Linux64(instruction) => instruction,
            ElfEntry::Pvh(instruction) => instruction.into(),
        };
        if self.segments.iter().any(|segment| segment.memory.contains(instruction, 1)) {
            Ok(())
        } else {
            Err(BootError::Damaged("its entry lies in none of its segments"))
        }
    }
}

fn read_program_headers(bytes: &[u8], header: &Elf64_Ehdr) -> Result<Vec<Elf64_Phdr>, BootError> {
    if header.e_phnum > MAX_PROGRAM_HEADERS || usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>() {
        return Err(BootError::Damaged("its program headers have an impossible size or number"));
    }
    (0..header.e_phnum)
        .map(|index| {
            let offset =
                u64::from(index).checked_mul(header.e_phentsize.into())?.checked_add(header.e_phoff)?;
            read(bytes, offset)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(BootError::Damaged("it ends within its program headers"))
}

fn check_segment(bytes: &[u8], header: &Elf64_Phdr) -> Result<Segment, BootError> {
    file_range(bytes, header)?;
    let memory = RamRange { guest_address: header.p_paddr, length: header.p_memsz };
    let space = RamRange { guest_address: HIGH_MEMORY, length: MMIO_HOLE - HIGH_MEMORY };
    if !space.contains(memory.guest_address, memory.length) {
        return Err(BootError::Damaged("a segment lies outside 1 MiB to 3 GiB"));
    }
    if header.p_filesz > header.p_memsz {
        return Err(BootError::Damaged("a segment has more bytes in the file than in memory"));
    }
    Ok(Segment { file_offset: header.p_offset, file_length: header.p_filesz, memory })
}

/// Sorts the segments and returns what they span.
fn check_overlaps(segments: &mut [Segment]) -> Result<RamRange, BootError> {
    segments.sort_by_key(|segment| segment.memory.guest_address);
    if segments.is_sorted_by(|one, next| one.memory.end() <= next.memory.guest_address)
        && let (Some(first), Some(last)) = (segments.first(), segments.last())
    {
        let start = first.memory.guest_address;
        Ok(RamRange { guest_address: start, length: last.memory.end().saturating_sub(start) })
    } else {
        Err(BootError::Damaged("its segments overlap, or there is none"))
    }
}

/// The entry that a Xen note names.
fn find_pvh_entry(notes: &[u8]) -> Option<u32> {
    let mut offset = 0;
    while let Some(note) = read::<Elf64_Nhdr>(notes, offset) {
        let name_offset = offset.checked_add(to_u64(size_of::<Elf64_Nhdr>()))?;
        let contents_offset = padded(name_offset, note.n_namesz)?;
        if note.n_type == PHYS32_ENTRY && slice(notes, name_offset, note.n_namesz.into()) == Some(XEN) {
            // Four bytes, or eight with the upper ones zero.
            return match note.n_descsz {
                4 => read(notes, contents_offset),
                8 => read::<u64>(notes, contents_offset).and_then(|entry| u32::try_from(entry).ok()),
                _ => None,
            };
        }
        offset = padded(contents_offset, note.n_descsz)?;
    }
    None
}

fn padded(offset: u64, length: u32) -> Option<u64> {
    offset.checked_add(u64::from(length).checked_next_multiple_of(NOTE_ALIGNMENT)?)
}

fn file_range<'a>(bytes: &'a [u8], header: &Elf64_Phdr) -> Result<&'a [u8], BootError> {
    slice(bytes, header.p_offset, header.p_filesz).ok_or(BootError::Damaged("it ends within a segment"))
}

fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..end)
}

fn read<T: ByteValued + Default>(bytes: &[u8], offset: u64) -> Option<T> {
    let mut value = T::default();
    let source = slice(bytes, offset, to_u64(size_of::<T>()))?;
    value.as_mut_slice().copy_from_slice(source);
    Some(value)
}
