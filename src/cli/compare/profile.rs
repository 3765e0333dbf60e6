//! Where the time of each run went, side by side.

use std::io::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::results::{Comparison, Entry, Run};
use crate::cli::Failure;

const START: &[&str] = &["compile", "layers", "host", "total"];
const STAGES: &[&str] =
    &["embed", "attention", "feed_forward", "head", "layers", "ranks", "host", "total"];

/// Prints the phases of all runs that succeeded to stderr, in ms.
pub(super) fn print(comparison: &Comparison) -> Result<(), Failure> {
    let runs: Vec<_> = comparison.runs.iter().filter_map(Entry::run).collect();
    let mut table = Table::new();
    let names = runs.iter().map(|run| format!("{}, {}", run.engine, run.load));
    table.load_preset(presets::NOTHING);
    table.set_header(["ms".to_owned(), "phase".to_owned()].into_iter().chain(names));
    for (part, phases) in [("start", START), ("prompt", STAGES), ("decode", STAGES)] {
        let mut name = part;
        for phase in phases {
            let times = runs.iter().map(|run| time(run, part, phase));
            table.add_row([name.to_owned(), (*phase).to_owned()].into_iter().chain(times));
            name = "";
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(std::io::stderr(), "\n{table}")?;
    Ok(())
}

fn time(run: &Run, part: &str, phase: &str) -> String {
    run.profile[part][phase].as_f64().map_or_else(String::new, |ms| format!("{ms:.2}"))
}
