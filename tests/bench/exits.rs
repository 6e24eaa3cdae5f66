//! How often the guest left for KVM, and why: the files under /sys/kernel/debug/kvm, which sum up over all living virtual machines.
//! Counts do not depend on how fast the machine is.

use std::fs;

use crate::statistics::median;

/// The counters shown, and what they count (Linux, `arch/x86/kvm/x86.c`, `kvm_vcpu_stats_desc`).
const COUNTERS: [(&str, &str); 6] = [
    ("exits", "exits, all"),
    ("pf_fixed", "pages of guest memory mapped on demand"),
    ("io_exits", "port accesses"),
    ("mmio_exits", "device registers"),
    ("irq_exits", "host interrupts"),
    ("halt_exits", "idle"),
];

/// The values of all counters at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exits([u64; COUNTERS.len()]);

impl Exits {
    /// Now; `None` where debugfs is not mounted or this user may not read it.
    pub(crate) fn now() -> Option<Self> {
        let mut values = [0; COUNTERS.len()];
        for (value, (name, _)) in values.iter_mut().zip(COUNTERS) {
            let text = fs::read_to_string(format!("/sys/kernel/debug/kvm/{name}")).ok()?;
            *value = text.trim().parse().ok()?;
        }
        Some(Self(values))
    }

    /// What has been counted since then, while the machines that lived then still do.
    pub(crate) fn since(self) -> Option<Self> {
        let mut values = Self::now()?.0;
        for (value, before) in values.iter_mut().zip(self.0) {
            *value = value.saturating_sub(before);
        }
        Some(Self(values))
    }
}

/// Prints the medians of several series side by side.
pub(crate) fn table(series: &[(&str, &[Exits])]) {
    if series.iter().any(|(_, exits)| exits.is_empty()) {
        println!("Exits were not counted: /sys/kernel/debug/kvm cannot be read.");
        return;
    }
    let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
    println!("| exits until the heartbeat | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
    for (index, (_, meaning)) in COUNTERS.iter().enumerate() {
        let count = |(_, boots): &(_, &[Exits])| median(boots.iter().map(|exits| exits.0[index]).collect());
        let medians: Vec<String> = series.iter().map(|boots| count(boots).to_string()).collect();
        println!("| {meaning} | {} |", medians.join(" | "));
    }
}
