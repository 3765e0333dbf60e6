//! What a server counts, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Seconds, from a fast token to a slow answer.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Answers that are advanced together.
const BATCHES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishLabel {
    model: String,
    finish: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    path: String,
    status: u16,
}

type Of<M, C = fn() -> M> = Family<ModelLabel, M, C>;

/// All that a server counts.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabel, Counter>,
    finished: Family<FinishLabel, Counter>,
    prompt_tokens: Of<Counter>,
    cached_tokens: Of<Counter>,
    generated_tokens: Of<Counter>,
    refused: Of<Counter>,
    faults: Of<Counter>,
    waiting: Of<Gauge>,
    active: Of<Gauge>,
    sessions: Of<Gauge>,
    session_bytes: Of<Gauge<i64>>,
    cache_bytes: Of<Gauge<i64>>,
    shared_bytes: Of<Gauge<i64>>,
    image_bytes: Of<Gauge<i64>>,
    resident: Gauge,
    cached_now: Of<Gauge>,
    kept: Of<Gauge>,
    kept_bytes: Of<Gauge>,
    restored: Of<Counter>,
    batch: Of<Histogram>,
    first_token: Of<Histogram>,
    between_tokens: Of<Histogram>,
    busy_seconds: Of<Counter<f64, AtomicU64>>,
}

/// What the answers of one model count.
pub(crate) struct ModelMetrics {
    name: String,
    finished: Family<FinishLabel, Counter>,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: Counter,
    /// Tokens of prompts that a session had seen.
    pub(crate) cached_tokens: Counter,
    /// Tokens of answers.
    pub(crate) generated_tokens: Counter,
    /// Requests that were not taken because too many waited.
    pub(crate) refused: Counter,
    /// Answers that failed.
    pub(crate) faults: Counter,
    /// Answers that wait.
    pub(crate) waiting: Gauge,
    /// Answers that are computed.
    pub(crate) active: Gauge,
    /// Sessions that are there.
    pub(crate) sessions: Gauge,
    /// Bytes that they may have beside the weights.
    pub(crate) session_bytes: Gauge,
    /// Bytes that are set aside for their keys and values.
    pub(crate) cache_bytes: Gauge,
    /// Bytes of these that sessions share, as far as none has written to them.
    pub(crate) shared_bytes: Gauge,
    /// Bytes of the images that they share.
    pub(crate) image_bytes: Gauge,
    /// Tokens that they have seen.
    pub(crate) cached_now: Gauge,
    /// Conversations that wait without a session.
    pub(crate) kept: Gauge,
    /// Bytes that they have.
    pub(crate) kept_bytes: Gauge,
    /// How often one of them got a session again.
    pub(crate) restored: Counter,
    /// How many answers get a token together.
    pub(crate) batch: Histogram,
    /// Seconds from a request to its first token.
    pub(crate) first_token: Histogram,
    /// Seconds from one token to the next.
    pub(crate) between_tokens: Histogram,
    /// Seconds of evaluating.
    pub(crate) busy_seconds: Counter<f64, AtomicU64>,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn batches() -> Histogram {
    Histogram::new(BATCHES)
}

/// A metric of each model.
fn of<M, C>(registry: &mut Registry, name: &str, help: &str, make: C) -> Of<M, C>
where
    C: MetricConstructor<M> + Clone + Send + Sync + std::fmt::Debug + 'static,
    Of<M, C>: Metric,
{
    let family = Of::<M, C>::new_with_constructor(make);
    registry.register(name, help, family.clone());
    family
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("polychord");
        let requests = Family::default();
        registry.register("requests", "Requests, by path and status", requests.clone());
        let finished = Family::default();
        registry.register("answers", "Answers that ended, by why", finished.clone());
        let resident = Gauge::default();
        registry.register("resident_bytes", "Bytes of the process in memory", resident.clone());
        let it = &mut registry;
        let counter: fn() -> Counter = Counter::default;
        let gauge: fn() -> Gauge = Gauge::default;
        let histogram: fn() -> Histogram = seconds;
        Self {
            prompt_tokens: of(it, "prompt_tokens", "Tokens of prompts", counter),
            cached_tokens: of(it, "prompt_tokens_cached", "Of these, seen before", counter),
            generated_tokens: of(it, "generated_tokens", "Tokens of answers", counter),
            refused: of(it, "refused", "Requests refused because too many waited", counter),
            faults: of(it, "faults", "Answers that failed", counter),
            waiting: of(it, "waiting", "Answers that wait", gauge),
            active: of(it, "active", "Answers that are computed", gauge),
            sessions: of(it, "sessions", "Sessions that are there", gauge),
            session_bytes: of(it, "session_bytes", "Most bytes of sessions beside weights", gauge),
            cache_bytes: of(it, "kv_bytes", "Bytes of keys and values of sessions", gauge),
            shared_bytes: of(it, "kv_shared_bytes", "Of these, shared by sessions", gauge),
            image_bytes: of(it, "kv_image_bytes", "Bytes of the images that they share", gauge),
            cached_now: of(it, "session_tokens", "Tokens that sessions have seen", gauge),
            kept: of(it, "idle_conversations", "Conversations kept without a session", gauge),
            kept_bytes: of(it, "idle_bytes", "Bytes of these", gauge),
            restored: of(it, "restored", "How often one of these got a session", counter),
            batch: of(it, "batch_size", "Answers that get a token together", batches as fn() -> _),
            first_token: of(it, "first_token_seconds", "From request to first token", histogram),
            between_tokens: of(it, "token_seconds", "From one token to the next", histogram),
            busy_seconds: of(
                it,
                "busy_seconds",
                "Time of evaluating",
                Counter::default as fn() -> _,
            ),
            resident,
            registry,
            requests,
            finished,
        }
    }
}

impl Metrics {
    /// What the answers of one model count.
    pub(crate) fn model(&self, name: &str) -> ModelMetrics {
        let label = &ModelLabel { model: name.to_owned() };
        ModelMetrics {
            name: name.to_owned(),
            finished: self.finished.clone(),
            prompt_tokens: self.prompt_tokens.get_or_create(label).clone(),
            cached_tokens: self.cached_tokens.get_or_create(label).clone(),
            generated_tokens: self.generated_tokens.get_or_create(label).clone(),
            refused: self.refused.get_or_create(label).clone(),
            faults: self.faults.get_or_create(label).clone(),
            waiting: self.waiting.get_or_create(label).clone(),
            active: self.active.get_or_create(label).clone(),
            sessions: self.sessions.get_or_create(label).clone(),
            session_bytes: self.session_bytes.get_or_create(label).clone(),
            cache_bytes: self.cache_bytes.get_or_create(label).clone(),
            shared_bytes: self.shared_bytes.get_or_create(label).clone(),
            image_bytes: self.image_bytes.get_or_create(label).clone(),
            cached_now: self.cached_now.get_or_create(label).clone(),
            kept: self.kept.get_or_create(label).clone(),
            kept_bytes: self.kept_bytes.get_or_create(label).clone(),
            restored: self.restored.get_or_create(label).clone(),
            batch: self.batch.get_or_create(label).clone(),
            first_token: self.first_token.get_or_create(label).clone(),
            between_tokens: self.between_tokens.get_or_create(label).clone(),
            busy_seconds: self.busy_seconds.get_or_create(label).clone(),
        }
    }

    /// Counts a request.
    pub(crate) fn request(&self, path: &str, status: u16) {
        self.requests.get_or_create(&RequestLabel { path: path.to_owned(), status }).inc();
    }

    /// All of it, as `OpenMetrics` text.
    pub(crate) fn text(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(bytes);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// Bytes of this process that are in memory, with those of files, where the system tells.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

impl ModelMetrics {
    /// Counts an answer that ended.
    pub(crate) fn ended(&self, finish: &str) {
        let label = FinishLabel { model: self.name.clone(), finish: finish.to_owned() };
        self.finished.get_or_create(&label).inc();
    }
}

/// Of a scheduler without a server.
impl Default for ModelMetrics {
    fn default() -> Self {
        Metrics::default().model("")
    }
}
