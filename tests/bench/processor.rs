//! Processor time: what work costs, whoever else wants the machine meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Keeps this thread, and every process that it starts, on one CPU until it is dropped.
pub(crate) struct OneCpu {
    before: CpuSet,
}

impl OneCpu {
    pub(crate) fn keep() -> Self {
        let before = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).unwrap();
        Self { before }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.before).unwrap();
    }
}

/// What this thread has spent so far.
pub(crate) fn of_this_thread() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// What the threads that a process has now have spent so far, each known to the nanosecond: the first number of
/// /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst). Those of /proc/PID/stat are rounded to 10 ms, but
/// know of threads that have ended, which these do not: between two readings none may end.
pub(crate) fn of_process(pid: u32) -> Duration {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    let nanoseconds = threads.map(|thread| -> u64 {
        let numbers = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        numbers.split_whitespace().next().unwrap().parse().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
