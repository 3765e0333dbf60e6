//! A plan as people see it: memories as bars, layers as cells.

use std::fmt::Write as _;

use polychord::api::{Plan, PlannedLayer};

use super::size;

/// Characters of the bar of the largest memory.
const WIDTH: u64 = 64;

/// One bar for each memory, on one scale, with what is in it.
pub(crate) fn plan(plan: &Plan) -> String {
    let all: Vec<_> = (0..plan.memories.len()).map(|index| total(plan, index)).collect();
    let largest = all.iter().copied().max().unwrap_or(0).max(1);
    let mut out = String::new();
    for (index, memory) in plan.memories.iter().enumerate() {
        let layers: Vec<_> = plan.layers_of(index).collect();
        let paged = match memory.paged {
            true => format!(", {} take turns", size::bytes(all[index])),
            false => String::new(),
        };
        let (bytes, count) = (size::bytes(memory.bytes), layers.len());
        // Writing to a string does not fail.
        _ = writeln!(out, "memory {index}: {bytes}{paged}, {count} layers, {}", names(&layers));
        _ = writeln!(out, "  {}", bar(&layers, largest));
    }
    out
}

fn total(plan: &Plan, memory: usize) -> u64 {
    plan.layers_of(memory).map(|layer| layer.source.bytes).sum()
}

/// Cells as long as their layers are large, in two shades by turns.
fn bar(layers: &[&PlannedLayer], largest: u64) -> String {
    let column = |bytes: u64| {
        usize::try_from(u128::from(bytes) * u128::from(WIDTH) / u128::from(largest)).unwrap_or(0)
    };
    let (mut bar, mut done, mut drawn) = (String::new(), 0, 0);
    for (index, layer) in layers.iter().enumerate() {
        done += layer.source.bytes;
        let end = column(done);
        bar.push_str(&["█", "▓"][index % 2].repeat(end - drawn));
        drawn = end;
    }
    bar
}

fn names(layers: &[&PlannedLayer]) -> String {
    match layers {
        [] => "none".into(),
        [one] => one.source.name.clone(),
        [first, .., last] => format!("{} to {}", first.source.name, last.source.name),
    }
}
