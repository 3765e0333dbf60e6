//! What the operating system says about the memory of this process.

use serde::Serialize;

/// Page faults of this process since it began, by guests, engines and host alike.
///
/// ```
/// use polychord_runtime_api::PageFaults;
///
/// if let Some(faults) = PageFaults::now() {
///     println!("{} page faults waited for a disk", faults.major);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PageFaults {
    /// Page faults that needed no reading.
    pub minor: u64,
    /// Page faults that waited for a disk.
    pub major: u64,
}

impl PageFaults {
    /// The numbers now, from `/proc/self/stat`; none where there is no such file.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name of the program, in parentheses, may have spaces and parentheses of its own.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        // Behind the name they are: state, parent, group, session, terminal, its group, flags,
        // minor faults, those of children, major faults.
        let minor = fields.nth(7)?.parse().ok()?;
        let major = fields.nth(1)?.parse().ok()?;
        Some(Self { minor, major })
    }
}

/// How many of these bytes are in RAM for this process, by whole pages, from
/// `/proc/self/pagemap`; none where there is no such file.
#[cfg(target_os = "linux")]
pub(crate) fn resident(bytes: &[u8]) -> Option<u64> {
    use std::os::unix::fs::FileExt;

    /// Entries that are read at a time: those of 32 MiB.
    const STEP: usize = 8192;
    /// The bit of an entry that says "present".
    const PRESENT: u8 = 1 << 7;

    if bytes.is_empty() {
        return Some(0);
    }
    let pagemap = std::fs::File::open("/proc/self/pagemap").ok()?;
    let page = rustix::param::page_size();
    let first = bytes.as_ptr().addr() / page;
    let end = bytes.as_ptr().addr().checked_add(bytes.len())?.div_ceil(page);
    let mut entries = vec![0; STEP * 8];
    let (mut at, mut count) = (first, 0);
    while at < end {
        let part = &mut entries[..(end - at).min(STEP) * 8];
        pagemap.read_exact_at(part, at as u64 * 8).ok()?;
        // Entries are in the order of the machine; their highest byte has the bit.
        let entries = part.as_chunks::<8>().0.iter();
        count += entries
            .filter(|entry| u64::from_ne_bytes(**entry).to_be_bytes()[0] & PRESENT != 0)
            .count();
        at += STEP;
    }
    Some(count as u64 * page as u64)
}

/// Unknown elsewhere.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resident(_: &[u8]) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_behind_any_name() {
        let stat = "12 (a) b (c) R 1 2 3 4 5 6 700 8 900 10 11";
        assert_eq!(PageFaults::parse(stat), Some(PageFaults { minor: 700, major: 900 }));
        assert_eq!(PageFaults::parse("12 (a) R 1 2"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_are_resident_once_they_are_written() {
        let page = rustix::param::page_size();
        let mut pages = memmap2::MmapMut::map_anon(64 * page).unwrap();
        let before = PageFaults::now().unwrap();
        assert_eq!(resident(&pages), Some(0));
        for at in [3, 4, 63] {
            pages[at * page + 1] = 1;
        }
        // A kernel with huge pages may give more at once.
        let three = 3 * page as u64;
        assert!(resident(&pages).unwrap() >= three);
        assert!(PageFaults::now().unwrap().minor > before.minor);
        assert!(resident(&pages[4 * page..5 * page]).unwrap() == page as u64);
        assert_eq!(resident(&[]), Some(0));
    }
}
