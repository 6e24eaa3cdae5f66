//! Memory: how much, of which pages, and where else its content may go.

use super::Finding;
use crate::config::Config;
use crate::host;

/// Less than this holds no useful enclave.
const USEFUL_MIB: u64 = 256;

/// How much is there?
pub(super) fn available() -> Finding {
    const CHECK: &str = "Memory";
    const MEANING: &str =
        "an enclave's memory is taken when its guest touches it, or at once with huge pages";
    let (Some(available), Some(total)) = (host::meminfo_mib("MemAvailable"), host::meminfo_mib("MemTotal"))
    else {
        return Finding::failure(CHECK, "/proc/meminfo cannot be read", MEANING, "mount /proc");
    };
    let found = format!("{available} of {total} MiB available");
    if available < USEFUL_MIB {
        return Finding::warning(CHECK, found, "hardly an enclave fits", "end other programs or add memory");
    }
    Finding::ok(CHECK, found, MEANING)
}

/// Are huge pages reserved, if the configuration wants them?
pub(super) fn huge_pages() -> Finding {
    const CHECK: &str = "Huge pages";
    let pools: Vec<String> = host::huge_page_sizes()
        .into_iter()
        .filter_map(|size| {
            let (free, all) = host::huge_pages(size)?;
            (all > 0).then(|| format!("{free} of {all} pages of {} MiB free", size >> 20))
        })
        .collect();
    let found = if pools.is_empty() { "none reserved".to_owned() } else { pools.join(", ") };
    let wanted = Config::load().ok().and_then(|config| config.huge_page_size());
    match wanted {
        None => Finding::ok(
            CHECK,
            found,
            "used only if huge_page_size_mib is set in the configuration; they cannot be swapped out and need fewer \
             page table walks",
        ),
        Some(size) if host::huge_pages(size).is_none() => Finding::failure(
            CHECK,
            found,
            format!(
                "the configuration asks for pages of {} MiB, which this kernel does not have",
                size >> 20
            ),
            "set huge_page_size_mib to a size that the kernel has, or remove it",
        ),
        Some(size) if host::huge_pages(size).is_some_and(|(free, _)| free == 0) => Finding::failure(
            CHECK,
            found,
            format!("the configuration asks for pages of {} MiB and none is free", size >> 20),
            format!(
                "reserve some: echo N > /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages (best at boot)",
                size / 1024
            ),
        ),
        Some(_) => Finding::ok(CHECK, found, "guest memory is taken from these, as the configuration says"),
    }
}

/// Does ordinary guest memory get huge pages? (hypervisor/src/memory/descriptor.rs says where from.)
pub(super) fn shared_huge_pages() -> Finding {
    const CHECK: &str = "Huge pages in shared memory";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let Some(choice) = host::read(FILE).as_deref().and_then(chosen) else {
        return Finding::warning(
            CHECK,
            "this kernel has none",
            "guest memory consists of 4 KiB pages: slower page table walks",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE, or huge_page_size_mib in the configuration",
        );
    };
    match choice.as_str() {
        "deny" => Finding::warning(
            CHECK,
            "shmem_enabled is deny",
            "guest memory consists of 4 KiB pages: slower page table walks, and boots",
            format!("echo never > {FILE}"),
        ),
        "never" => Finding::ok(
            CHECK,
            "shmem_enabled is never",
            "guest memory gets pages of 2 MiB where it can, from a file system of its own; with ordinary users that takes the \
             namespaces that containment takes",
        ),
        _ => Finding::ok(
            CHECK,
            format!("shmem_enabled is {choice}"),
            "guest memory gets pages of 2 MiB where it can",
        ),
    }
}

/// Does anonymous memory get huge pages?
pub(super) fn transparent_huge_pages() -> Finding {
    const CHECK: &str = "Transparent huge pages";
    let choice = host::read("/sys/kernel/mm/transparent_hugepage/enabled").as_deref().and_then(chosen);
    Finding::ok(
        CHECK,
        choice.map_or_else(|| "this kernel has none".to_owned(), |choice| format!("enabled is {choice}")),
        "this setting is for ordinary memory; guest memory follows shmem_enabled above",
    )
}

/// Are equal pages merged?
pub(super) fn merging() -> Finding {
    const CHECK: &str = "Page merging (KSM)";
    let running = host::read_number("/sys/kernel/mm/ksm/run") == Some(1);
    if !running {
        return Finding::ok(CHECK, "off", "nothing is learnt from how long a write to a merged page takes");
    }
    Finding::warning(
        CHECK,
        "on",
        "guest memory is never offered for merging, but other programs on this host may learn each other's pages",
        "echo 0 > /sys/kernel/mm/ksm/run",
    )
}

/// May memory go to a disk?
pub(super) fn swap() -> Finding {
    const CHECK: &str = "Swap";
    let total = host::meminfo_mib("SwapTotal").unwrap_or(0);
    if total == 0 {
        return Finding::ok(CHECK, "none", "guest memory cannot be written to a disk");
    }
    let devices = host::read("/proc/swaps").unwrap_or_default();
    let only_ram = devices.lines().skip(1).all(|line| line.starts_with("/dev/zram"));
    let found = format!("{total} MiB");
    if only_ram {
        return Finding::ok(CHECK, format!("{found}, all of it compressed memory"), "nothing goes to a disk");
    }
    Finding::warning(
        CHECK,
        found,
        "an enclave with more memory than the limit on locked memory is not locked: its memory may be written to the \
         disk and stay there after the enclave's end",
        "swapoff -a, swap to an encrypted device, use huge pages, or raise the limit on locked memory",
    )
}

/// The chosen word of a sysfs choice, such as `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    text.split_whitespace().find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_word_is_the_one_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise".to_owned()));
        assert_eq!(chosen("never"), None);
    }
}
