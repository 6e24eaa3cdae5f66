//! Which host CPUs an enclave runs on: those that were named, or as many as were asked for.

use std::collections::BTreeSet;

use enclave_hypervisor::description::{Description, State};

use super::PlanError;
use crate::config::Config;
use crate::host;
use crate::placement::{self, Load};

/// The host CPUs to run on, one for each virtual CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// So many, chosen by [`placement`].
    Count(u32),
    /// These.
    These(Vec<u32>),
}

/// The host CPUs, in the order of the virtual CPUs.
pub(super) fn choose(cpus: &Cpus, config: &Config, others: &[Description]) -> Result<Vec<u32>, PlanError> {
    let pool = pool(config)?;
    match cpus {
        Cpus::Count(0) => Err(PlanError::NoCpus),
        Cpus::Count(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            placement::choose(&host::cores(&pool), &load(others), count)
                .ok_or(PlanError::TooManyCpus { asked: count, offered: pool.len() })
        }
        Cpus::These(named) => check_named(named, &pool).map(|()| named.clone()),
    }
}

/// The CPUs that this process may use, as far as the configuration lets enclaves have them.
fn pool(config: &Config) -> Result<BTreeSet<u32>, PlanError> {
    let mut usable = host::allowed_cpus();
    if let Some(text) = &config.cpu_pool {
        let pool = host::parse_cpu_list(text).ok_or_else(|| PlanError::Pool(text.clone()))?;
        usable.retain(|cpu| pool.contains(cpu));
    }
    Ok(usable)
}

/// What enclaves that have not ended run on.
fn load(others: &[Description]) -> Load {
    let mut load = Load::new();
    let living = others.iter().filter(|enclave| enclave.state != State::Exited);
    for cpu in living.flat_map(|enclave| &enclave.cpu_ids) {
        *load.entry(*cpu).or_default() += 1;
    }
    load
}

fn check_named(named: &[u32], pool: &BTreeSet<u32>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<u32> = named.iter().copied().filter(|cpu| !seen.insert(*cpu)).collect();
    if !twice.is_empty() {
        return Err(PlanError::SameCpuTwice(twice.into_iter().collect()));
    }
    if let Some(cpu) = seen.iter().copied().find(|cpu| !pool.contains(cpu)) {
        return Err(PlanError::CpuNotInPool { cpu, pool: pool.iter().copied().collect() });
    }
    if named.is_empty() { Err(PlanError::NoCpus) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(named: &[u32]) -> Result<(), String> {
        check_named(named, &BTreeSet::from([1, 2, 3])).map_err(|error| error.to_string())
    }

    #[test]
    fn named_cpus_are_in_the_pool_and_named_once() {
        assert_eq!(judge(&[3, 1]), Ok(()));
        assert_eq!(judge(&[3, 1, 3, 1, 2]), Err("CPU 1, 3 is named more than once".to_owned()));
        assert_eq!(judge(&[1, 0]), Err("CPU 0 is not one that enclaves may run on: 1, 2, 3".to_owned()));
        assert!(judge(&[]).is_err());
    }
}
