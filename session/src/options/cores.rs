//! How many cores there are for this process.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

/// The physical cores that this process may use, at least one: no more than its affinity and its
/// control groups allow processors.
///
/// Two processors of one core share its arithmetic, of which products take all there is, and ranks
/// wait for the slowest of them.
pub(super) fn available() -> usize {
    // It knows affinity, and the quotas of both versions of control groups.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    cores_of_linux().map_or(processors, |cores| processors.min(cores)).max(1)
}

/// The physical cores that the affinity of this thread allows, as Linux tells them. None elsewhere, or
/// where it does not.
fn cores_of_linux() -> Option<usize> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    cores(allowed, |processor| {
        let folder = format!("/sys/devices/system/cpu/cpu{processor}/topology");
        fs::read_to_string(format!("{folder}/thread_siblings_list")).ok()
    })
}

/// How many cores a list of processors has (`0-3,8`), where `siblings` tells which processors are of
/// the same core.
fn cores(allowed: &str, siblings: impl Fn(usize) -> Option<String>) -> Option<usize> {
    let mut cores = BTreeSet::new();
    for range in allowed.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // A list that is longer than any machine is none.
        if last - first.min(last) > MOST {
            return None;
        }
        for processor in first..=last {
            cores.insert(siblings(processor)?);
        }
    }
    Some(cores.len())
}

const MOST: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_one_core_count_once() {
        // Processor n and n + 4 are one core, as they often are.
        let pairs = |processor: usize| {
            (processor < 8).then(|| format!("{},{}", processor % 4, processor % 4 + 4))
        };
        assert_eq!(cores("0-7\n", pairs), Some(4));
        assert_eq!(cores("\t0-3", pairs), Some(4));
        assert_eq!(cores("0,4", pairs), Some(1));
        assert_eq!(cores("1-2,5", pairs), Some(2));
        assert_eq!(cores("0-8", pairs), None);
        assert_eq!(cores("0-99999999999", pairs), None);
        assert_eq!(cores("", pairs), None);
        assert_eq!(cores("all", pairs), None);
    }

    #[test]
    fn there_is_a_core() {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=processors).contains(&available()));
    }
}
