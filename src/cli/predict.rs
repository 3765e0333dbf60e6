//! How fast a model would be on several hosts, by a model of what a token costs.

use std::io::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use polychord::model::Model;

use super::terminal::Plain;
use super::{Failure, size};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PredictArgs {
    /// Say how fast one token after the other would come from several hosts that compute together, from what
    /// their parts are known to do
    #[arg(long, requires = "rate")]
    pub(crate) predict: bool,

    /// How many hosts, for --predict
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    hosts: u32,

    /// Bits per second of a host's link, for --predict: 1Gbit, 10Gbit
    #[arg(long, value_name = "RATE", default_value = "10Gbit", value_parser = parse_link)]
    link: f64,

    /// Time of a small message from one host to another, for --predict: 50us, 1ms
    #[arg(long, value_name = "TIME", default_value = "50us", value_parser = parse_time)]
    latency: Duration,

    /// Bytes of weights that one host multiplies in a second, for --predict: bytes of the weights of a model
    /// times its tokens per second on that host alone
    #[arg(long, value_name = "BYTES")]
    rate: Option<ByteSize>,

    /// Time that each gather takes beside latency and bytes, for --predict: what `--profile` shows as ranks for
    /// a token between processes of one host, divided by the gathers that are shown here
    #[arg(long, value_name = "TIME", default_value = "0us", value_parser = parse_time)]
    overhead: Duration,
}

/// What a token costs.
struct Cost {
    /// Bytes of weights that are multiplied.
    weights: u64,
    /// How often all hosts wait for all.
    gathers: u64,
    /// Bytes of results that are gathered.
    results: u64,
}

/// In each block: heads, what attention gives, the inner part of the feed-forward, and its result.
const GATHERS: u64 = 4;
/// For each token: the logits, the end of the evaluation, and what rank 0 says to compute next.
const MORE: u64 = 3;
/// Bytes of logits, and of others, that a host sends at once.
const PIECE: u64 = 128 << 10;

impl PredictArgs {
    /// Prints what is to be expected.
    pub(crate) fn print(&self, model: &Model) -> Result<(), Failure> {
        let Some(rate) = self.rate.filter(|rate| rate.as_u64() > 0) else {
            return Err(Failure::usage("--predict needs a --rate of more than 0"));
        };
        let cost = Cost::of(model, self.hosts);
        let hosts = f64::from(self.hosts);
        let compute = float(cost.weights) / hosts / float(rate.as_u64());
        let others = (hosts - 1.0) / hosts;
        let transfer = float(cost.results) * others * 8.0 / self.link;
        let waits = if self.hosts == 1 { 0.0 } else { float(cost.gathers) };
        let latency = waits * self.latency.as_secs_f64();
        let overhead = waits * self.overhead.as_secs_f64();
        let total = compute + transfer + latency + overhead;
        let mut out = Plain::new(std::io::stdout().lock());
        writeln!(out, "{} hosts, a token after the other", self.hosts)?;
        let line =
            |name: &str, time: f64, of: String| format!("{name:>10}  {:>9.2} ms  {of}", time * 1e3);
        let weights = size::bytes(cost.weights / u64::from(self.hosts));
        writeln!(
            out,
            "{}",
            line("compute", compute, format!("{weights} of weights on each host"))
        )?;
        let results = format!("{} of results for each host", size::bytes(cost.results));
        writeln!(out, "{}", line("transfer", transfer, results))?;
        writeln!(out, "{}", line("latency", latency, format!("{waits} gathers")))?;
        writeln!(out, "{}", line("overhead", overhead, String::new()).trim_end())?;
        writeln!(out, "{}", line("total", total, format!("{:.2} tokens/s", 1.0 / total)))?;
        Ok(())
    }
}

impl Cost {
    /// That of a model on several hosts. Of experts, all are counted, though few are used for a token.
    fn of(model: &Model, hosts: u32) -> Self {
        let config = model.config();
        let embedding =
            model.layers().first().filter(|_| !config.tied).map_or(0, |layer| layer.bytes);
        let all: u64 = model.layers().iter().map(|layer| layer.bytes).sum();
        let [blocks, dim, ffn, vocab] =
            [config.blocks, config.dim, config.ffn, config.vocab].map(u64::from);
        let heads = u64::from(config.heads) * u64::from(config.head_dim);
        let pieces = |floats: u64| (floats * 4).div_ceil(u64::from(hosts)).div_ceil(PIECE).max(1);
        let block = pieces(ffn) + GATHERS - 1;
        Self {
            weights: all - embedding,
            gathers: blocks * block + pieces(vocab) + MORE - 1,
            results: (blocks * (heads + 2 * dim + ffn) + vocab) * 4,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
const fn float(number: u64) -> f64 {
    number as f64
}

/// Bits per second, as `tc` writes them.
pub(crate) fn parse_link(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number: f64 = lower.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * factor).filter(|rate| rate.is_finite() && *rate > 0.0)
    });
    parsed.ok_or_else(|| "no rate as 10Gbit or 100Mbit".into())
}

pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Duration::try_from_secs_f64(number * factor).ok()
    });
    parsed.ok_or_else(|| "no time as 50us, 1ms or 2s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read_with_their_units() {
        assert_eq!(parse_link("10Gbit"), Ok(1e10));
        assert_eq!(parse_link("2.5mbit"), Ok(2.5e6));
        assert!(
            ["", "10", "0Gbit", "-1Gbit", "infGbit", "Gbit"]
                .iter()
                .all(|it| parse_link(it).is_err())
        );
        assert_eq!(parse_time("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_time("1.5ms"), Ok(Duration::from_micros(1500)));
        assert!(["", "5", "-1us", "nanus", "us"].iter().all(|it| parse_time(it).is_err()));
    }
}
