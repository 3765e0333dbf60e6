//! What all requests share.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use polychord_model::chat::ChatTemplate;
use polychord_session::{Error as SessionError, Model, SessionOptions, Transformer};
use std::sync::OnceLock;
use tokio::sync::OnceCell;

use super::auth::Keys;
use super::failure::Failure;
use crate::embedder::Embedder;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::scheduler::{Constraint, Format, Grammars, Scheduler, SchedulerOptions};

/// What a model needs to be served.
pub(super) type Loaded = (Arc<Transformer>, Model, SessionOptions);

/// How it is loaded, when it is first asked for.
pub(super) type Load = Box<dyn Fn() -> polychord_session::Result<Loaded> + Send + Sync>;

/// What all requests share.
pub(super) struct App {
    pub(super) options: ServerOptions,
    pub(super) keys: Keys,
    pub(super) metrics: Arc<Metrics>,
    pub(super) models: Vec<Arc<Served>>,
    pub(super) started: u64,
    pub(super) ending: AtomicBool,
    /// Of ids: other ones in each process.
    random: u64,
    count: AtomicU64,
}

/// A model by its name.
pub(super) struct Served {
    pub(super) name: String,
    load: Load,
    options: SchedulerOptions,
    metrics: Arc<Metrics>,
    running: OnceCell<Running>,
}

/// A model that is loaded.
pub(super) struct Running {
    name: String,
    pub(super) model: Model,
    /// None if the model gives embeddings alone.
    scheduler: Option<Scheduler>,
    /// None if it gives none.
    pub(super) embedder: Option<Embedder>,
    /// None if the model has no template that can be used, and why.
    pub(super) template: std::result::Result<ChatTemplate, String>,
    /// Made for the first answer that is held to a grammar.
    grammars: OnceLock<std::result::Result<Grammars, String>>,
}

impl App {
    pub(super) fn new(options: ServerOptions, models: Vec<(String, Load)>) -> Result<Self> {
        let keys = Keys::new(&options)?;
        if let Some(folder) = &options.web_folder {
            let missing = ["demo/index.html", "dist/files.js", "sw.js"].into_iter();
            if let Some(missing) = missing.map(Path::new).find(|it| !folder.join(it).is_file()) {
                return Err(Error::Web { folder: folder.clone(), missing: missing.to_owned() });
            }
        }
        let metrics = Arc::new(Metrics::default());
        let served = |(name, load)| {
            let (options, metrics) = (options.scheduler.clone(), metrics.clone());
            Arc::new(Served { name, load, options, metrics, running: OnceCell::new() })
        };
        let models = models.into_iter().map(served).collect();
        Ok(Self {
            keys,
            models,
            metrics,
            options,
            started: now(),
            ending: AtomicBool::new(false),
            random: random(),
            count: AtomicU64::new(0),
        })
    }

    /// The model that requests get that name none.
    pub(super) fn first(&self) -> Result<&Arc<Served>> {
        self.models.first().ok_or(Error::NoModel)
    }

    /// The model of a name.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Arc<Served>, Failure> {
        let Some(name) = name.filter(|it| !it.is_empty()) else {
            return self.first().map_err(Failure::from);
        };
        self.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let names: Vec<_> = self.models.iter().map(|model| &*model.name).collect();
            Failure::no_model(name, &names)
        })
    }

    /// An id that no other answer of any server has, but by chance.
    pub(super) fn id(&self, prefix: &str) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:016x}{count:08x}", self.random)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

impl Served {
    /// The model, which is loaded when it is first asked for.
    pub(super) async fn load_once(self: &Arc<Self>) -> Result<&Running> {
        self.running.get_or_try_init(|| self.clone().start()).await
    }

    /// The model, if it is loaded already.
    pub(super) fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    async fn start(self: Arc<Self>) -> Result<Running> {
        let started = tokio::task::spawn_blocking(move || {
            let (transformer, model, session): Loaded = (self.load)()?;
            model.tokenizer()?;
            let running = Running::start(&self, transformer, model, &session)?;
            tracing::info!(model = self.name, context = running.context(), "loaded");
            Ok(running)
        });
        started.await.unwrap_or_else(|panic| {
            let reason = format!("loading it panicked, which is a bug: {panic}");
            Err(Error::Session(SessionError::Plan { reason }))
        })
    }
}

impl Running {
    fn start(
        served: &Served,
        transformer: Arc<Transformer>,
        model: Model,
        session: &SessionOptions,
    ) -> Result<Self> {
        let template = model.chat_template().map_err(|error| error.to_string());
        if let Some(note) = template.as_ref().ok().and_then(ChatTemplate::note) {
            tracing::warn!(model = served.name, "{note}");
        }
        let metrics = || served.metrics.model(&served.name);
        let config = model.config();
        let mut options = served.options.clone();
        let mut embedder = None;
        if config.pooling.is_some() {
            let transformer = transformer.clone();
            let made = Embedder::start(metrics(), transformer, &model, session, &options)?;
            // Answers get what is left.
            options.memory_bytes =
                options.memory_bytes.map(|budget| budget.saturating_sub(made.bytes()));
            embedder = Some(made);
        } else if config.is_encoder() {
            return Err(SessionError::Pooling.into());
        }
        let scheduler = match config.is_encoder() {
            true => None,
            false => {
                Some(Scheduler::start_with(metrics(), transformer, &model, session, &options)?)
            }
        };
        let (name, grammars) = (served.name.clone(), OnceLock::new());
        Ok(Self { name, model, scheduler, embedder, template, grammars })
    }

    /// What generates text.
    pub(super) fn scheduler(&self) -> Result<&Scheduler, Failure> {
        self.scheduler.as_ref().ok_or_else(|| {
            let message = format!(
                "the model {} gives embeddings, and no text: ask for /v1/embeddings",
                self.name
            );
            Failure::param("model", message)
        })
    }

    /// Most tokens of a sequence.
    pub(super) fn context(&self) -> u32 {
        let embedder = self.embedder.as_ref().map(Embedder::context);
        self.scheduler.as_ref().map(Scheduler::context).or(embedder).unwrap_or(0)
    }

    /// Lets what runs go on for `time`, and ends what is left then.
    pub(super) fn drain(&self, time: Duration) {
        // A time beyond what the clock can express is as long as a day.
        let most = time.min(Duration::from_secs(86_400));
        let end = Instant::now() + most;
        std::thread::scope(|scope| {
            if let Some(embedder) = &self.embedder {
                scope.spawn(move || embedder.drain(end));
            }
            if let Some(scheduler) = &self.scheduler {
                scheduler.drain(most);
            }
        });
    }

    /// Compiles what an answer is to be held to; `param` is where a client has said it.
    pub(super) fn constraint(&self, param: &str, format: &Format) -> Result<Constraint, Failure> {
        let made = self.grammars.get_or_init(|| {
            let tokenizer = self.model.tokenizer().map_err(|error| error.to_string())?;
            Grammars::new(tokenizer)
        });
        let compiled = made.as_ref().map_err(Clone::clone).and_then(|it| it.compile(format));
        compiled.map_err(|reason| {
            Failure::param(param, format!("an answer cannot be held to this: {reason}"))
        })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A number that no client can guess, from what the standard library keys its maps with.
pub(super) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    hasher.write_u32(nanos);
    hasher.finish()
}
