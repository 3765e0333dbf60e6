//! Random modules that have to do the same on two engines.
//!
//! The modules come from `wasm-smith`, restricted to what is deterministic: no relaxed SIMD,
//! NaN made canonical, an end to every loop, and sizes that both engines allow. A backend
//! compares with the interpreter of `examples/wasmi`, so all of them agree with each other.

mod modules;
mod observe;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Limits};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};
use sha2::{Digest, Sha256};

use self::modules::module;
use self::observe::{Event, observe};
use crate::record::{self, Line, Mode, Recorder, Trial};
use crate::run::millis;

/// Names how many modules are compared.
pub const VARIABLE: &str = "POLYCHORD_DIFFERENTIAL_CASES";

/// What the name of the trial in the record begins with.
const GROUP: &str = "differential";

/// Whether random modules do the same on two engines.
///
/// ```no_run
/// use polychord_conformance::Engine;
/// use polychord_conformance::differential::Differential;
///
/// fn compare(engine: &dyn Engine, reference: &dyn Engine) {
///     match Differential::new(200, "target/differs").run(engine, reference) {
///         Ok(summary) => println!("{summary}"),
///         Err(difference) => panic!("{difference}"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Differential {
    /// How many modules are compared.
    pub cases: u32,
    /// The modules are the same for the same seed.
    pub seed: u64,
    /// Folder for a module that does not do the same.
    pub save: PathBuf,
    /// The time limit of guests of the engine; none of those of the reference. It is never
    /// reached, but code of guests that have one is rewritten.
    pub call_time: Option<Duration>,
    /// Whether the modules import the host's functions, with memories and layers behind them.
    pub host_functions: bool,
}

/// Counts of what the modules did, to see that enough was compared.
///
/// ```
/// use polychord_conformance::differential::Summary;
///
/// let nothing = Summary::default();
/// assert_eq!(nothing.to_string(), "0 modules agree: 0 calls returned, 0 trapped");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Modules that were compared.
    pub modules: u32,
    /// Calls that returned.
    pub returned: u32,
    /// Calls and starts that trapped.
    pub trapped: u32,
}

impl Differential {
    /// A test of `cases` modules, or of as many as the environment says.
    #[must_use]
    pub fn new(cases: u32, save: impl Into<PathBuf>) -> Self {
        let asked = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        Self {
            cases: asked.unwrap_or(cases),
            seed: 0x706f_6c79,
            save: save.into(),
            call_time: None,
            host_functions: false,
        }
    }

    /// Compares guests that have a time limit with guests that have none.
    #[must_use]
    pub fn with_a_time_limit(self) -> Self {
        Self { call_time: Some(Duration::from_secs(3600)), ..self }
    }

    /// Compares guests that import the host's functions, and call them with any arguments.
    #[must_use]
    pub fn with_host_functions(self) -> Self {
        Self { host_functions: true, ..self }
    }

    /// Compares an engine with a reference as a test: panics if they do not do the same, or
    /// if hardly anything was compared.
    pub fn test(&self, engine: &dyn Engine, reference: &dyn Engine) {
        let start = Instant::now();
        let outcome = self.run(engine, reference).and_then(|summary| {
            let enough = summary.returned > self.cases / 2;
            if enough {
                Ok(summary)
            } else {
                Err(format!("hardly anything was compared: {summary}"))
            }
        });
        self.record(engine, reference, &outcome, start);
        match outcome {
            // A closed stdout does not fail the test.
            Ok(summary) => _ = writeln!(std::io::stdout(), "{summary}"),
            Err(message) => panic!("{message}"),
        }
    }

    fn record(
        &self,
        engine: &dyn Engine,
        reference: &dyn Engine,
        outcome: &Result<Summary, String>,
        start: Instant,
    ) {
        let Ok(recorder) = Recorder::from_env(engine.capabilities()) else { return };
        let reference = reference.capabilities().engine;
        let mut name = format!("{GROUP}/{reference}");
        let mut with = String::new();
        if self.host_functions {
            name += "_with_host_functions";
            with += " that call the host's functions";
        }
        if self.call_time.is_some() {
            name += "_with_a_time_limit";
            with += " with a time limit";
        }
        recorder.write(&Line::Trial(Trial {
            name,
            promise: format!("random modules{with} do the same as on {reference}"),
            mode: Mode::Plain,
            failure: outcome.as_ref().err().cloned(),
            millis: millis(start),
        }));
        let Summary { modules, returned, trapped } = outcome.clone().unwrap_or_default();
        recorder.write(&Line::Differential(record::Differential {
            reference: reference.to_owned(),
            seed: self.seed,
            cases: self.cases,
            modules,
            returned,
            trapped,
        }));
    }

    /// Compares two engines.
    ///
    /// # Errors
    ///
    /// What the smallest module that could be found does on each of them, and where that
    /// module is.
    pub fn run(&self, engine: &dyn Engine, reference: &dyn Engine) -> Result<Summary, String> {
        let config = Config {
            cases: self.cases,
            failure_persistence: None,
            rng_algorithm: RngAlgorithm::ChaCha,
            rng_seed: RngSeed::Fixed(self.seed),
            ..Config::default()
        };
        let summary = std::cell::Cell::new(Summary::default());
        let bytes = prop::collection::vec(any::<u8>(), 0..4096);
        let outcome = TestRunner::new(config).run(&bytes, |bytes| {
            let Some(wasm) = module(&bytes, self.host_functions, [engine, reference]) else {
                return Ok(());
            };
            let limits = Limits::default().memory_bytes(64 * PAGE);
            let there = observe(reference, &wasm, &limits, self.host_functions);
            let limits = limits.call_time(self.call_time);
            let here = observe(engine, &wasm, &limits, self.host_functions);
            prop_assert_eq!(&here, &there);
            summary.set(summary.get().add(&here));
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(summary.get()),
            Err(TestError::Fail(reason, bytes)) => {
                let wasm =
                    module(&bytes, self.host_functions, [engine, reference]).unwrap_or_default();
                let saved = save(&self.save, &wasm);
                let names = [engine, reference].map(|engine| engine.capabilities().engine);
                Err(format!("{} and {} differ on {saved}: {reason}", names[0], names[1]))
            }
            Err(TestError::Abort(reason)) => Err(reason.to_string()),
        }
    }
}

impl Summary {
    fn add(self, seen: &[Event]) -> Self {
        let count = |is: fn(&Event) -> bool| {
            u32::try_from(seen.iter().filter(|event| is(event)).count()).unwrap_or(u32::MAX)
        };
        Self {
            modules: self.modules + 1,
            returned: self.returned + count(|event| matches!(event, Event::Returned { .. })),
            trapped: self.trapped + count(|event| matches!(event, Event::Trapped(_))),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { modules, returned, trapped } = self;
        write!(f, "{modules} modules agree: {returned} calls returned, {trapped} trapped")
    }
}

/// Saves a module by the hash of its bytes, and says where it is.
fn save(folder: &Path, wasm: &[u8]) -> String {
    let hash: String = Sha256::digest(wasm).iter().take(6).map(|b| format!("{b:02x}")).collect();
    let path = folder.join(format!("differs-{hash}.wasm"));
    let saved = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, wasm));
    match saved {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("a module of {} bytes, which was not saved: {error}", wasm.len()),
    }
}
