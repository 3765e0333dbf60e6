//! What the operating system says about the memory of this process.

use std::ops::Range;

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

/// How many of these bytes are in huge pages, from `/proc/self/smaps`; none where there is no such file.
/// A mapping that is not all in them counts as far as it has huge pages, but for no more than is asked about.
pub(crate) fn in_huge_pages(pieces: &[&[u8]]) -> Option<u64> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let ranges: Vec<_> = pieces
        .iter()
        .map(|piece| piece.as_ptr().addr() as u64..(piece.as_ptr().addr() + piece.len()) as u64)
        .collect();
    Some(huge_of(&smaps, &ranges))
}

/// Bytes in huge pages of these ranges of addresses, by the text of `smaps`.
fn huge_of(smaps: &str, ranges: &[Range<u64>]) -> u64 {
    let (mut sum, mut asked) = (0, 0);
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(kib) = first.strip_suffix(':') {
            if kib == "AnonHugePages" {
                let kib = rest.trim().strip_suffix(" kB").and_then(|kib| kib.parse().ok());
                sum += kib.unwrap_or(0_u64).saturating_mul(1024).min(asked);
            }
        } else if let Some(mapping) = addresses(first) {
            let common = |range: &Range<u64>| {
                range.end.min(mapping.end).saturating_sub(range.start.max(mapping.start))
            };
            asked = ranges.iter().map(common).sum();
        }
    }
    sum
}

/// The addresses that the first line of a mapping begins with.
fn addresses(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
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
    fn huge_pages_are_those_of_the_ranges() {
        let smaps = "1000-3000 rw-p 00000000 00:00 0 \nSize: 8 kB\nAnonHugePages:         4 kB\n\
                     VmFlags: rd wr\n3000-9000 rw-p 0 00:00 0  [heap]\nAnonHugePages:    16 kB\n\
                     a000-b000 r--p 0 fe:00 77 /a: b\nAnonHugePages: 0 kB\n";
        let of = |smaps, range| huge_of(smaps, std::slice::from_ref(&range));
        assert_eq!(of(smaps, 0x1000..0x3000), 4096);
        assert_eq!(of(smaps, 0x2000..0x5000), 4096 + 8192);
        assert_eq!(huge_of(smaps, &[0x3000..0x4000, 0x5000..0x6000]), 8192);
        assert_eq!(of(smaps, 0x9000..0x1_0000), 0);
        assert_eq!(of("", 0..9), 0);
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
