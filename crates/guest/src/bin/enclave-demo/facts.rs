//! Requests that tell what the guest sees, as JSON.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

use crate::error::DemoError;
use crate::service::Answer;

/// Largest CPU number that a list is believed to hold.
const MAX_CPU: u32 = 4096;
/// Most leaves of one CPUID range that are read, and most subleaves of a leaf.
const MAX_LEAVES: u32 = 0x100;
const MAX_SUBLEAVES: u32 = 8;
/// Leaves whose answer depends on the subleaf: caches, features, topologies, state components, SGX, PT, TLB.
const LEAVES_WITH_SUBLEAVES: [u32; 12] =
    [0x4, 0x7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x18, 0x1f, 0x8000_001d, 0x8000_0026];

/// Online CPUs as a list of numbers, and what /proc/cpuinfo and sysfs say of each CPU's place.
pub(crate) fn cpus() -> Result<Answer, DemoError> {
    let cpuinfo = read("/proc/cpuinfo")?;
    let processors: Vec<Value> =
        cpuinfo.split("\n\n").filter(|block| !block.trim().is_empty()).map(processor).collect();
    let online = match fs::read_to_string("/sys/devices/system/cpu/online") {
        Ok(list) => parse_list(&list),
        Err(_) => (0..).zip(&processors).map(|(number, _)| number).collect(),
    };
    Ok(json_answer(json!({"online": online, "processors": processors})))
}

fn processor(block: &str) -> Value {
    const KEPT: [&str; 8] =
        ["processor", "vendor_id", "model name", "physical id", "siblings", "core id", "cpu cores", "apicid"];
    let mut facts = Map::new();
    for (key, value) in block.lines().filter_map(|line| line.split_once(':')) {
        if KEPT.contains(&key.trim()) {
            let value = value.trim();
            let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
            facts.insert(key.trim().replace(' ', "_"), value);
        }
    }
    if let Some(number) = facts.get("processor").and_then(Value::as_u64) {
        let siblings = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
        if let Ok(list) = fs::read_to_string(siblings) {
            facts.insert("thread_siblings".to_owned(), parse_list(&list).into());
        }
    }
    Value::Object(facts)
}

/// The kernel's notation of CPU lists: `0-3,5`.
fn parse_list(list: &str) -> Vec<u32> {
    let numbers = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?.min(MAX_CPU))
    };
    list.split(',').filter_map(numbers).flatten().collect()
}

/// Clock source, and the time as the guest has it.
pub(crate) fn clock() -> Result<Answer, DemoError> {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let available = read(format!("{folder}/available_clocksource"))?;
    Ok(json_answer(json!({
        "clocksource": read(format!("{folder}/current_clocksource"))?.trim(),
        "available": available.split_whitespace().collect::<Vec<_>>(),
        "realtime_ns": nanoseconds(ClockId::Realtime),
        "monotonic_ns": nanoseconds(ClockId::Monotonic),
        "boottime_ns": nanoseconds(ClockId::Boottime),
        "ptp_kvm": Path::new("/dev/ptp0").exists(),
    })))
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// What init gave this process.
pub(crate) fn environment() -> Result<Answer, DemoError> {
    let status = read("/proc/self/status")?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let first_id = |name: &str| field(name)?.split_whitespace().next()?.parse::<u32>().ok();
    let groups: Vec<u32> = field("Groups")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|group| group.parse().ok())
        .collect();
    let variables: Map<String, Value> =
        std::env::vars_os().map(|(name, value)| (text(&name), Value::from(text(&value)))).collect();
    let folder = std::env::current_dir().map_err(DemoError::system("no working directory"))?;
    Ok(json_answer(json!({
        "arguments": std::env::args_os().map(|argument| text(&argument)).collect::<Vec<_>>(),
        "environment": variables,
        "workdir": folder,
        "uid": first_id("Uid"),
        "gid": first_id("Gid"),
        "groups": groups,
        "blocked_signals": field("SigBlk"),
        "ignored_signals": field("SigIgn"),
        "hostname": rustix::system::uname().nodename().to_string_lossy(),
        "process": std::process::id(),
        // 0 if its leader is in another PID namespace, which what wraps getsid(2) takes for impossible.
        "session": first_id("NSsid"),
    })))
}

fn text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

pub(crate) fn command_line() -> Result<Answer, DemoError> {
    Ok(Answer::Text(read("/proc/cmdline")?.trim_end_matches('\n').to_owned()))
}

/// Every CPUID leaf that the processor admits to have, as `{leaf, subleaf, eax, ebx, ecx, edx}`.
pub(crate) fn cpuid(cpu: Option<u32>) -> Result<Answer, DemoError> {
    if let Some(cpu) = cpu {
        let number = usize::try_from(cpu).unwrap_or(usize::MAX);
        let mut set = CpuSet::new();
        if number < CpuSet::MAX_CPU {
            set.set(number);
        }
        // This thread serves one request and ends, so there is nothing to restore.
        sched_setaffinity(None, &set).map_err(DemoError::system(format!("cannot run on CPU {cpu}")))?;
    }
    let mut leaves = Vec::new();
    for base in [0, 0x4000_0000, 0x8000_0000_u32] {
        let last = cpuid_leaf(base, 0).first().copied().unwrap_or(base);
        for leaf in (base..=last).take(usize::try_from(MAX_LEAVES).unwrap_or_default()) {
            let subleaves = if LEAVES_WITH_SUBLEAVES.contains(&leaf) { MAX_SUBLEAVES } else { 1 };
            for subleaf in 0..subleaves {
                let [eax, ebx, ecx, edx] = cpuid_leaf(leaf, subleaf);
                leaves.push(
                    json!({"leaf": leaf, "subleaf": subleaf, "eax": eax, "ebx": ebx, "ecx": ecx, "edx": edx}),
                );
            }
        }
    }
    Ok(json_answer(Value::Array(leaves)))
}

#[cfg(target_arch = "x86_64")]
fn cpuid_leaf(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Other processors have no such instruction: a single leaf of zeros.
#[cfg(not(target_arch = "x86_64"))]
fn cpuid_leaf(_leaf: u32, _subleaf: u32) -> [u32; 4] {
    [0; 4]
}

fn read(path: impl AsRef<Path>) -> Result<String, DemoError> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(DemoError::system(format!("cannot read {}", path.display())))
}

fn json_answer(value: Value) -> Answer {
    Answer::Text(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_bounded() {
        assert_eq!(parse_list("0\n"), [0]);
        assert_eq!(parse_list("0-3,5,7-8\n"), [0, 1, 2, 3, 5, 7, 8]);
        assert_eq!(parse_list("\n"), [0; 0]);
        assert_eq!(parse_list("3-1,x,-"), [0; 0]);
        assert_eq!(parse_list("4095-4294967295"), [4095, 4096]);
    }

    #[test]
    fn a_processors_place_is_kept_and_its_flags_are_not() {
        let facts =
            processor("processor\t: 99999\nmodel name\t: A CPU : fast\nflags\t: fpu vme\ncore id\t\t: 3\n");
        assert_eq!(facts, json!({"processor": 99999, "model_name": "A CPU : fast", "core_id": 3}));
    }
}
