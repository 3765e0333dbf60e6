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

/// Prints what the engines of this build can do.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let engines = engine::open_all()?;
    let all: Vec<_> = engines.iter().map(|engine| engine.capabilities().as_ref()).collect();
    let text = match args.json {
        true => serde_json::to_string_pretty(&all)?,
        false => table(&all).to_string(),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// How one capability is shown.
type Show = fn(&Capabilities) -> String;

fn table(all: &[&Capabilities]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let names = all.iter().map(|engine| format!("{} {}", engine.engine, engine.version));
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
    for (name, show) in rows {
        table
            .add_row(std::iter::once(name.to_owned()).chain(all.iter().map(|engine| show(engine))));
    }
    table
}

fn memory64(memory: Memory64) -> String {
    match memory {
        Memory64::Native { max_bytes } => format!("native, at most {}", size::bytes(max_bytes)),
        Memory64::Host => "through the host".to_owned(),
    }
}

const fn relaxed(simd: RelaxedSimd) -> &'static str {
    match simd {
        RelaxedSimd::Unsupported => "no",
        RelaxedSimd::Slower => "yes, no faster",
        RelaxedSimd::Faster => "yes, faster",
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
