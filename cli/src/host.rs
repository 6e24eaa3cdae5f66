//! What this host says about itself in /proc and /sys.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::placement::Core;

/// Where the kernel describes CPUs.
const CPU_FOLDER: &str = "/sys/devices/system/cpu";
/// No host has a CPU of this number; a list that goes further is not believed.
const MAX_CPU: u32 = 1 << 16;

/// The trimmed content of a small file, or `None` if it cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number in a small file.
pub(crate) fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    read(path)?.parse().ok()
}

/// One value of /proc/meminfo, in MiB.
pub(crate) fn meminfo_mib(key: &str) -> Option<u64> {
    value_of(&read("/proc/meminfo")?, key).map(|kib| kib / 1024)
}

fn value_of(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Huge pages of `size` bytes: free ones (not reserved by others), and all. `None` if there is no such size.
pub(crate) fn huge_pages(size: u64) -> Option<(u64, u64)> {
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size / 1024);
    let number = |name: &str| read_number(format!("{folder}/{name}"));
    let free = number("free_hugepages")?.saturating_sub(number("resv_hugepages")?);
    Some((free, number("nr_hugepages")?))
}

/// Huge page sizes that this kernel knows, in bytes, ascending.
pub(crate) fn huge_page_sizes() -> Vec<u64> {
    let mut sizes: Vec<u64> = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(kib * 1024)
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Host CPUs that this process may use.
pub(crate) fn allowed_cpus() -> BTreeSet<u32> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return BTreeSet::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .filter_map(|cpu| u32::try_from(cpu).ok())
        .collect()
}

/// The cores of `cpus`, with their memory node. A CPU that the kernel does not describe is a core of its own.
pub(crate) fn cores(cpus: &BTreeSet<u32>) -> Vec<Core> {
    let mut seen: BTreeSet<u32> = BTreeSet::new();
    let mut cores = Vec::new();
    for &cpu in cpus {
        if seen.contains(&cpu) {
            continue;
        }
        let siblings = read(format!("{CPU_FOLDER}/cpu{cpu}/topology/thread_siblings_list"))
            .and_then(|list| parse_cpu_list(&list))
            .filter(|list| list.contains(&cpu))
            .unwrap_or_else(|| BTreeSet::from([cpu]));
        let threads: Vec<u32> = siblings.intersection(cpus).copied().collect();
        seen.extend(&threads);
        cores.push(Core { holds_cpu_0: siblings.contains(&0), threads, node: node_of(cpu) });
    }
    cores
}

/// The memory node of a CPU, 0 where the kernel knows of none.
fn node_of(cpu: u32) -> u32 {
    fs::read_dir(format!("{CPU_FOLDER}/cpu{cpu}"))
        .into_iter()
        .flatten()
        .find_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .unwrap_or(0)
}

/// Reads the kernel's list format, such as "0-3,8". `None` if it is not one.
pub(crate) fn parse_cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        let list = |text| parse_cpu_list(text).map(|cpus| cpus.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(list(""), Some(vec![]));
        for text in ["2-1", "a", "1-", "0-4294967295"] {
            assert_eq!(list(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_of_meminfo_is_found_by_its_whole_name() {
        let meminfo = "MemTotal:        1000 kB\nMemAvailable:     512 kB\nHugePages_Free:    3\n";
        assert_eq!(value_of(meminfo, "MemAvailable"), Some(512));
        assert_eq!(value_of(meminfo, "HugePages_Free"), Some(3));
        assert_eq!(value_of(meminfo, "Mem"), None);
    }

    #[test]
    fn every_allowed_cpu_is_in_exactly_one_core() {
        let cpus = allowed_cpus();
        let mut threads: Vec<u32> = cores(&cpus).into_iter().flat_map(|core| core.threads).collect();
        threads.sort_unstable();
        assert_eq!(threads, cpus.into_iter().collect::<Vec<_>>());
    }
}
