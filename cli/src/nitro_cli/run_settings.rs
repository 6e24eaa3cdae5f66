//! What run-enclave is asked for: by options, or by the JSON file that --config names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::RunEnclaveArgs;
use super::codes::Code;
use super::error::{Error, Result};
use crate::launch::Cpus;
use crate::output;

/// A configuration longer than this is none.
const MAX_CONFIG_LEN: u64 = 64 * 1024;
/// Addresses that no guest can have: 1 and 2 are the protocol's, 3 is the parent's, 2^32 - 1 means any (vsock(7)).
const RESERVED_CIDS: [u64; 4] = [1, 2, 3, u32::MAX as u64];

/// The settings of one enclave, checked as far as they can be by themselves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) eif_path: PathBuf,
    pub(super) cpus: Cpus,
    pub(super) memory_mib: u64,
    pub(super) cid: Option<u32>,
    pub(super) name: Option<String>,
    pub(super) debug: bool,
    pub(super) attach_console: bool,
}

/// The file's keys. As in nitro-cli, others are ignored.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    eif_path: PathBuf,
    memory_mib: u64,
    cpu_count: Option<u32>,
    cpu_ids: Option<Vec<u32>>,
    enclave_cid: Option<u64>,
    #[serde(default)]
    debug_mode: bool,
    #[serde(default)]
    attach_console: bool,
    enclave_name: Option<String>,
}

impl Settings {
    /// # Errors
    /// E01, E02, E03, E17 or E19.
    pub(super) fn new(args: &RunEnclaveArgs) -> Result<Self> {
        match &args.config {
            Some(path) => of_file(parse(&read(path)?, path)?, args.attach_console),
            None => of_options(args),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::file(path, "Open", &error))?;
    let mut text = Vec::new();
    file.take(MAX_CONFIG_LEN + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::file(path, "Read", &error))?;
    Ok(text)
}

fn parse(text: &[u8], path: &Path) -> Result<ConfigFile> {
    let wrong = |cause: &dyn core::fmt::Display| {
        Error::new(
            Code::SERDE,
            format_args!("{} is not a configuration for run-enclave: {cause}", path.display()),
            "write a JSON object with eif_path, memory_mib (a number of MiB), cpu_count or cpu_ids, and if wanted enclave_cid, \
             debug_mode, attach_console and enclave_name",
        )
    };
    if text.len() as u64 > MAX_CONFIG_LEN {
        return Err(wrong(&format_args!("it is longer than {MAX_CONFIG_LEN} bytes")));
    }
    serde_json::from_slice(text).map_err(|error| wrong(&error))
}

fn of_file(file: ConfigFile, attach: bool) -> Result<Settings> {
    let cpus = match (file.cpu_count, file.cpu_ids) {
        (Some(count), None) => Cpus::Count(count),
        (None, Some(cpus)) => Cpus::These(cpus),
        (None, None) => {
            return Err(Error::new(
                Code::MISSING_ARGUMENT,
                "the configuration has neither cpu_count nor cpu_ids",
                "add one of the two",
            )
            .with(["cpu-count"]));
        }
        (Some(_), Some(_)) => {
            return Err(Error::new(
                Code::CONFLICTING_ARGUMENT,
                "the configuration has both cpu_count and cpu_ids",
                "take one of the two out",
            )
            .with(["cpu-count", "cpu-ids"]));
        }
    };
    let attach_console = file.attach_console || attach;
    Ok(Settings {
        eif_path: file.eif_path,
        cpus,
        memory_mib: file.memory_mib,
        cid: file.enclave_cid.map(checked_cid).transpose()?.flatten(),
        name: file.enclave_name,
        debug: file.debug_mode || attach_console,
        attach_console,
    })
}

/// clap has seen to it that what is required is there.
fn of_options(args: &RunEnclaveArgs) -> Result<Settings> {
    let cpus = match (&args.cpu_count, &args.cpu_ids) {
        (Some(count), _) => Cpus::Count(number("cpu-count", count)?),
        (None, Some(cpus)) => {
            Cpus::These(cpus.iter().map(|cpu| number("cpu-id", cpu)).collect::<Result<_>>()?)
        }
        (None, None) => return Err(missing("cpu-count")),
    };
    let cid = match &args.enclave_cid {
        Some(text) => checked_cid(number("enclave-cid", text)?)?,
        None => None,
    };
    Ok(Settings {
        eif_path: args.eif_path.clone().ok_or_else(|| missing("eif-path"))?,
        cpus,
        memory_mib: memory(args.memory.as_deref().ok_or_else(|| missing("memory"))?)?,
        cid,
        name: args.enclave_name.clone(),
        debug: args.debug_mode || args.attach_console,
        attach_console: args.attach_console,
    })
}

#[track_caller]
pub(super) fn missing(name: &str) -> Error {
    let next = format!("add --{name}");
    Error::new(Code::MISSING_ARGUMENT, format_args!("--{name} was not given"), next).with([name])
}

#[track_caller]
fn invalid(name: &str, value: &str, cause: impl core::fmt::Display, next: &str) -> Error {
    Error::new(Code::INVALID_ARGUMENT, cause, next).with([name, value])
}

/// A number that an option gives.
///
/// # Errors
/// E03.
pub(super) fn number<N: core::str::FromStr>(name: &str, text: &str) -> Result<N> {
    text.parse().map_err(|_| {
        invalid(name, text, format_args!("{text:?} is not a number that can be used"), "give a whole number")
    })
}

/// An amount of memory such as 512, 512M or 2g, in MiB.
fn memory(text: &str) -> Result<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let mib: Option<u64> = match unit {
        "" | "M" | "m" => Some(1),
        "G" | "g" => Some(1 << 10),
        "T" | "t" => Some(1 << 20),
        _ => None,
    };
    let memory = mib.and_then(|mib| digits.parse::<u64>().ok()?.checked_mul(mib));
    memory.ok_or_else(|| {
        invalid(
            "memory",
            text,
            format_args!("{text:?} is not an amount of memory"),
            "give a number of MiB, or a number with one of the units M, G and T",
        )
    })
}

/// A vsock address for a guest; `None` for a free one.
fn checked_cid(cid: u64) -> Result<Option<u32>> {
    if cid == 0 {
        output::tell("The enclave CID will be auto-generated as the provided CID is 0");
        return Ok(None);
    }
    match u32::try_from(cid) {
        Ok(usable) if !RESERVED_CIDS.contains(&cid) => Ok(Some(usable)),
        _ => Err(invalid(
            "enclave-cid",
            &cid.to_string(),
            format_args!("no guest can have the vsock address {cid}"),
            "give a number from 4 to 4294967294, or 0 for a free one",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units_of_two_to_the_tenth() {
        let read = |text| memory(text).ok();
        assert_eq!([read("512"), read("512M"), read("512m")], [Some(512); 3]);
        assert_eq!(
            (read("2G"), read("2g"), read("1T"), read("0")),
            (Some(2048), Some(2048), Some(1 << 20), Some(0))
        );
        assert_eq!(read("17592186044415T"), Some(u64::MAX - (1 << 20) + 1));
        for text in ["", "M", "256_mb", "1K", "-1", "1.5G", "17592186044416T", "18446744073709551616", "٣"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_of_others_are_refused() {
        let judge = |cid| checked_cid(cid).ok();
        assert_eq!(
            (judge(0), judge(4), judge(0xffff_fffe)),
            (Some(None), Some(Some(4)), Some(Some(0xffff_fffe)))
        );
        for cid in [1, 2, 3, 0xffff_ffff, 1 << 32, u64::MAX] {
            assert_eq!(judge(cid), None, "{cid}");
        }
    }
}
