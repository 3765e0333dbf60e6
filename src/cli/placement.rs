//! Choosing where weights live.

use std::io::Read as _;
use std::path::Path;

use bytesize::ByteSize;
use clap::ValueEnum;
use polychord::api::{Plan, Policy, Source};
use polychord::model::{Placement, Split};

use super::Failure;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlacementArgs {
    /// Which guests hold which layers; changes speed and memory, never a token
    #[arg(long, value_enum, default_value_t)]
    placement: Name,

    /// Guests of sharded32, each with a memory of its own; by default as few as will do
    #[arg(long, value_name = "N")]
    memories: Option<usize>,

    /// Bytes of weights in memory at a time, with paged (such as 6GiB); by default three
    /// quarters of the free memory
    #[arg(long, value_name = "SIZE")]
    resident: Option<ByteSize>,

    /// Which layers stay, with paged
    #[arg(long, value_enum, default_value_t)]
    paging: Paging,

    /// How weights and cache are cut into memories
    #[arg(long, value_enum, default_value_t)]
    split: Cut,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Name {
    /// By size and free memory
    #[default]
    Auto,
    /// One 32-bit memory
    Resident32,
    /// Several guests, each with a run of the layers
    Sharded32,
    /// Several 32-bit memories of one guest, and one for the cache
    Multi32,
    /// One 64-bit memory, where the engine has them; slower
    Native64,
    /// Layers take turns in a window
    Paged,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Paging {
    /// The first layers stay, the rest stream through
    #[default]
    Pinned,
    /// The layers that were used last
    Lru,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Cut {
    /// One memory for all layers of a guest
    #[default]
    Layer,
    /// A memory for each kind of tensor and one for the cache, in one guest
    Kind,
    /// One memory for all layers of a guest, and one for its cache
    CacheApart,
}

impl PlacementArgs {
    /// How weights and cache are cut into memories.
    pub(crate) const fn split(&self) -> Split {
        match self.split {
            Cut::Layer => Split::ByLayer,
            Cut::Kind => Split::ByKind,
            Cut::CacheApart => Split::CacheApart,
        }
    }

    /// Refuses options of another placement than the one that was chosen.
    pub(crate) fn placement(&self) -> Result<Placement, Failure> {
        let needs = |option: &str, name: &str| {
            Failure::usage(format!("{option} goes with --placement {name} only"))
        };
        if self.memories.is_some() && self.placement != Name::Sharded32 {
            return Err(needs("--memories", "sharded32"));
        }
        if self.resident.is_some() && self.placement != Name::Paged {
            return Err(needs("--resident", "paged"));
        }
        if self.paging != Paging::default() && self.placement != Name::Paged {
            return Err(needs("--paging", "paged"));
        }
        Ok(match self.placement {
            Name::Auto => Placement::Auto,
            Name::Resident32 => Placement::Resident32,
            Name::Sharded32 => Placement::Sharded32 { memories: self.memories },
            Name::Multi32 => Placement::Multi32,
            Name::Native64 => Placement::Native64,
            Name::Paged => Placement::Paged {
                resident_bytes: self.resident.map(|size| size.as_u64()),
                policy: match self.paging {
                    Paging::Pinned => Policy::Pinned,
                    Paging::Lru => Policy::Lru,
                },
            },
        })
    }
}

/// Reads a plan that `polychord plan` wrote: from a file, of which no more is read than a plan may
/// have.
pub(crate) fn read_plan(path: &Path) -> Result<Plan, Failure> {
    let name = path.display();
    let most = Plan::MAX_JSON_BYTES as u64;
    let source = Source::open(path)?;
    if source.len() > most {
        let len = source.len();
        return Err(format!("{name} has {len} bytes, and a plan has at most {most}").into());
    }
    let mut text = String::new();
    let read = source.reader().take(most).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    Plan::from_json(&text).map_err(|error| format!("cannot use {name}: {error}").into())
}
