//! A plan as people see it: memories as bars, layers as cells.

use std::fmt::Write as _;

use polychord::api::{Plan, PlannedLayer, PlannedMemory};

use super::{size, terminal};

/// Characters of the bar of the largest memory.
const WIDTH: u64 = 64;

/// One bar for each memory, on one scale, with what is in it.
pub(crate) fn plan(plan: &Plan) -> String {
    let by_memory = plan.layers_by_memory();
    let both = || plan.memories.iter().zip(&by_memory);
    let all: Vec<_> = both().map(|(memory, layers)| total(memory, layers)).collect();
    let largest = all.iter().copied().max().unwrap_or(0).max(1);
    let mut out = String::new();
    for (index, (memory, layers)) in both().enumerate() {
        let PlannedMemory { guest, region, bytes, paged, .. } = memory;
        let bytes = size::bytes(*bytes);
        let held = match (&layers[..], paged) {
            ([], _) => "no layers".to_owned(),
            (layers, false) => format!("{}, {}", count(layers), names(layers)),
            (layers, true) => {
                format!(
                    "{} of {} share it, {}",
                    count(layers),
                    size::bytes(all[index]),
                    names(layers)
                )
            }
        };
        let bar = match &layers[..] {
            [] => "░".repeat(column(memory.bytes, largest)),
            layers => bar(layers, largest),
        };
        // Writing to a string does not fail.
        let region = terminal::line(region);
        _ = writeln!(out, "memory {index} ({region}, guest {guest}): {bytes}, {held}\n  {bar}");
    }
    out
}

/// One line for each host of a plan, with what its guests need; nothing if it names no hosts.
pub(crate) fn hosts(plan: &Plan, guest_needs: &[u64]) -> String {
    let mut out = String::new();
    if plan.hosts.is_empty() {
        return out;
    }
    for host in 0..plan.host_count() {
        let guests = plan.hosts.iter().zip(guest_needs).filter(|(of, _)| **of == host);
        let (count, needs) = guests
            .fold((0, 0_u64), |(count, sum), (_, needs)| (count + 1, sum.saturating_add(*needs)));
        let noun = if count == 1 { "guest" } else { "guests" };
        let needs = size::bytes(needs);
        _ = writeln!(out, "host {host}: {count} {noun}, {needs} with cache and activations");
    }
    out
}

/// Bytes of a memory's layers; of a memory without layers, its size.
fn total(memory: &PlannedMemory, layers: &[&PlannedLayer]) -> u64 {
    match layers.iter().map(|layer| layer.source.bytes).sum() {
        0 => memory.bytes,
        bytes => bytes,
    }
}

fn column(bytes: u64, largest: u64) -> usize {
    usize::try_from(u128::from(bytes) * u128::from(WIDTH) / u128::from(largest)).unwrap_or(0)
}

fn count(layers: &[&PlannedLayer]) -> String {
    match layers.len() {
        1 => "1 layer".into(),
        count => format!("{count} layers"),
    }
}

/// Cells as long as their layers are large, in two shades by turns.
fn bar(layers: &[&PlannedLayer], largest: u64) -> String {
    let (mut bar, mut done, mut drawn) = (String::new(), 0, 0);
    for (index, layer) in layers.iter().enumerate() {
        done += layer.source.bytes;
        let end = column(done, largest);
        bar.push_str(&["█", "▓"][index % 2].repeat(end - drawn));
        drawn = end;
    }
    // Too small to be seen is not nothing.
    if bar.is_empty() { "▏".into() } else { bar }
}

fn names(layers: &[&PlannedLayer]) -> String {
    match layers {
        [] => "none".into(),
        [one] => terminal::line(&one.source.name),
        [first, .., last] => {
            terminal::line(format!("{} to {}", first.source.name, last.source.name))
        }
    }
}
