//! What this host allows of the containment: tried, for `enclave doctor`. The rest of the trial is a process that gives up all.

use std::path::Path;

use containment::{Cgroup, Measure};

/// Tries to make a cgroup as an enclave would. Tells what is missing, if it is.
#[must_use]
pub fn cgroup(parent: Option<&Path>) -> Vec<String> {
    let name = format!("trial-{}", std::process::id());
    match Cgroup::make(parent, &name) {
        Ok(cgroup) => {
            let _nothing_was_ever_in_it = containment::remove_cgroup(cgroup.path());
            Vec::new()
        }
        Err(why) => vec![format!("{}: {why}", Measure::Cgroup)],
    }
}

/// A line for each measure: its name and `yes`, or `no` and why. `missing` is as the processes tell it. Only root's processes
/// become other users.
#[must_use]
pub fn report(missing: &[String], changes_user: bool) -> Vec<String> {
    let line = |measure: &Measure| {
        let name = measure.to_string();
        let why = missing.iter().find_map(|line| line.strip_prefix(&name)?.strip_prefix(": "));
        match why {
            Some(why) => format!("{name}: no: {why}"),
            None if *measure == Measure::User && !changes_user => {
                format!("{name}: yours, since you are not root")
            }
            None => format!("{name}: yes"),
        }
    };
    let mut lines: Vec<String> = Measure::ALL.iter().map(line).collect();
    // The process that told this has its list of system calls: without it would not have run.
    lines.push("system calls: yes".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_has_a_line() {
        let missing = ["landlock: this kernel has none".to_owned(), "cgroup: none: delegated".to_owned()];
        let lines = report(&missing, false);
        assert_eq!(lines[0], "own user: yours, since you are not root");
        assert!(lines.contains(&"namespaces: yes".to_owned()));
        assert!(lines.contains(&"landlock: no: this kernel has none".to_owned()));
        assert!(lines.contains(&"cgroup: no: none: delegated".to_owned()));
        assert_eq!(report(&[], true).iter().filter(|line| line.ends_with(": yes")).count(), lines.len());
    }
}
