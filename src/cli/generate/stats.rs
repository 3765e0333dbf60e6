//! Statistics of each memory, as a table or as JSON.

use std::io::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use polychord::api::{MemoryStats, PageFaults};
use polychord::model::{ExpertStats, GuestStats, Session};
use serde_json::Value;

use super::args::Format;
use super::report::{touched_line, touched_object};
use crate::cli::terminal::Plain;
use crate::cli::{Failure, size, terminal};

/// Prints the statistics of all memories to stderr.
pub(crate) fn print(format: Format, session: &Session, traffic: &[Value]) -> Result<(), Failure> {
    let guests = session.memory_stats();
    let (stats, faults) = (session.stats(), PageFaults::now());
    let cache_bytes = session.report().cache_bytes;
    let mut stderr = Plain::new(std::io::stderr());
    if format == Format::Json {
        let object = serde_json::json!({
            "guests": guests.iter().map(|guest| &guest.memories).collect::<Vec<_>>(),
            "totals": stats,
            "cache_bytes": cache_bytes,
            "paging": session.pager_stats(),
            "experts": experts(session),
            "page_faults": faults,
            "traffic": traffic,
            "touch_ahead": touched_object(&session.report().touch_ahead),
        });
        writeln!(stderr, "{}", terminal::json(&object.to_string()))?;
        return Ok(());
    }
    writeln!(stderr, "\n{}", table(&guests))?;
    writeln!(stderr, "keys, values and states: {}", size::bytes(cache_bytes))?;
    writeln!(stderr, "{}", touched_line(&session.report().touch_ahead))?;
    let experts = session.expert_stats();
    if !experts.is_empty() {
        let sum = |count: fn(&ExpertStats) -> u64| experts.iter().map(count).sum::<u64>();
        writeln!(
            stderr,
            "{} experts were chosen: {} hits, {} misses",
            experts.len(),
            sum(|expert| expert.hits),
            sum(|expert| expert.misses)
        )?;
    }
    let tokens = session.profile().decode.tokens + session.profile().prompt.tokens;
    for line in traffic.iter().map(|rank| traffic_line(rank, tokens)) {
        writeln!(stderr, "{line}")?;
    }
    if let Some(PageFaults { minor, major, .. }) = faults {
        writeln!(stderr, "page faults of the process: {minor} minor, {major} major")?;
    }
    Ok(())
}

/// What a process has exchanged with others, in all and for each token.
pub(super) fn traffic_line(rank: &Value, tokens: u64) -> String {
    let number = |name: &str| rank[name].as_u64().unwrap_or_default();
    let each = |name: &str| size::bytes(number(name) / tokens.max(1));
    #[allow(clippy::cast_precision_loss, reason = "counts of tokens are small")]
    let waited = rank["waited_ms"].as_f64().unwrap_or_default() / tokens.max(1) as f64;
    format!(
        "process {}: {} messages; for each of {tokens} tokens {} sent, {} received, {waited:.2} ms waited",
        number("rank"),
        number("messages"),
        each("sent_bytes"),
        each("received_bytes"),
    )
}

/// Statistics of each expert that was chosen, where experts are paged.
fn experts(session: &Session) -> Vec<serde_json::Value> {
    let experts = session.expert_stats();
    let object = |expert: &ExpertStats| {
        serde_json::json!({
            "block": expert.block,
            "expert": expert.expert,
            "tokens": expert.tokens,
            "hits": expert.hits,
            "misses": expert.misses,
        })
    };
    experts.iter().map(object).collect()
}

fn table(guests: &[GuestStats]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "guest",
        "memory",
        "regions",
        "backed by",
        "reserved",
        "resident",
        "huge",
        "mapped",
        "loads",
        "median",
        "longest",
    ]);
    for (guest, GuestStats { memories, .. }) in guests.iter().enumerate() {
        for memory in memories {
            table.add_row(row(guest, memory));
        }
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(guest: usize, memory: &MemoryStats) -> [String; 11] {
    let regions: Vec<_> = memory.regions.iter().map(|region| region.name.as_str()).collect();
    let times = &memory.load_times;
    [
        guest.to_string(),
        memory.id.0.to_string(),
        terminal::line(regions.join(", ")),
        format!("{:?}", memory.backing),
        size::bytes(memory.reserved_bytes),
        memory.resident_bytes.map_or("unknown".into(), size::bytes),
        memory.huge_bytes.map_or("unknown".into(), size::bytes),
        size::bytes(memory.mapped_bytes),
        memory.loads.to_string(),
        format!("{} us", micros(times.quantile(0.5))),
        format!("{} us", micros(times.max())),
    ]
}

fn micros(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1000)
}
