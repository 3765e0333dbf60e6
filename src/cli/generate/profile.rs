//! Where the time went, as a table or as JSON.

use std::io::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use polychord::model::Phases;
use serde_json::{Value, json};

use super::report::{Report, ms, touched_line};
use super::stats::traffic_line;
use crate::cli::Failure;

/// One part of a run: how long it took, and what is known of that. The rest is the host's.
struct RunPart {
    name: &'static str,
    tokens: u64,
    total: Duration,
    phases: Vec<(&'static str, Duration)>,
}

/// Prints where the time went to stderr.
pub(crate) fn print(report: &Report<'_>) -> Result<(), Failure> {
    let mut table = Table::new();
    let header = ["", "phase", "time", "share", "per token"];
    table.load_preset(presets::NOTHING).set_header(header);
    for part in parts(report) {
        let mut name = part.name;
        for (phase, time) in part.phases.iter().copied().chain([("host", part.host())]) {
            table.add_row(part.row(name, phase, time));
            name = "";
        }
        table.add_row(part.row("", "total", part.total));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let engine = report.engine;
    writeln!(std::io::stderr(), "\n{} {}\n{table}", engine.engine, engine.version)?;
    writeln!(std::io::stderr(), "{}", touched_line(&report.touched))?;
    let tokens = report.profile.prompt.tokens + report.profile.decode.tokens;
    for rank in &report.traffic {
        writeln!(std::io::stderr(), "{}", traffic_line(rank, tokens))?;
    }
    Ok(())
}

/// Where the time went, in ms.
pub(crate) fn object(report: &Report<'_>) -> Value {
    let part = |part: RunPart| {
        let mut object = json!({ "tokens": part.tokens, "host": ms(part.host()) });
        for (phase, time) in &part.phases {
            object[*phase] = ms(*time).into();
        }
        object["total"] = ms(part.total).into();
        (part.name.to_owned(), object)
    };
    parts(report).into_iter().map(part).collect()
}

fn parts(report: &Report<'_>) -> [RunPart; 3] {
    let start = vec![("compile", report.compiled), ("layers", report.load.took)];
    let prompt = report.profile.prompt;
    let decode = report.profile.decode;
    let decoding = report.generated.saturating_sub(report.first);
    [
        RunPart { name: "start", tokens: 0, total: report.ready, phases: start },
        RunPart::of("prompt", &prompt, report.first),
        RunPart::of("decode", &decode, decoding),
    ]
}

impl RunPart {
    fn of(name: &'static str, phases: &Phases, total: Duration) -> Self {
        let Phases { tokens, embed, blocks, attention, feed_forward, .. } = *phases;
        let Phases { head, layers, ranks, .. } = *phases;
        let mut known = vec![("embed", embed)];
        if attention.is_zero() {
            known.push(("blocks", blocks));
        } else {
            known.extend([("attention", attention), ("feed_forward", feed_forward)]);
        }
        known.extend([("head", head), ("layers", layers), ("ranks", ranks)]);
        Self { name, tokens, total, phases: known }
    }

    /// The rest of the time.
    fn host(&self) -> Duration {
        let known = self.phases.iter().map(|(_, time)| *time).sum();
        self.total.saturating_sub(known)
    }

    fn row(&self, name: &str, phase: &str, time: Duration) -> [String; 5] {
        let ratio = |of: f64| (of > 0.0).then(|| ms(time) / of);
        #[allow(clippy::cast_precision_loss, reason = "counts of tokens are small")]
        let per_token = ratio(self.tokens as f64);
        [
            name.to_owned(),
            phase.to_owned(),
            format!("{:.2} ms", ms(time)),
            ratio(ms(self.total)).map_or(String::new(), |share| format!("{:.1} %", share * 100.0)),
            per_token.map_or(String::new(), |time| format!("{time:.3} ms")),
        ]
    }
}
