//! What the three processes of an enclave hold, as the kernel shows it in /proc: for whoever checks the containment.
//!
//! Some of it only root may see of processes that cannot be traced: it is told as not shown. See proc(5).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use enclave_hypervisor::description::{Description, State};
use serde::Serialize;

use crate::error::{Failure, Result};
use crate::output::{Fields, printable};

/// What is said of what this user may not see.
const NOT_SHOWN: &str = "not shown to this user";

/// Namespaces that a process has to itself, by their names in /proc/PID/ns.
const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"];

/// Lines of /proc/PID/status that tell who a process is and what it may do.
const STATUS: [&str; 12] = [
    "NSpid",
    "Uid",
    "Gid",
    "Groups",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Threads",
    "VmLck",
    "VmRSS",
];

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Process {
    /// Its role: supervisor, vm or security-module.
    pub(crate) role: String,
    #[serde(rename = "ProcessID")]
    pub(crate) process_id: u32,
    /// Lines of its status.
    pub(crate) status: BTreeMap<&'static str, String>,
    /// Mode and number of filters of each thread, by the thread's name.
    pub(crate) system_calls: BTreeMap<String, String>,
    /// For each namespace whether it is this command's or one of its own.
    pub(crate) namespaces: BTreeMap<&'static str, String>,
    /// What its root folder holds.
    pub(crate) root: String,
    pub(crate) cgroup: String,
    /// Soft and hard limit on core dumps and on files.
    pub(crate) limits: BTreeMap<&'static str, String>,
    /// What its descriptors are, in order.
    pub(crate) descriptors: Vec<String>,
}

/// The processes of an enclave.
///
/// # Errors
/// If it has ended.
pub(crate) fn of(enclave: &Description) -> Result<Vec<Process>> {
    let gone = || {
        Failure::new(
            format_args!("the enclave {} has no processes: it has ended", enclave.name),
            "look at it with `enclave describe`",
        )
    };
    if enclave.state == State::Exited {
        return Err(gone());
    }
    let supervisor = enclave.process_id;
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
    let children = children.map_err(|_| gone())?;
    let children = children.split_whitespace().filter_map(|number| number.parse().ok());
    Ok([supervisor].into_iter().chain(children).map(process).collect())
}

/// For people.
pub(crate) fn text(processes: &[Process]) -> String {
    processes.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}

fn paragraph(process: &Process) -> String {
    let mut fields = Fields::default();
    for (name, value) in &process.status {
        fields.add(*name, value);
    }
    for (thread, filters) in &process.system_calls {
        fields.add(format!("Seccomp {thread}"), filters);
    }
    for (name, whose) in &process.namespaces {
        fields.add(format!("Namespace {name}"), whose);
    }
    fields.add("Root folder", &process.root).add("Cgroup", &process.cgroup);
    for (name, value) in &process.limits {
        fields.add(*name, value);
    }
    fields.add("Descriptors", process.descriptors.join(", "));
    format!("{} (process {})\n{}", process.role, process.process_id, fields.render(2))
}

fn process(process_id: u32) -> Process {
    let folder = format!("/proc/{process_id}");
    let folder = Path::new(&folder);
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let arguments = text("cmdline");
    let status = text("status");
    Process {
        role: printable(arguments.split('\0').nth(1).unwrap_or("ended")),
        process_id,
        status: STATUS.iter().filter_map(|name| Some((*name, field(&status, name)?))).collect(),
        system_calls: system_calls(folder),
        namespaces: NAMESPACES.iter().map(|name| (*name, namespace(folder, name))).collect(),
        root: root(folder),
        cgroup: text("cgroup").lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("none").to_owned(),
        limits: limits(&text("limits")),
        descriptors: descriptors(folder),
    }
}

/// A line of a status file, its columns one space apart.
fn field(status: &str, name: &str) -> Option<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn system_calls(folder: &Path) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
    let thread = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let mode = match field(&status, "Seccomp")?.as_str() {
            "0" => "any system call".to_owned(),
            "2" => format!("{} filters", field(&status, "Seccomp_filters").unwrap_or_default()),
            other => format!("mode {other}"),
        };
        let number = task.file_name().to_string_lossy().into_owned();
        Some((format!("{number} {}", printable(&field(&status, "Name")?)), mode))
    };
    tasks.filter_map(thread).collect()
}

fn namespace(folder: &Path, name: &str) -> String {
    let link = |folder: &Path| fs::read_link(folder.join("ns").join(name));
    match (link(folder), link(Path::new("/proc/self"))) {
        (Ok(its), Ok(ours)) if its == ours => "the host's".to_owned(),
        (Ok(its), Ok(_)) => format!("its own ({})", its.display()),
        _ => NOT_SHOWN.to_owned(),
    }
}

fn root(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder.join("root/")) else { return NOT_SHOWN.to_owned() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| printable(&entry.file_name().to_string_lossy())).collect();
    names.sort_unstable();
    if names.is_empty() { "empty".to_owned() } else { names.join(", ") }
}

/// The limits that are part of the containment: soft and hard.
fn limits(text: &str) -> BTreeMap<&'static str, String> {
    let limit = |name: &'static str| {
        let values = text.lines().find_map(|line| line.strip_prefix(name))?;
        let values: Vec<&str> = values.split_whitespace().take(2).collect();
        Some((name, values.join(", ")))
    };
    ["Max core file size", "Max file size", "Max locked memory"].into_iter().filter_map(limit).collect()
}

fn descriptors(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("fd")) else { return vec![NOT_SHOWN.to_owned()] };
    let mut all: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, printable(&fs::read_link(entry.path()).ok()?.to_string_lossy())))
        })
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(number, target)| format!("{number} {target}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let found = process(std::process::id());
        assert_eq!(found.namespaces.get("mnt").map(String::as_str), Some("the host's"));
        assert!(found.status.contains_key("CapEff") && found.status.contains_key("Uid"));
        assert!(!found.system_calls.is_empty() && found.descriptors.len() > 2);
        assert!(found.limits.contains_key("Max core file size"));
    }

    #[test]
    fn columns_are_one_space_apart() {
        assert_eq!(field("Uid:\t1\t2\t3\t4\n", "Uid").as_deref(), Some("1 2 3 4"));
        assert_eq!(field("Uid:\t1\n", "Ui"), None);
    }
}
