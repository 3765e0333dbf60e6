//! What decides about a placement whatever the engine is: the fewest guests that hold a model, the room in each
//! of them, and windows for layers that come and go.
//!
//! `polychord-session` and hosts in browsers choose among placements by what their engines have, and ask here.

use std::collections::BTreeMap;

use polychord_abi::PAGE;
use polychord_plan::{Error as PlanError, Guests, Inventory, Plan, Strategy};

use crate::layout::{Layout, Part};

/// How many memories a guest has beside its own, in the build that has several: see
/// `guest/src/memories.rs`.
pub const MEMORIES: usize = 9;

/// Why there are no windows of some bytes.
///
/// ```
/// use polychord_model::placing::NoWindows;
///
/// fn advice(error: &NoWindows) -> String {
///     match error {
///         NoWindows::TooSmall { least } => format!("allow {least} bytes"),
///         other => other.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoWindows {
    /// More is needed at once.
    #[error("what has to be in memory at once takes {least} bytes")]
    TooSmall {
        /// Bytes of all windows that would be enough.
        least: u64,
    },
    /// No number of bytes is enough.
    #[error("layers do not fit in any window")]
    Never,
    /// The model cannot be split like that.
    #[error(transparent)]
    Plan(PlanError),
}

/// The plan with the fewest guests of `memory_bytes` that have room for everything; if there is none, one of as
/// many guests as there are parts, which [`first_without_room`] refuses.
///
/// # Errors
///
/// The errors of [`Strategy::plan`].
///
/// ```
/// use polychord_model::placing::fewest_guests;
/// use polychord_plan::{Error, Inventory, Plan, Strategy};
///
/// fn sharded(inventory: &Inventory) -> Result<Plan, Error> {
///     fewest_guests(inventory, 1 << 32, Strategy::ByLayer)
/// }
/// ```
pub fn fewest_guests(
    inventory: &Inventory,
    memory_bytes: u64,
    of: impl Fn(Guests) -> Strategy,
) -> Result<Plan, PlanError> {
    match of(Guests::OfBytes(memory_bytes)).plan(inventory) {
        Err(PlanError::TooLarge { .. }) => {
            of(Guests::Exactly(inventory.groups.len())).plan(inventory)
        }
        plan => plan,
    }
}

/// The first guest whose weights and cache are more than a memory has: its number, and what it needs.
///
/// ```
/// use polychord_model::placing::first_without_room;
///
/// assert_eq!(first_without_room(&[(3, 1), (3, 2)], 4), Some((1, 3, 2)));
/// assert_eq!(first_without_room(&[(3, 1)], 4), None);
/// ```
#[must_use]
pub fn first_without_room(needs: &[(u64, u64)], memory_bytes: u64) -> Option<(u32, u64, u64)> {
    let mut guests = (0..).zip(needs);
    let (guest, (weights, cache)) =
        guests.find(|(_, (weights, cache))| weights.saturating_add(*cache) > memory_bytes)?;
    Some((guest, *weights, *cache))
}

/// The first window of a plan that does not hold the layers that are needed at once, and how many bytes these
/// take: those of a part, with what blocks and a tied output need beside.
///
/// ```
/// use polychord_model::layout::Layout;
/// use polychord_model::placing::first_narrow_window;
/// use polychord_plan::Plan;
///
/// fn holds(layout: &Layout, plan: &Plan) -> bool {
///     first_narrow_window(layout, plan).is_none()
/// }
/// ```
#[must_use]
pub fn first_narrow_window(layout: &Layout, plan: &Plan) -> Option<(usize, u64)> {
    let memories = plan.memories.iter().zip(plan.layers_by_memory()).enumerate();
    for (index, (memory, layers)) in memories.filter(|(_, (memory, _))| memory.paged) {
        let mut pages: BTreeMap<Part, u64> = BTreeMap::new();
        for source in layers.iter().map(|layer| &layer.source) {
            if let Some(part) = layout.part(source.id) {
                let end = (source.start % PAGE).saturating_add(source.bytes);
                *pages.entry(part).or_default() += end.div_ceil(PAGE);
            }
        }
        let needed = pages.keys().map(|part| needed_with(layout, &pages, *part)).max().unwrap_or(0);
        if needed > memory.bytes / PAGE {
            return Some((index, needed.saturating_mul(PAGE)));
        }
    }
    None
}

/// Pages of a part, and of what is needed together with it.
fn needed_with(layout: &Layout, pages: &BTreeMap<Part, u64>, part: Part) -> u64 {
    let of = |part| pages.get(&part).copied().unwrap_or(0);
    let beside = match part {
        Part::Block(_) => of(Part::RopeFreqs),
        Part::Expert { block, .. } => of(Part::Block(block)).saturating_add(of(Part::RopeFreqs)),
        Part::Output if layout.is_tied() => of(Part::Embedding),
        _ => 0,
    };
    of(part).saturating_add(beside)
}

/// A plan of the fewest guests whose windows, of `resident_bytes` in all, have room for what is used at once.
///
/// # Errors
///
/// [`NoWindows`], with the fewest bytes that would be enough.
///
/// ```
/// use polychord_model::layout::Layout;
/// use polychord_model::placing::{NoWindows, plan_windows};
/// use polychord_plan::{Inventory, Plan};
///
/// fn paged(layout: &Layout, inventory: &Inventory) -> Result<Plan, NoWindows> {
///     plan_windows(layout, inventory, 1 << 32, 64 << 20)
/// }
/// ```
pub fn plan_windows(
    layout: &Layout,
    inventory: &Inventory,
    memory_bytes: u64,
    resident_bytes: u64,
) -> Result<Plan, NoWindows> {
    let plan = |resident_bytes: u64| {
        let paged = |guests| Strategy::Paged { guests, resident_bytes };
        match fewest_guests(inventory, memory_bytes, paged) {
            Ok(plan) => Ok(Some(plan).filter(|plan| first_narrow_window(layout, plan).is_none())),
            // A layer that is larger than its window.
            Err(PlanError::InvalidPlan { .. }) => Ok(None),
            Err(error) => Err(NoWindows::Plan(error)),
        }
    };
    if let Some(plan) = plan(resident_bytes)? {
        return Ok(plan);
    }
    // In pages: more than nothing, and no more than all layers in pages of their own.
    let all = layout.layers.iter().map(|layer| layer.bytes / PAGE + 2);
    let (mut least, mut most) = (1, all.fold(1, u64::saturating_add));
    while least < most {
        let middle = least.midpoint(most);
        match plan(middle.saturating_mul(PAGE))? {
            Some(_) => most = middle,
            None => least = middle + 1,
        }
    }
    let least = least.saturating_mul(PAGE);
    Err(plan(least)?.map_or(NoWindows::Never, |_| NoWindows::TooSmall { least }))
}
