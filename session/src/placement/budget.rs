//! How many bytes of weights are in memory at a time, if the caller does not say.

/// Default window: three quarters of `MemAvailable`, where the system tells it, split among
/// `copies`.
pub(super) fn default_budget(copies: u64) -> Option<u64> {
    budget(&std::fs::read_to_string("/proc/meminfo").ok()?, copies)
}

fn budget(meminfo: &str, copies: u64) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024) / 4 * 3 / copies.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_what_is_free() {
        let text = "MemTotal: 9 kB\nMemAvailable:   4096 kB\n";
        let mib = 1 << 20;
        assert_eq!(budget(text, 1), Some(3 * mib));
        assert_eq!(budget(text, 3), Some(mib));
        assert_eq!(budget("MemTotal: 9 kB\n", 1), None);
        assert_eq!(budget("MemAvailable: many", 1), None);
    }
}
