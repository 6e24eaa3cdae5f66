//! Which host CPUs an enclave's virtual CPUs run on.
//!
//! One host CPU for each virtual CPU. Whole cores first: the threads of a core share caches and execution units,
//! so two enclaves on one core could watch each other. CPU 0, which serves the host's own interrupts, is the last
//! choice. Cores that fewer enclaves use come first, and one memory node, the least busy, is preferred to
//! several.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One physical core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Core {
    /// Its CPUs that may be used, ascending.
    pub(crate) threads: Vec<u32>,
    /// CPU 0 is one of its threads, usable or not.
    pub(crate) holds_cpu_0: bool,
    /// Its memory node.
    pub(crate) node: u32,
}

/// How many enclaves' virtual CPUs already run on each host CPU.
pub(crate) type Load = BTreeMap<u32, usize>;

/// Chooses `count` host CPUs, in the order of the virtual CPUs. `None` if there are not that many.
pub(crate) fn choose(cores: &[Core], load: &Load, count: usize) -> Option<Vec<u32>> {
    let everything: Vec<&Core> = cores.iter().collect();
    let nodes: BTreeSet<u32> = cores.iter().map(|core| core.node).collect();
    let of_one_node = nodes
        .into_iter()
        .filter_map(|node| {
            let of_node: Vec<&Core> = cores.iter().filter(|core| core.node == node).collect();
            let busy: usize = of_node.iter().map(|core| load_of(core, load)).sum();
            Some((busy, take(of_node, load, count)?))
        })
        .min_by_key(|(busy, cpus)| (burden(cpus, cores, load), *busy))
        .map(|(_, cpus)| cpus);
    // A node that has room is worth it only while its CPUs are no busier than those found anywhere.
    let anywhere = take(everything, load, count)?;
    match of_one_node {
        Some(cpus) if burden(&cpus, cores, load).0 <= burden(&anywhere, cores, load).0 => Some(cpus),
        _ => Some(anywhere),
    }
}

/// What speaks against a choice: enclaves that share its CPUs, then use of CPU 0's core.
fn burden(cpus: &[u32], cores: &[Core], load: &Load) -> (usize, bool) {
    let shared = cpus.iter().filter_map(|cpu| load.get(cpu)).sum();
    let first =
        cores.iter().any(|core| core.holds_cpu_0 && core.threads.iter().any(|cpu| cpus.contains(cpu)));
    (shared, first)
}

fn take(mut cores: Vec<&Core>, load: &Load, count: usize) -> Option<Vec<u32>> {
    cores.sort_by_key(|core| {
        (load_of(core, load), core.holds_cpu_0, Reverse(core.threads.len()), core.threads.first().copied())
    });
    let mut chosen: Vec<u32> = cores.iter().flat_map(|core| quiet_threads_first(core)).take(count).collect();
    if chosen.len() < count {
        return None;
    }
    // Ascending, as nitro-cli prints them.
    chosen.sort_unstable();
    Some(chosen)
}

/// Virtual CPUs that already run on a core.
fn load_of(core: &Core, load: &Load) -> usize {
    core.threads.iter().filter_map(|cpu| load.get(cpu)).sum()
}

/// A core's threads, CPU 0 last.
fn quiet_threads_first(core: &Core) -> Vec<u32> {
    let mut threads = core.threads.clone();
    threads.sort_by_key(|cpu| (*cpu == 0, *cpu));
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of two cores with two threads each, numbered as a real host does: core n has n and n + 4.
    fn host() -> Vec<Core> {
        (0..4).map(|n| Core { threads: vec![n, n + 4], holds_cpu_0: n == 0, node: n / 2 }).collect()
    }

    fn load(cpus: &[u32]) -> Load {
        cpus.iter().map(|cpu| (*cpu, 1)).collect()
    }

    #[test]
    fn whole_cores_on_one_node_away_from_cpu_0() {
        assert_eq!(choose(&host(), &Load::new(), 1), Some(vec![1]));
        assert_eq!(choose(&host(), &Load::new(), 2), Some(vec![1, 5]));
        assert_eq!(choose(&host(), &Load::new(), 4), Some(vec![2, 3, 6, 7]));
        assert_eq!(choose(&host(), &Load::new(), 6), Some(vec![1, 2, 3, 5, 6, 7]));
    }

    #[test]
    fn all_of_the_host_can_be_used_and_not_one_more() {
        assert_eq!(choose(&host(), &Load::new(), 8), Some((0..8).collect()));
        assert_eq!(choose(&host(), &Load::new(), 9), None);
        assert_eq!(choose(&[], &Load::new(), 1), None);
    }

    #[test]
    fn a_second_enclave_gets_other_cores() {
        assert_eq!(choose(&host(), &load(&[1, 5]), 2), Some(vec![2, 6]));
        assert_eq!(choose(&host(), &load(&[1, 5, 2, 6]), 2), Some(vec![3, 7]));
        assert_eq!(choose(&host(), &load(&[2, 3, 6, 7]), 2), Some(vec![1, 5]));
        // Half a core in use is not a free core.
        assert_eq!(choose(&host(), &load(&[1]), 2), Some(vec![2, 6]));
    }

    #[test]
    fn cpu_0_is_the_last_choice_and_still_one() {
        let two = [0, 1].map(|n| Core { threads: vec![n], holds_cpu_0: n == 0, node: 0 });
        assert_eq!(choose(&two, &Load::new(), 1), Some(vec![1]));
        assert_eq!(choose(&two, &Load::new(), 2), Some(vec![0, 1]));
        assert_eq!(choose(&two, &load(&[1]), 1), Some(vec![0]));
    }
}
