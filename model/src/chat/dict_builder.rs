//! Makes dictionaries.

use super::equality::equal;
use super::limits::{Charge, Meter, Result, fail};
use super::value::{Dict, ITEM, OVERHEAD, Value};

/// A dictionary in the making; keys are strings, numbers and the like.
#[derive(Debug)]
pub(super) struct DictBuilder {
    entries: Vec<(Value, Value)>,
    depth: u8,
    charge: Charge,
}

impl DictBuilder {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        Ok(Self { entries: Vec::new(), depth: 0, charge: meter.charge(OVERHEAD)? })
    }

    pub(super) fn set(&mut self, key: Value, value: Value) -> Result<()> {
        let meter = self.charge.meter();
        meter.steps(1 + self.entries.len())?;
        key.defined()?;
        if key.depth()? > 0 {
            return fail(format!("a {} cannot be the key of a dictionary", key.kind()));
        }
        let depth = value.depth()?;
        let mut found = None;
        for (index, (old, _)) in self.entries.iter().enumerate() {
            if equal(meter, old, &key)? {
                found = Some(index);
                break;
            }
        }
        self.depth = self.depth.max(depth);
        if let Some(index) = found {
            self.entries[index].1 = value;
        } else {
            self.charge.grow(2 * ITEM)?;
            self.entries.push((key, value));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Dict {
        Dict::new(self.entries, self.depth + 1, self.charge)
    }
}
