//! The hostile application of a Linux guest: it reaches devices through /dev/mem, below the kernel's drivers.
//!
//!     hostile-guest SEED MEBIBYTES SECONDS MODE...
//!     hostile-guest burn
//!
//! Each mode lasts for so many seconds, the last one until the guest is ended. `instead` takes the devices away from the kernel's
//! drivers first; `beside` gives them back and attacks them there; `reckless` lets the devices write to any memory, the kernel's
//! included. As many threads as there are processors take part. MEBIBYTES is where memory begins that the kernel must leave alone
//! (`memmap=`), two mebibytes at least. Once a second it says how far it is. `burn` only uses its processors, for comparison.
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
/// Where the kernel shows devices that are no part of a bus that can be searched, and the transport's driver.
const DEVICES: &str = "/sys/bus/platform/devices";
const TRANSPORT: &str = "/sys/bus/platform/drivers/virtio-mmio";
/// Bytes of one device's registers, and the register that resets it.
const WINDOW: u64 = 0x1000;
const STATUS: u64 = 0x70;
/// What every report says, so that somebody can wait for it.
const WORKS: &str = "at work";
/// The vsock device's register that holds the guest's CID.
const CID: u64 = WINDOWS + 0x100;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["burn"] => burn(),
        [seed, mebibytes, seconds, modes @ ..] => {
            let attack = Attack::new(mebibytes.parse::<u64>()? << 20, Duration::from_secs(seconds.parse()?))?;
            attack.go_through(modes, seed.parse()?)
        }
        _ => Err(
            "usage: hostile-guest SEED MEBIBYTES SECONDS instead|beside|reckless..., or hostile-guest burn"
                .into(),
        ),
    }
}

/// Uses all processors and nothing else.
fn burn() -> ! {
    println!("burn: {WORKS}");
    for _ in 1..processors() {
        std::thread::spawn(spin);
    }
    spin()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

struct Attack {
    mappings: [Mapping; 2],
    area: u64,
    guest_cid: u64,
    each: Duration,
}

impl Attack {
    fn new(area: u64, each: Duration) -> Outcome<Self> {
        let memory = OpenOptions::new().read(true).write(true).open("/dev/mem")?;
        let mappings = [Mapping::new(&memory, WINDOWS, WINDOWS_LENGTH)?, Mapping::new(&memory, area, AREA)?];
        let cid = mappings.iter().find_map(|mapping| mapping.at(CID, 4)).ok_or("no register for the CID")?;
        let guest_cid = load(cid, Width::Double);
        Ok(Self { mappings, area, guest_cid, each })
    }

    fn go_through(&self, modes: &[&str], seed: u64) -> Outcome<()> {
        for (number, mode) in (1..).zip(modes) {
            // A driver that does not get its device, or does not let go of it, is no reason to stop.
            match *mode {
                "instead" => complain(drivers("unbind")),
                "beside" => {
                    for device in [WINDOWS, WINDOWS + WINDOW] {
                        let status =
                            Action::Store { address: device + STATUS, width: Width::Double, value: 0 };
                        carry_out(&self.mappings, status);
                    }
                    complain(drivers("bind"));
                }
                "reckless" => {}
                other => return Err(format!("there is no mode {other}").into()),
            }
            let ends = number < modes.len();
            // Each has a sequence of its own, and all have the same memory: they spoil each other's.
            std::thread::scope(|scope| {
                for (thread, seed) in (0..processors()).zip(seed..) {
                    scope.spawn(move || self.hammer(mode, seed, ends, thread == 0));
                }
            });
        }
        Ok(())
    }

    fn hammer(&self, mode: &str, seed: u64, ends: bool, tells: bool) {
        let place = Place { area: self.area, reckless: mode == "reckless" };
        // Ports are the bare guest's business: here they would end the reports.
        let mut driver = Driver::new(seed, place, self.guest_cid, false);
        let began = Instant::now();
        let mut reported = began;
        let mut done: u64 = 0;
        while !ends || began.elapsed() < self.each {
            for action in driver.by_ref().take(BATCH) {
                carry_out(&self.mappings, action);
                done = done.saturating_add(1);
            }
            if tells && reported.elapsed() >= REPORT {
                reported = Instant::now();
                println!("{mode}: {WORKS}, {done} actions");
            }
        }
    }
}

/// Unbinds the transport's driver from all its devices, or binds it again: the drivers behind it follow.
fn drivers(action: &str) -> Outcome<()> {
    for entry in fs::read_dir(DEVICES)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("LNRO0005") {
            complain(
                fs::write(Path::new(TRANSPORT).join(action), name.as_encoded_bytes()).map_err(Into::into),
            );
        }
    }
    Ok(())
}

fn complain(outcome: Outcome<()>) {
    if let Err(error) = outcome {
        println!("drivers: {error}");
    }
}

/// A range of guest physical memory in ours, for good.
struct Mapping {
    start: u64,
    length: u64,
    memory: NonNull<u8>,
}

// SAFETY: the memory is a device's or one that devices write to, accessed by single instructions only and never referred to: there
// is nothing that a second thread could break.
unsafe impl Sync for Mapping {}

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
