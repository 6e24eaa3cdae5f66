//! The request that writes garbage to device registers, as a hostile guest's kernel would.
#![expect(unsafe_code, reason = "device registers are reached by mapping /dev/mem")]

use std::fs::OpenOptions;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::DemoError;
use crate::service::Answer;

/// A page: what /dev/mem maps, and as much as a device's registers take.
const PAGE: usize = 0x1000;

/// Writes `count` random values of 1, 2, 4 or 8 bytes to the page at `address`, by a generator that starts at `seed`.
pub(crate) fn write_randomly(address: u64, count: u32, seed: u64) -> Result<Answer, DemoError> {
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/mem")
        .map_err(DemoError::system("cannot open /dev/mem"))?;
    let page = address & !0xfff;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let mapped = unsafe {
        mmap(ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memory, page)
    }
    .map_err(DemoError::system(format!("cannot map physical address {page:#x}")))?;
    let registers = NonNull::new(mapped.cast::<u8>());
    if let Some(registers) = registers {
        let mut generator = Generator(seed);
        for _ in 0..count {
            write_once(registers, &mut generator);
        }
    }
    // SAFETY: the mapping was made above and nothing refers to it any more.
    unsafe { munmap(mapped, PAGE) }.map_err(DemoError::system("cannot unmap"))?;
    Ok(Answer::Text(count.to_string()))
}

/// One aligned write somewhere in the page; half of them among a virtio device's own registers.
fn write_once(page: NonNull<u8>, generator: &mut Generator) {
    let value = generator.next();
    let width = 1_usize << (generator.next() & 3);
    let room = if generator.next() & 1 == 0 { 0x100 } else { PAGE };
    let offset = usize::try_from(generator.next()).unwrap_or_default() % room / width * width;
    // SAFETY: `offset + width` is within the page, the address is aligned to the width, and whatever a device does
    // about it is what the request asks for.
    unsafe {
        let at = page.add(offset);
        match width {
            1 => at.write_volatile(value.to_le_bytes()[0]),
            2 => at.cast::<[u8; 2]>().cast::<u16>().write_volatile(u16::from_le_bytes(low_bytes(value))),
            4 => at.cast::<u32>().write_volatile(u32::from_le_bytes(low_bytes(value))),
            _ => at.cast::<u64>().write_volatile(value),
        }
    }
}

fn low_bytes<const N: usize>(value: u64) -> [u8; N] {
    let bytes = value.to_le_bytes();
    std::array::from_fn(|index| bytes.get(index).copied().unwrap_or_default())
}

/// splitmix64: small, and the same sequence for the same seed everywhere.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_stays_within_the_page() {
        // Guarded on both sides: a write outside would end the test.
        let mut memory = vec![0_u64; PAGE / 8];
        let page = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        let mut generator = Generator(1);
        for _ in 0..100_000 {
            write_once(page, &mut generator);
        }
        assert!(memory.iter().filter(|&&word| word != 0).count() > PAGE / 16);
    }

    #[test]
    fn a_seed_gives_the_published_sequence() {
        // First outputs of splitmix64 for seed 1234567, as its author's reference implementation prints them.
        let mut generator = Generator(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| generator.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
