//! Host configuration: `/etc/enclave/enclave.toml`, or the file that `ENCLAVE_CONFIG` names.
//!
//! Every key is optional; a key that is not known is refused, so that a slip of the pen is not an option ignored.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use enclave_hypervisor::launch::UserRange;
use serde::Deserialize;

use crate::args::Level;
use crate::error::{Failure, Result};
use crate::paths;

/// A configuration longer than this is none.
const MAX_CONFIG_LEN: u64 = 64 * 1024;

/// What an operator sets for every enclave of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Virtual CPUs where `--cpus` is not given.
    pub(crate) default_cpus: Option<u32>,
    /// Memory in MiB where `--memory` is not given.
    pub(crate) default_memory_mib: Option<u64>,
    /// The only host CPUs that enclaves run on, such as "2-7,10".
    pub(crate) cpu_pool: Option<String>,
    /// Milliseconds from the first instruction to the heartbeat; without it, derived from image, memory and machine.
    pub(crate) heartbeat_timeout_ms: Option<u64>,
    /// Back guest memory by huge pages of this many MiB, 2 or 1024; without it, by ordinary memory.
    pub(crate) huge_page_size_mib: Option<u64>,
    /// How far enclaves are contained where `--containment` is not given: "on", "require" or "off".
    pub(crate) containment: Option<Level>,
    /// Users and groups for the processes of enclaves that root starts, three for each, such as "2000000000-2000029999".
    pub(crate) users: Option<String>,
    /// The cgroup in which each enclave gets one of its own.
    pub(crate) cgroup: Option<PathBuf>,
}

/// Numbers that no distribution gives to accounts, and systemd to nothing: <https://systemd.io/UIDS-GIDS/> has them as unused.
const DEFAULT_USERS: UserRange = UserRange { first: 2_000_000_000, last: 2_000_029_999 };

impl Config {
    /// Reads the configuration; without a file, every default.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub(crate) fn load() -> Result<Self> {
        let path = paths::config_file();
        match read(&path) {
            Ok(text) => parse(&text, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file("read the configuration", &path, &error)),
        }
    }

    /// Whose the processes of an enclave become that root starts.
    pub(crate) fn users(&self) -> UserRange {
        self.users.as_deref().and_then(user_range).unwrap_or(DEFAULT_USERS)
    }

    /// Bytes of the huge pages to use, if any.
    pub(crate) fn huge_page_size(&self) -> Option<u64> {
        self.huge_page_size_mib.map(|mib| mib << 20)
    }
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_CONFIG_LEN + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    let failure = |cause: String| {
        Failure::new(
            format_args!("the configuration {} is not valid: {}", path.display(), cause.trim_end()),
            "mend the file; its keys are default_cpus, default_memory_mib, cpu_pool, heartbeat_timeout_ms, \
             huge_page_size_mib, containment, users, cgroup",
        )
    };
    if text.len() as u64 > MAX_CONFIG_LEN {
        return Err(failure(format!("it is longer than {MAX_CONFIG_LEN} bytes")));
    }
    let config: Config = toml::from_str(text).map_err(|error| failure(error.to_string()))?;
    if config.default_cpus.is_some_and(|cpus| !(1..=64).contains(&cpus)) {
        return Err(failure("default_cpus is a number from 1 to 64".to_owned()));
    }
    if config.default_memory_mib == Some(0) || config.heartbeat_timeout_ms == Some(0) {
        return Err(failure("default_memory_mib and heartbeat_timeout_ms are at least 1".to_owned()));
    }
    if config.huge_page_size_mib.is_some_and(|mib| mib != 2 && mib != 1024) {
        return Err(failure("huge_page_size_mib is 2 or 1024".to_owned()));
    }
    if config.users.as_deref().is_some_and(|users| user_range(users).is_none()) {
        return Err(failure(
            "users is a range of numbers without 0, such as \"2000000000-2000029999\"".to_owned(),
        ));
    }
    if config.cgroup.as_ref().is_some_and(|path| !path.starts_with("/sys/fs/cgroup")) {
        return Err(failure("cgroup is a folder below /sys/fs/cgroup".to_owned()));
    }
    Ok(config)
}

/// A range of users such as `2000-2999`; three for each enclave.
fn user_range(text: &str) -> Option<UserRange> {
    let (first, last) = text.split_once('-')?;
    let range = UserRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
    (range.first > 0 && range.last.checked_sub(range.first)? >= 2 && range.last < u32::MAX).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config> {
        parse(text, Path::new("/etc/enclave/enclave.toml"))
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert_eq!(parsed(""), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_read() {
        let text = "default_cpus = 2\ndefault_memory_mib = 512\ncpu_pool = \"1-3\"\n\
                    heartbeat_timeout_ms = 60000\nhuge_page_size_mib = 2\ncontainment = \"require\"\n\
                    users = \"5000-5999\"\ncgroup = \"/sys/fs/cgroup/enclaves\"\n";
        let config = parsed(text).unwrap();
        assert_eq!(config.huge_page_size(), Some(2 << 20));
        assert_eq!((config.default_cpus, config.default_memory_mib), (Some(2), Some(512)));
        assert_eq!(config.users(), UserRange { first: 5000, last: 5999 });
        assert_eq!(config.containment, Some(Level::Require));
        assert_eq!(config.cgroup.as_deref(), Some(Path::new("/sys/fs/cgroup/enclaves")));
        assert_eq!((config.cpu_pool.as_deref(), config.heartbeat_timeout_ms), (Some("1-3"), Some(60_000)));
    }

    #[test]
    fn an_unknown_key_and_impossible_values_are_refused() {
        for text in [
            "hugepage_size = 2",
            "default_cpus = 0",
            "default_cpus = 65",
            "default_memory_mib = 0",
            "heartbeat_timeout_ms = 0",
            "huge_page_size_mib = 4",
            "default_cpus = \"2\"",
            "default_cpus",
            "containment = \"some\"",
            "users = \"0-10\"",
            "users = \"10-11\"",
            "users = \"5000\"",
            "users = \"5000-4294967295\"",
            "cgroup = \"/tmp\"",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
