//! A comparison as people see it.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::results::{Comparison, Entry, Outcome, Run};
use crate::cli::{Failure, size, terminal};

/// Prints the text, a row for each run, and the verdict.
pub(super) fn print(comparison: &Comparison) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let mut out = std::io::stdout().lock();
    let first = comparison.runs.iter().find_map(Entry::run);
    if let Some(run) = first {
        let text = terminal::generated(run.text.trim_end_matches('\n'));
        let prompt = terminal::generated(&comparison.prompt);
        writeln!(out, "{}{text}\n", paint.apply("1", &prompt))?;
    }
    writeln!(out, "{}", table(comparison, paint))?;
    for entry in &comparison.runs {
        if let Outcome::Error(error) = &entry.outcome {
            let name = format!("{} ({})", entry.engine, entry.requested_load);
            writeln!(out, "{}", paint.apply("31", &terminal::lines(&format!("{name}: {error}"))))?;
        }
    }
    writeln!(out, "{}", verdict(comparison, paint))?;
    Ok(())
}

fn table(comparison: &Comparison, paint: Paint) -> Table {
    let mut table = paint.table(&[
        "engine",
        "version",
        "mode",
        "load",
        "tokens",
        "tokens/s",
        "",
        "peak memory",
        "logits",
    ]);
    let reference = comparison.runs.iter().find_map(Entry::run);
    let fastest =
        comparison.runs.iter().filter_map(Entry::run).filter_map(|run| run.tokens_per_second);
    let fastest = fastest.fold(0.0, f64::max);
    for entry in &comparison.runs {
        match (&entry.outcome, reference) {
            (Outcome::Run(run), Some(reference)) => table.add_row(row(run, reference, fastest)),
            _ => table.add_row([
                Cell::new(&entry.engine),
                Cell::new(""),
                Cell::new(""),
                Cell::new(entry.requested_load),
                Cell::new("failed").fg(Color::Red),
            ]),
        };
    }
    for column in [4, 5, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(run: &Run, reference: &Run, fastest: f64) -> [Cell; 9] {
    let same = run.logits_sha256 == reference.logits_sha256;
    let speed = run.tokens_per_second;
    [
        Cell::new(&run.engine).add_attribute(Attribute::Bold),
        Cell::new(&run.engine_version),
        Cell::new(&run.execution),
        Cell::new(&run.load),
        Cell::new(run.ids.len()),
        Cell::new(speed.map_or("-".into(), |speed| format!("{speed:.1}"))),
        Cell::new(bar(speed.unwrap_or_default() / fastest)).fg(Color::Cyan),
        Cell::new(run.peak_memory_bytes.map_or("-".into(), size::bytes)),
        Cell::new(short(&run.logits_sha256)).fg(if same { Color::Green } else { Color::Red }),
    ]
}

/// A bar of up to ten characters, in eighths of them.
fn bar(share: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 80")]
    let eighths = (share.clamp(0.0, 1.0) * 80.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

fn verdict(comparison: &Comparison, paint: Paint) -> String {
    let runs = comparison.runs.iter().filter_map(Entry::run);
    let mut hashes: Vec<_> = runs.map(|run| &run.logits_sha256).collect();
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    let failed = comparison.failed();
    if comparison.identical {
        let hash = short(hashes[0]);
        let text =
            format!("✓ {count} runs, one answer: every logit is the same bit for bit ({hash})");
        return paint.apply("1;32", &text);
    }
    let problem = match (hashes.len(), failed) {
        (0 | 1, _) => comparison.problem().unwrap_or_default(),
        (different, 0) => format!("{count} runs gave {different} different results"),
        (different, _) => {
            format!("{count} runs gave {different} different results, and {failed} failed")
        }
    };
    paint.apply("1;31", &format!("✗ {problem}"))
}

pub(super) fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// Whether to write in color.
#[derive(Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !refused)
    }

    /// A table without rows.
    pub(super) fn table(self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        if !self.0 {
            table.force_no_tty();
        }
        let bold = |name: &&str| Cell::new(name).add_attribute(Attribute::Bold);
        table.set_header(header.iter().map(bold));
        table
    }

    /// Text in the style of a Select Graphic Rendition code.
    pub(super) fn apply(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
