//! What guest memory is made of: ordinary pages, transparent huge pages, or huge pages set aside. The host decides, so the
//! benchmark changes the host's settings while it runs, and puts them back; only root may do that.

use std::fs;

use tests::product::User;

/// Whether files in memory may have transparent huge pages (Linux, Documentation/admin-guide/mm/transhuge.rst).
const SHMEM: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
/// How many huge pages of 2 MiB are set aside.
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// Kinds of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Of 4 KiB: `shmem_enabled` is deny.
    Ordinary,
    /// Of 2 MiB as they are touched: `shmem_enabled` is never, most distributions' default.
    Transparent,
    /// Of 2 MiB, set aside beforehand: `huge_page_size_mib` in the configuration.
    Reserved,
}

/// The host's settings, put back when dropped.
#[derive(Debug)]
pub(crate) struct Settings {
    shmem: String,
    reserved: String,
}

impl Settings {
    /// The settings as they are; `None` if this user may not change them.
    pub(crate) fn take_over() -> Option<Self> {
        let all = fs::read_to_string(SHMEM).ok()?;
        let chosen = all.split(['[', ']']).nth(1)?.to_owned();
        let settings = Self { shmem: chosen, reserved: fs::read_to_string(RESERVED).ok()? };
        fs::write(SHMEM, &settings.shmem).ok()?;
        Some(settings)
    }

    /// Makes the next enclaves of `user`, with `memory` MiB each, use such pages.
    pub(crate) fn choose(&self, pages: Pages, user: &User, memory: u32) {
        let (shmem, reserved, config) = match pages {
            Pages::Ordinary => ("deny", 0, ""),
            Pages::Transparent => ("never", 0, ""),
            Pages::Reserved => ("never", memory / 2, "huge_page_size_mib = 2\n"),
        };
        fs::write(SHMEM, shmem).unwrap();
        fs::write(RESERVED, reserved.to_string()).unwrap();
        fs::write(user.path("enclave.toml"), config).unwrap();
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::write(SHMEM, &self.shmem);
        let _ = fs::write(RESERVED, &self.reserved);
    }
}
