//! How weights come into guests: as pages of the file, or as a copy in huge pages.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::ValueEnum;
use polychord::model::{Error, Model};

use super::size;

/// How weights come into the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Map, or copy where that is known to pay
    #[default]
    Auto,
    /// Map the pages of the file, copy-on-write
    Map,
    /// Read the file
    Copy,
}

/// Opens a model's file, so that weights come into guests as asked for.
#[allow(unsafe_code, reason = "mapping is the command line's default; --load copy turns it off")]
pub(crate) fn open(path: &Path, load: Load) -> Result<Model, Error> {
    Ok(match load.without_copies() {
        Load::Copy => Model::open(path)?,
        // SAFETY: the file is a model in the cache, which is replaced by renaming and never
        // written in place, or one that the user named, who is told in the help and the README
        // not to change it meanwhile. The model lives no longer than this command.
        Load::Map | Load::Auto => unsafe { Model::open_mapped(path)? },
    })
}

/// A decision, and why.
pub(crate) struct Chosen {
    pub(crate) load: Load,
    pub(crate) reason: String,
}

/// What is going to be done with a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Whether several ranks compute, each of which would have a copy.
    pub(crate) several_ranks: bool,
    /// Whether layers come and go.
    pub(crate) paged: bool,
    /// Most tokens that are generated.
    pub(crate) tokens: usize,
}

/// What a decision follows from.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// Whether files can be mapped at all.
    maps: bool,
    /// Bytes of the model's file.
    file: u64,
    /// Memory that is free, or would be without what the system keeps of files; none if unknown.
    available: Option<u64>,
    use_of: Use,
    /// Whether programs get huge pages where they ask for them.
    huge_pages: bool,
    /// Whether the processor is of the kind on which products were measured to be faster from huge
    /// pages: see docs/performance.md.
    gains: bool,
}

/// Fewer bytes may stay in a cache.
const LEAST_BYTES: u64 = 64 << 20;
/// Copying takes about as long as two or three tokens, of which it saves a sixth.
const LEAST_TOKENS: usize = 64;

impl Load {
    /// Decides for a model, by what is going to be done with it.
    pub(crate) fn choose(self, path: Option<&Path>, use_of: Use) -> Chosen {
        if self != Self::Auto {
            return Chosen { load: self, reason: "asked for".into() };
        }
        let file = path.and_then(|path| path.metadata().ok()).map_or(0, |file| file.len());
        let (load, reason) = Facts::of(file, use_of).decide();
        Chosen { load, reason }
    }

    /// What `auto` is where a file is opened and no more is known.
    pub(crate) const fn without_copies(self) -> Self {
        match self {
            Self::Auto if cfg!(target_os = "linux") => Self::Map,
            Self::Auto => Self::Copy,
            asked => asked,
        }
    }
}

impl Facts {
    fn of(file: u64, use_of: Use) -> Self {
        // Enough for what is looked for; what follows in some of them is long on large machines.
        let text = |path| {
            let mut text = String::new();
            let read = File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
            read.map_or_else(|_| String::new(), |_| text)
        };
        Self {
            maps: cfg!(target_os = "linux"),
            file,
            available: available(&text("/proc/meminfo")),
            use_of,
            huge_pages: gives_huge_pages(&text("/sys/kernel/mm/transparent_hugepage/enabled")),
            gains: is_intel(&text("/proc/cpuinfo")),
        }
    }

    fn decide(&self) -> (Load, String) {
        let map = |reason: &str| (Load::Map, reason.to_owned());
        if !self.maps {
            return (Load::Copy, "files are not mapped on this system".into());
        }
        if !self.gains {
            return map("copies are not known to be faster on this processor");
        }
        if self.file < LEAST_BYTES {
            return map("caches may hold the weights of a token");
        }
        if self.use_of.several_ranks {
            return map("each rank would have a copy");
        }
        if self.use_of.paged {
            return map("layers that come and go would be copied each time");
        }
        if !self.huge_pages {
            return map("the system gives no huge pages, without which a copy is no faster");
        }
        if self.use_of.tokens < LEAST_TOKENS {
            return map("copying takes longer than it saves with so few tokens");
        }
        match self.available {
            Some(available) if self.file <= available / 2 => {
                (Load::Copy, "weights stream faster from huge pages, and there is room".into())
            }
            Some(available) => {
                let (file, available) = (size::bytes(self.file), size::bytes(available));
                (Load::Map, format!("{file} would not fit twice in {available} of free memory"))
            }
            None => map("it is not known how much memory is free"),
        }
    }
}

/// Bytes that `/proc/meminfo` calls available.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Whether the choice that is in brackets gives huge pages to those who ask.
fn gives_huge_pages(enabled: &str) -> bool {
    enabled.contains("[always]") || enabled.contains("[madvise]")
}

fn is_intel(cpuinfo: &str) -> bool {
    let vendor = cpuinfo.lines().find(|line| line.starts_with("vendor_id"));
    vendor.is_some_and(|line| line.ends_with("GenuineIntel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USE: Use = Use { several_ranks: false, paged: false, tokens: 1000 };
    const GAINS: Facts = Facts {
        maps: true,
        file: 100 << 20,
        available: Some(200 << 20),
        use_of: USE,
        huge_pages: true,
        gains: true,
    };

    #[test]
    fn a_copy_is_made_only_where_all_speaks_for_it() {
        assert_eq!(GAINS.decide().0, Load::Copy);
        let reasons: Vec<_> = [
            Facts { gains: false, ..GAINS },
            Facts { file: LEAST_BYTES - 1, ..GAINS },
            Facts { use_of: Use { several_ranks: true, ..USE }, ..GAINS },
            Facts { use_of: Use { paged: true, ..USE }, ..GAINS },
            Facts { huge_pages: false, ..GAINS },
            Facts { use_of: Use { tokens: LEAST_TOKENS - 1, ..USE }, ..GAINS },
            Facts { available: Some((200 << 20) - 2), ..GAINS },
            Facts { available: None, ..GAINS },
        ]
        .into_iter()
        .map(|facts| {
            let (load, reason) = facts.decide();
            assert_eq!(load, Load::Map, "{facts:?}: {reason}");
            reason
        })
        .collect();
        assert!(
            reasons.iter().all(|reason| reasons.iter().filter(|it| *it == reason).count() == 1)
        );
        assert_eq!(reasons[6], "100 MiB would not fit twice in 200 MiB of free memory");
        assert_eq!(Facts { maps: false, ..GAINS }.decide().0, Load::Copy);
    }

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   4 kB\n"), Some(4096));
        assert_eq!(available("MemAvailable: many"), None);
        assert!(gives_huge_pages("always [madvise] never\n"));
        assert!(!gives_huge_pages("always madvise [never]\n") && !gives_huge_pages(""));
        assert!(is_intel("processor\t: 0\nvendor_id\t: GenuineIntel\n"));
        assert!(!is_intel("vendor_id\t: AuthenticAMD\n") && !is_intel(""));
    }

    #[test]
    fn what_is_asked_for_is_done() {
        for load in [Load::Map, Load::Copy] {
            let chosen = load.choose(None, USE);
            assert_eq!((chosen.load, &*chosen.reason), (load, "asked for"));
            assert_eq!(load.without_copies(), load);
        }
        assert_ne!(Load::Auto.choose(None, USE).load, Load::Auto);
    }
}
