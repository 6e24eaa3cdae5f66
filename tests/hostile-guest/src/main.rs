//! The hostile application of a Linux guest: it reaches devices through /dev/mem, below the kernel's drivers.
//!
//!     hostile-guest beside|instead|reckless SEED MEBIBYTES
//!     hostile-guest burn
//!
//! `beside` leaves the kernel's drivers at their devices; `instead` takes the devices away from them first; `reckless`, too, and
//! lets the devices write to any memory, the kernel's included. `burn` only uses its processor, for comparison. MEBIBYTES is the
//! guest's memory, of which the last one must be kept from the kernel (`mem=`). It goes on until the guest is ended, and says
//! every second how far it is.
#![expect(unsafe_code, reason = "registers and memory below the kernel are reached by mapping /dev/mem")]

use std::arch::asm;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use hostile_guest::{AREA, Action, Driver, Place, Width};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Registers of all devices, and a page behind them where there is none.
const WINDOWS: u64 = 0xD000_0000;
const WINDOWS_LENGTH: u64 = 0x3000;
/// Between two reports.
const REPORT: Duration = Duration::from_secs(1);
/// Actions between two looks at the clock.
const BATCH: usize = 256;
/// Where the kernel shows the transport's devices.
const TRANSPORT: &str = "/sys/bus/platform/drivers/virtio-mmio";
/// The vsock device's register that holds the guest's CID.
const CID: u64 = WINDOWS + 0x100;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["burn"] => burn(),
        [mode @ ("beside" | "instead" | "reckless"), seed, mebibytes] => {
            let area = (mebibytes.parse::<u64>()? << 20).saturating_sub(AREA);
            hammer(mode, seed.parse()?, area)
        }
        _ => Err("usage: hostile-guest beside|instead|reckless SEED MEBIBYTES, or hostile-guest burn".into()),
    }
}

/// Uses a processor and nothing else.
fn burn() -> ! {
    println!("burning");
    loop {
        std::hint::spin_loop();
    }
}

fn hammer(mode: &str, seed: u64, area: u64) -> Outcome<()> {
    let memory = OpenOptions::new().read(true).write(true).open("/dev/mem")?;
    let mappings = [Mapping::new(&memory, WINDOWS, WINDOWS_LENGTH)?, Mapping::new(&memory, area, AREA)?];
    let cid = mappings
        .iter()
        .find_map(|mapping| mapping.at(CID, 4))
        .map_or(0, |register| load(register, Width::Double));
    if mode != "beside" {
        take_devices_away()?;
    }
    let place = Place { area, reckless: mode == "reckless" };
    // Ports are the bare guest's business: here they would end the reports.
    let mut driver = Driver::new(seed, place, cid, false);
    let mut done: u64 = 0;
    let mut reported = Instant::now();
    loop {
        for action in driver.by_ref().take(BATCH) {
            carry_out(&mappings, action);
            done = done.saturating_add(1);
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            println!("{done} actions");
        }
    }
}

/// Unbinds the kernel's drivers from all virtio devices.
fn take_devices_away() -> Outcome<()> {
    for entry in fs::read_dir(TRANSPORT)? {
        let entry = entry?;
        if entry.path().join("driver").exists() {
            fs::write(Path::new(TRANSPORT).join("unbind"), entry.file_name().as_encoded_bytes())?;
        }
    }
    Ok(())
}

/// A range of guest physical memory in ours, for good.
struct Mapping {
    start: u64,
    length: u64,
    memory: NonNull<u8>,
}

impl Mapping {
    fn new(file: &File, start: u64, length: u64) -> Outcome<Self> {
        let bytes = usize::try_from(length)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let mapped = unsafe {
            mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, start)
        }
        .map_err(|error| format!("cannot map physical address {start:#x}: {error}"))?;
        Ok(Self { start, length, memory: NonNull::new(mapped.cast()).ok_or("mapped at zero")? })
    }

    /// Where `bytes` bytes at this physical address are, if all of them are here.
    fn at(&self, address: u64, bytes: u64) -> Option<NonNull<u8>> {
        let offset = address.checked_sub(self.start)?;
        offset.checked_add(bytes).filter(|end| *end <= self.length)?;
        // SAFETY: within the mapping, as was just checked.
        Some(unsafe { self.memory.add(usize::try_from(offset).ok()?) })
    }
}

/// Does it, if it is about mapped memory: what a reckless driver writes elsewhere itself is left out.
fn carry_out(mappings: &[Mapping], action: Action) {
    let at = |address, bytes| mappings.iter().find_map(|mapping| mapping.at(address, bytes));
    match action {
        Action::Store { address, width, value } => {
            if let Some(memory) = at(address, 8) {
                store(memory, width, value);
            }
        }
        Action::Load { address, width } => {
            if let Some(memory) = at(address, 8) {
                load(memory, width);
            }
        }
        Action::Copy { from, to, count } => {
            if let (Some(from), Some(to)) = (at(from, count.into()), at(to, count.into())) {
                copy(from, to, count);
            }
        }
        Action::Out { .. } | Action::OutString { .. } | Action::In { .. } => {}
    }
}

/// One instruction, aligned or not: the compiler must neither split nor join it.
fn store(at: NonNull<u8>, width: Width, value: u64) {
    let at = at.as_ptr();
    // SAFETY: eight bytes from here on are mapped, and nobody holds a reference to them.
    unsafe {
        match width {
            Width::Byte => {
                asm!("mov [{at}], {value:l}", at = in(reg) at, value = in(reg_abcd) value, options(nostack))
            }
            Width::Word => {
                asm!("mov [{at}], {value:x}", at = in(reg) at, value = in(reg) value, options(nostack))
            }
            Width::Double => {
                asm!("mov [{at}], {value:e}", at = in(reg) at, value = in(reg) value, options(nostack))
            }
            Width::Quad => {
                asm!("mov [{at}], {value:r}", at = in(reg) at, value = in(reg) value, options(nostack))
            }
        }
    }
}

/// The same for reading.
fn load(at: NonNull<u8>, width: Width) -> u64 {
    let at = at.as_ptr();
    let value: u64;
    // SAFETY: as for writing.
    unsafe {
        match width {
            Width::Byte => {
                asm!("movzx {value:e}, byte ptr [{at}]", at = in(reg) at, value = out(reg) value, options(nostack))
            }
            Width::Word => {
                asm!("movzx {value:e}, word ptr [{at}]", at = in(reg) at, value = out(reg) value, options(nostack))
            }
            Width::Double => {
                asm!("mov {value:e}, [{at}]", at = in(reg) at, value = out(reg) value, options(nostack))
            }
            Width::Quad => {
                asm!("mov {value:r}, [{at}]", at = in(reg) at, value = out(reg) value, options(nostack))
            }
        }
    }
    value
}

/// Many accesses of one byte in one instruction.
fn copy(from: NonNull<u8>, to: NonNull<u8>, count: u16) {
    // SAFETY: both ranges are mapped, and nobody holds a reference to them.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") u64::from(count) => _,
            inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_ptr() => _,
            options(nostack)
        );
    }
}
