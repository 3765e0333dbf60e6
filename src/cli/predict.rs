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

    /// Hosts in each stage of a pipeline, for --predict: all of --hosts divide rows if it is not given, and
    /// with 1 each host is a stage
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    hosts_per_stage: Option<u32>,

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
    /// How often a stage waits for the one before it, or all for the last.
    passes: u64,
    /// Bytes of what goes from stage to stage.
    passed: u64,
}

/// In each block: heads, what attention gives, the inner part of the feed-forward, and its result.
const GATHERS: u64 = 4;
/// For each token: the logits, the end of the evaluation, and what rank 0 says to compute next.
const MORE: u64 = 3;
/// Bytes of logits, and of others, that a host sends at once.
const PIECE: u64 = 128 << 10;

impl PredictArgs {
    /// Prints what is to be expected.
    pub(crate) fn print(&self, model: &Model, hosts: u32) -> Result<(), Failure> {
        let Some(rate) = self.rate.filter(|rate| rate.as_u64() > 0) else {
            return Err(Failure::usage("--predict needs a --rate of more than 0"));
        };
        let each = self.hosts_per_stage.unwrap_or(hosts);
        if each > hosts || !hosts.is_multiple_of(each) {
            let reason = format!("{hosts} hosts cannot be divided into stages of {each}");
            return Err(Failure::usage(reason));
        }
        let stages = hosts / each;
        let cost = Cost::of(model, each, stages);
        let time = Time::of(&cost, self, float(rate.as_u64()), each);
        let mut out = Plain::new(std::io::stdout().lock());
        let groups =
            if each == hosts { String::new() } else { format!(", {stages} stages of {each}") };
        writeln!(out, "{hosts} hosts{groups}, a token after the other")?;
        let line =
            |name: &str, time: f64, of: String| format!("{name:>10}  {:>9.2} ms  {of}", time * 1e3);
        let weights = size::bytes(cost.weights / u64::from(hosts));
        let weights = format!("{weights} of weights on each host");
        writeln!(out, "{}", line("compute", time.compute, weights))?;
        let results = format!("{} of results for each host", size::bytes(cost.results));
        writeln!(out, "{}", line("transfer", time.transfer, results))?;
        let waits = format!("{} gathers, {} messages between stages", cost.gathers, cost.passes);
        writeln!(out, "{}", line("latency", time.latency, waits))?;
        writeln!(out, "{}", line("overhead", time.overhead, String::new()).trim_end())?;
        let total = time.total();
        let speed = format!("{:.2} tokens/s", 1.0 / total);
        writeln!(out, "{}", line("total", total, speed))?;
        if stages > 1 {
            // Each stage works on another sequence; what goes on is on its way meanwhile.
            let all = 1.0 / (total / f64::from(stages));
            writeln!(out, "{:>10}  {all:.2} tokens/s of {stages} sequences or more", "together")?;
        }
        Ok(())
    }
}

/// How long the parts of a token take, in seconds.
struct Time {
    compute: f64,
    transfer: f64,
    latency: f64,
    overhead: f64,
}

impl Time {
    fn of(cost: &Cost, args: &PredictArgs, rate: f64, each: u32) -> Self {
        let each = f64::from(each);
        let others = (each - 1.0) / each;
        let waits = float(cost.gathers + cost.passes);
        let bits = (float(cost.results) * others + float(cost.passed)) * 8.0;
        // Stages compute one after the other, the hosts of a stage at the same time.
        Self {
            compute: float(cost.weights) / each / rate,
            transfer: bits / args.link,
            latency: waits * args.latency.as_secs_f64(),
            overhead: waits * args.overhead.as_secs_f64(),
        }
    }

    fn total(&self) -> f64 {
        self.compute + self.transfer + self.latency + self.overhead
    }
}

impl Cost {
    /// That of a model on stages of several hosts each. Of experts, all are counted, though few are used for a
    /// token.
    fn of(model: &Model, each: u32, stages: u32) -> Self {
        let config = model.config();
        let embedding =
            model.layers().first().filter(|_| !config.tied).map_or(0, |layer| layer.bytes);
        let all: u64 = model.layers().iter().map(|layer| layer.bytes).sum();
        let [blocks, dim, ffn, vocab] =
            [config.blocks, config.dim, config.ffn, config.vocab].map(u64::from);
        let heads = u64::from(config.heads) * u64::from(config.head_dim);
        let pieces = |floats: u64| (floats * 4).div_ceil(u64::from(each)).div_ceil(PIECE).max(1);
        let block = pieces(ffn) + GATHERS - 1;
        let (gathers, results) = match each {
            1 => (0, 0),
            _ => (
                blocks * block + pieces(vocab) + MORE - 1,
                (blocks * (heads + 2 * dim + ffn) + vocab) * 4,
            ),
        };
        let between = u64::from(stages - 1);
        let logits = (vocab * 4).div_ceil(PIECE);
        let (passes, passed) = match stages {
            1 => (0, 0),
            // The hidden state from stage to stage, the logits, the end, and the next job.
            _ => (between + logits + MORE - 1, (between * dim + vocab) * 4),
        };
        Self { weights: all - embedding, gathers, results, passes, passed }
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
