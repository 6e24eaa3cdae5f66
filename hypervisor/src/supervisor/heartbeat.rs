//! How long a guest may take from its first instruction to its heartbeat.
//!
//! nitro-cli allows 90 s for each 6 GiB of image begun and 90 s for each 100 GiB of memory begun, so at least 180 s,
//! whatever the machine. Here a small image on a fast machine is given up sooner and a slow machine gets longer: what
//! the guest does at first (unpacking, setting up memory) goes as fast as this machine has just measured the image.

use std::time::Duration;

/// What a small image is given on a machine of ordinary speed.
const BASE: Duration = Duration::from_secs(60);

/// For each GiB of image or fraction of it: unpacking the ramdisks.
const PER_IMAGE_GIB: Duration = Duration::from_secs(15);

/// For each 100 GiB of memory or fraction of it, as nitro-cli does.
const PER_100_GIB: Duration = Duration::from_secs(90);

/// A machine of ordinary speed measures this many bytes in a second: SHA-384 without special instructions.
const ORDINARY_SPEED: f64 = 400e6;

/// A slower machine gets at most this many times as long: it may have been the disk that was slow.
const MAX_SLOWNESS: f64 = 10.0;

const GIB: u64 = 1 << 30;

/// How long to wait for the heartbeat of an image of `image_bytes` that was measured in `measuring`.
pub(super) fn timeout(image_bytes: u64, memory_mib: u64, measuring: Duration) -> Duration {
    let times = |duration: Duration, bytes: u64, unit: u64| {
        duration.saturating_mul(u32::try_from(bytes.div_ceil(unit)).unwrap_or(u32::MAX))
    };
    let allowed = BASE.saturating_add(times(PER_IMAGE_GIB, image_bytes, GIB)).saturating_add(times(
        PER_100_GIB,
        memory_mib.saturating_mul(1 << 20),
        100 * GIB,
    ));
    // Exact to 2^53 bytes, which is more than any image has.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let ordinary = image_bytes as f64 / ORDINARY_SPEED;
    let slowness = if ordinary > 0.0 { measuring.as_secs_f64() / ordinary } else { 1.0 };
    allowed.mul_f64(slowness.clamp(1.0, MAX_SLOWNESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_small_image_on_a_fast_machine_gets_the_least() {
        assert_eq!(timeout(40 << 20, 512, SECOND / 20), BASE + PER_IMAGE_GIB + PER_100_GIB);
        assert_eq!(timeout(0, 0, Duration::ZERO), BASE);
    }

    #[test]
    fn image_memory_and_slowness_add_time_within_a_bound() {
        let least = timeout(GIB, 1024, SECOND);
        assert!(timeout(3 * GIB, 1024, SECOND) > least);
        assert!(timeout(GIB, 200 << 10, SECOND) > least);
        assert!(timeout(GIB, 1024, 10 * SECOND) > 3 * least);
        assert!(timeout(GIB, 1024, 10_000 * SECOND) <= 11 * least);
        assert!(timeout(u64::MAX, u64::MAX, 10_000 * SECOND) > least);
    }
}
