//! What a module declares beside its exports, and how limits are divided over it.

use wasmparser::types::TypesRef;

use crate::limits::{Limits, TABLE_ELEMENTS};
use crate::{Error, Result};

/// All memories and tables of a module, exported or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// In bytes.
    pub(crate) memories: Vec<Size>,
    /// In elements.
    pub(crate) tables: Vec<Size>,
}

/// The size of a memory or a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// At the start.
    pub(crate) min: u64,
    /// The module's own limit; `u64::MAX` if it has none.
    pub(crate) max: u64,
}

impl Shape {
    pub(crate) fn read(types: TypesRef<'_>) -> Self {
        let bytes = |pages: u64| pages.saturating_mul(polychord_abi::PAGE);
        let memory = |index| {
            let ty = types.memory_at(index);
            Size { min: bytes(ty.initial), max: ty.maximum.map_or(u64::MAX, bytes) }
        };
        let table = |index| {
            let ty = types.table_at(index);
            Size { min: ty.initial, max: ty.maximum.unwrap_or(u64::MAX) }
        };
        Self {
            memories: (0..types.memory_count()).map(memory).collect(),
            tables: (0..types.table_count()).map(table).collect(),
        }
    }

    /// Most bytes of each memory, so that all together keep the total.
    pub(crate) fn memory_share(&self, limits: &Limits) -> u64 {
        share(&self.memories, limits.total()).min(limits.memory_bytes)
    }

    /// Most elements of each table, so that all together keep the total.
    pub(crate) fn table_share(&self, limits: &Limits) -> u64 {
        share(&self.tables, limits.table_elements).min(TABLE_ELEMENTS)
    }

    /// Refuses what is beyond the limits before anything has grown.
    pub(crate) fn check(&self, limits: &Limits, memory_limit: u64, limited_by: &str) -> Result<()> {
        count("memories", self.memories.len() as u64, limits.memories.into())?;
        count("tables", self.tables.len() as u64, limits.tables.into())?;
        count("elements of all tables", sum(&self.tables), limits.table_elements)?;
        count("elements of a table", largest(&self.tables), self.table_share(limits))?;
        let asked = largest(&self.memories);
        if asked > memory_limit {
            let what = "the guest's initial memory".into();
            let share = match self.memories.len() {
                0 | 1 => String::new(),
                memories => format!(
                    " (one of {memories} memories, which share {} bytes: Limits::total_bytes)",
                    limits.total()
                ),
            };
            let limited_by = format!("{limited_by}{share}");
            return Err(Error::TooLarge { what, asked, limit: memory_limit, limited_by });
        }
        Ok(())
    }
}

fn count(what: &'static str, found: u64, limit: u64) -> Result<()> {
    if found <= limit { Ok(()) } else { Err(Error::TooMany { what, found, limit }) }
}

fn sum(sizes: &[Size]) -> u64 {
    sizes.iter().fold(0, |sum, size| sum.saturating_add(size.min))
}

fn largest(sizes: &[Size]) -> u64 {
    sizes.iter().map(|size| size.min).max().unwrap_or(0)
}

/// The largest size to which all can grow, as far as their own limits allow, within a total.
fn share(sizes: &[Size], total: u64) -> u64 {
    let mut limits: Vec<_> = sizes.iter().map(|size| size.max).collect();
    limits.sort_unstable();
    let mut left = total;
    for (index, limit) in limits.iter().enumerate() {
        let share = left / (limits.len() - index) as u64;
        if *limit > share {
            return share;
        }
        left -= limit;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(limits: &[u64]) -> Vec<Size> {
        limits.iter().map(|max| Size { min: 0, max: *max }).collect()
    }

    #[test]
    fn what_one_cannot_use_is_left_to_the_others() {
        const NONE: u64 = u64::MAX;
        for (limits, total, expected) in [
            (&[][..], 10, NONE),
            (&[NONE], 10, 10),
            (&[NONE, NONE], 10, 5),
            (&[NONE, 2], 10, 8),
            (&[2, NONE, 1, NONE], 10, 3),
            (&[2, 3], 10, NONE),
            (&[25, 24, 12], 61, NONE),
            (&[2, 3], 4, 2),
        ] {
            assert_eq!(share(&sizes(limits), total), expected, "{limits:?}");
        }
    }

    proptest! {
        #[test]
        fn the_total_is_kept_and_used(limits in prop::collection::vec(0..50_u64, 1..8), total in 0..200_u64) {
            let sizes = sizes(&limits);
            let used = |share: u64| limits.iter().map(|max| (*max).min(share)).sum::<u64>();
            let share = share(&sizes, total);
            prop_assert!(used(share) <= total);
            prop_assert!(share == u64::MAX || used(share + 1) > total);
        }
    }
}
