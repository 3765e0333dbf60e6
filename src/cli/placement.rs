//! Choosing where weights live.

use std::io::Read as _;
use std::path::Path;

use bytesize::ByteSize;
use polychord::api::{Plan, Policy, Source};
use polychord::model::{Placement, PlacementKind, Split};

use super::Failure;
use super::choice::choice;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlacementArgs {
    /// Which guests hold which layers; changes speed and memory, never a token
    #[arg(long, value_parser = choice::<PlacementKind>(), default_value_t)]
    placement: PlacementKind,

    /// Guests of sharded32, each with a memory of its own; by default as few as will do
    #[arg(long, value_name = "N")]
    memories: Option<usize>,

    /// First address of weights, with flat64 (such as 4GiB): addresses below it take no memory
    #[arg(long, value_name = "ADDRESS")]
    weights_from: Option<ByteSize>,

    /// Bytes of weights in memory at a time, with paged (such as 6GiB); by default three
    /// quarters of the free memory
    #[arg(long, value_name = "SIZE")]
    resident: Option<ByteSize>,

    /// Which layers stay, with paged
    #[arg(long, value_parser = choice::<Policy>(), default_value_t)]
    paging: Policy,

    /// How weights and cache are cut into memories
    #[arg(long, value_parser = choice::<Split>(), default_value_t)]
    split: Split,
}

impl PlacementArgs {
    /// The arguments that ask for the same placement in another run of this program.
    pub(crate) fn args(&self) -> Vec<String> {
        let Self { placement, memories, weights_from, resident, paging, split } = self;
        let bytes = |size: &ByteSize| format!("{}B", size.as_u64());
        let mut args = vec![
            format!("--placement={placement}"),
            format!("--paging={paging}"),
            format!("--split={split}"),
        ];
        args.extend(memories.map(|memories| format!("--memories={memories}")));
        args.extend(weights_from.as_ref().map(|from| format!("--weights-from={}", bytes(from))));
        args.extend(resident.as_ref().map(|resident| format!("--resident={}", bytes(resident))));
        args
    }

    /// Refuses options of another placement than the one that was chosen.
    pub(crate) fn placement(&self) -> Result<Placement, Failure> {
        let needs = |option: &str, name: &str| {
            Failure::usage(format!("{option} goes with --placement {name} only"))
        };
        if self.memories.is_some() && self.placement != PlacementKind::Sharded32 {
            return Err(needs("--memories", "sharded32"));
        }
        if self.resident.is_some() && self.placement != PlacementKind::Paged {
            return Err(needs("--resident", "paged"));
        }
        if self.paging != Policy::default() && self.placement != PlacementKind::Paged {
            return Err(needs("--paging", "paged"));
        }
        if self.weights_from.is_some() && self.placement != PlacementKind::Flat64 {
            return Err(needs("--weights-from", "flat64"));
        }
        let placement = match self.placement {
            PlacementKind::Flat64 => Placement::Flat64 {
                split: self.split,
                weights_from: self.weights_from.map_or(0, |address| address.as_u64()),
            },
            PlacementKind::Sharded32 => Placement::sharded32(self.memories),
            PlacementKind::Paged => Placement::Paged {
                resident_bytes: self.resident.map(|size| size.as_u64()),
                policy: self.paging,
            },
            kind => kind.into(),
        };
        placement.with_split(self.split).ok_or_else(|| {
            let (split, placement) = (self.split, self.placement);
            Failure::usage(format!("--placement {placement} cannot be split by {split}"))
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
