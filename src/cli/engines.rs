//! `polychord engines`: what each engine of this build can do.

use std::io::Write;

use comfy_table::{Table, presets};
use polychord::api::{Capabilities, Memory64, RelaxedSimd};

use super::{Failure, engine, size};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what the engines of this build can do, and why one of them cannot be opened.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let engines = engine::open_all();
    let all: Vec<Column<'_>> = engines.iter().map(Column::of).collect();
    let text = match args.json {
        true => serde_json::to_string_pretty(&all)?,
        false => table(&all).to_string(),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// What is known about one engine.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Column<'a> {
    Opened(&'a Capabilities),
    Failed { engine: &'static str, error: String },
}

impl<'a> Column<'a> {
    fn of(opened: &'a engine::Opened) -> Self {
        match &opened.engine {
            Ok(engine) => Self::Opened(engine.capabilities()),
            Err(error) => Self::Failed { engine: opened.name, error: error.message() },
        }
    }

    fn header(&self) -> String {
        match self {
            Self::Opened(engine) => format!("{} {}", engine.engine, engine.version),
            Self::Failed { engine, .. } => (*engine).to_owned(),
        }
    }

    /// One cell; of an engine that cannot be opened the first one says why.
    fn cell(&self, row: usize, show: Show) -> String {
        match self {
            Self::Opened(engine) => show(engine),
            Self::Failed { error, .. } if row == 0 => wrap(&format!("cannot be opened: {error}")),
            Self::Failed { .. } => String::new(),
        }
    }
}

/// How one capability is shown.
type Show = fn(&Capabilities) -> String;

fn table(all: &[Column<'_>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let names = all.iter().map(Column::header);
    table.set_header(std::iter::once("capability".to_owned()).chain(names));
    let rows: [(&str, Show); 9] = [
        ("execution", |engine| engine.execution.to_owned()),
        ("32-bit memory, at most", |engine| size::bytes(engine.memory32_max_bytes)),
        ("64-bit memory", |engine| memory64(engine.memory64)),
        ("several memories", |engine| yes(engine.multi_memory)),
        ("relaxed SIMD", |engine| relaxed(engine.relaxed_simd).to_owned()),
        ("maps weights", |engine| yes(engine.mapping)),
        ("time limits", |engine| yes(engine.time_limit)),
        ("traps on stack overflow", |engine| yes(engine.stack_overflow_trap)),
        ("guests on many threads", |engine| yes(engine.threads)),
    ];
    for (row, (name, show)) in rows.into_iter().enumerate() {
        let cells = all.iter().map(|column| column.cell(row, show));
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    table
}

/// A sentence in lines that are narrow enough for a column.
fn wrap(text: &str) -> String {
    const WIDTH: usize = 36;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn memory64(memory: Memory64) -> String {
    match memory {
        Memory64::Native { max_bytes } => format!("native, at most {}", size::bytes(max_bytes)),
        Memory64::Lowered { max_bytes } => format!("lowered, at most {}", size::bytes(max_bytes)),
        Memory64::Host => "through the host".to_owned(),
        _ => "in another way".to_owned(),
    }
}

const fn relaxed(simd: RelaxedSimd) -> &'static str {
    match simd {
        RelaxedSimd::Unsupported => "no",
        RelaxedSimd::Slower => "yes, no faster",
        RelaxedSimd::Faster => "yes, faster",
        _ => simd.name(),
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
