//! Loads that are done at the head of an iteration, or of a part, by one choice of a segment for all of
//! a group, since a load names the memory that it is from. Where they were is what was loaded then.

use std::collections::HashMap;

use wasmparser::Operator;

use crate::access::{Access, Op};
use crate::placed::Placed;
use crate::regions::{Group, Proved};
use crate::view::Views;

/// A load that is done ahead.
pub(crate) struct Early {
    /// Positions of the operators that load this.
    pub(crate) positions: Vec<usize>,
    /// Bytes from the start of the group.
    pub(crate) offset: u64,
    /// What is loaded; for a lane, its number.
    pub(crate) op: Op,
}

/// Most loads of a group that are done ahead; others find their segment by themselves.
const MOST: usize = 48;

/// The loads of a group that can be done ahead.
pub(crate) fn loads(group: &Group, operators: &[Placed<'_>]) -> Vec<Early> {
    let mut found: HashMap<(u64, Op), usize> = HashMap::new();
    let mut loads: Vec<Early> = Vec::new();
    for (position, delta) in &group.exact {
        let Some(access) = operators.get(*position).and_then(|it| Access::of(&it.operator)) else {
            continue;
        };
        let op = access.op.lane().map_or(access.op, |(number, _)| number);
        let offset = delta + access.offset;
        let index = *found.entry((offset, op)).or_insert(loads.len());
        match loads.get_mut(index) {
            Some(load) => load.positions.push(*position),
            None if index < MOST => loads.push(Early { positions: vec![*position], offset, op }),
            None => {}
        }
    }
    loads
}

/// Whether loads of groups that are only read can be done ahead of all operators: whatever is stored is
/// stored in a group of its own, of which a check tells that it is elsewhere.
pub(crate) fn may_be_early(
    operators: &[Placed<'_>],
    groups: &[Group],
    proved: &Proved,
    views: &Views,
) -> bool {
    let Some(first) = groups.first() else { return false };
    groups.iter().all(|group| group.memory == first.memory)
        && operators.iter().enumerate().all(|(position, placed)| match &placed.operator {
            Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. } => false,
            operator => match Access::of(operator) {
                // A 32-bit memory is another one.
                Some(access) if access.op.is_store() && views.wide(access.memory).is_some() => {
                    matches!(proved.get(&position), Some(Some(_)))
                }
                _ => true,
            },
        })
}
