//! Medians, and a table row that shows their spread.

use std::time::Duration;

/// Rounds of each measurement: odd, so that the median is one of them.
pub(crate) const ROUNDS: usize = 7;

/// The middle of some durations, or of some counts.
pub(crate) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Prints median, minimum and maximum in milliseconds.
pub(crate) fn row(name: &str, durations: &[Duration]) {
    let milliseconds = |duration: &Duration| duration.as_secs_f64() * 1e3;
    println!(
        "| {name} | {:.1} ms | {:.1} to {:.1} ms |",
        milliseconds(&median(durations.to_vec())),
        durations.iter().map(milliseconds).fold(f64::INFINITY, f64::min),
        durations.iter().map(milliseconds).fold(0.0, f64::max),
    );
}
