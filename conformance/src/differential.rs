//! Random modules that have to do the same on two engines.
//!
//! The modules come from `wasm-smith`, restricted to what is deterministic: no relaxed SIMD,
//! NaN made canonical, an end to every loop, and sizes that both engines allow. A backend
//! compares with the interpreter of `examples/wasmi`, so all of them agree with each other.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, FunctionType, Limits, Memory64, Module, Runtime, TrapKind, Value, ValueType,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};
use sha2::{Digest, Sha256};

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
        }
    }

    /// Compares guests that have a time limit with guests that have none.
    #[must_use]
    pub fn with_a_time_limit(self) -> Self {
        Self { call_time: Some(Duration::from_secs(3600)), ..self }
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
        let (name, with) = match self.call_time {
            None => (format!("{GROUP}/{reference}"), ""),
            Some(_) => (format!("{GROUP}/{reference}_with_a_time_limit"), " with a time limit"),
        };
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
            let Some(wasm) = module(&bytes, engine, reference) else { return Ok(()) };
            let limits = Limits::default().memory_bytes(64 * PAGE);
            let there = observe(reference, &wasm, &limits);
            let here = observe(engine, &wasm, &limits.call_time(self.call_time));
            prop_assert_eq!(&here, &there);
            summary.set(summary.get().add(&here));
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(summary.get()),
            Err(TestError::Fail(reason, bytes)) => {
                let wasm = module(&bytes, engine, reference).unwrap_or_default();
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

/// The observable results of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// It was refused in this way.
    Refused(&'static str),
    Trapped(TrapKind),
    /// A call returned these bits, and left a memory with this size and hash.
    Returned {
        export: String,
        bits: Vec<u128>,
        bytes: usize,
        sha256: Vec<u8>,
    },
}

/// What a generated module exports.
const EXPORTS: &str = r#"(module
    (memory (export "memory") 1 8)
    (func (export "a") (param i32 i64 f32 f64) (result i32 f64) unreachable)
    (func (export "b") (param v128 i64) (result v128 f32) unreachable)
    (func (export "c") (result i64) unreachable))"#;

/// Functions and loop iterations that all calls of a module run together at most: fewer than any
/// stack has frames for, since how deep recursion may go is each engine's own.
const FUEL: u32 = 300;

/// The module that is generated from these bytes; none if there are too few of them.
fn module(bytes: &[u8], engine: &dyn Engine, reference: &dyn Engine) -> Option<Vec<u8>> {
    let both = |has: fn(&dyn Engine) -> bool| has(engine) && has(reference);
    let wide = both(|engine| matches!(engine.capabilities().memory64, Memory64::Native { .. }));
    let several = both(|engine| engine.capabilities().multi_memory);
    // Half of the modules avoid instructions that trap, so that more than traps is compared.
    let (first, bytes) = bytes.split_first()?;
    let calm = first % 2 == 0;
    let config = wasm_smith::Config {
        disallow_traps: calm,
        exports: Some(wat::parse_str(EXPORTS).ok()?),
        max_imports: 0,
        allow_start_export: !calm,
        canonicalize_nans: true,
        max_memories: if several { 3 } else { 1 },
        memory64_enabled: wide,
        memory_max_size_required: true,
        max_memory32_bytes: 16 * PAGE,
        max_memory64_bytes: (16 * PAGE).into(),
        // They bring `externref`, which guests of Polychord do not have.
        reference_types_enabled: false,
        table_max_size_required: true,
        max_table_elements: 1_000,
        exceptions_enabled: false,
        gc_enabled: false,
        compact_imports_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?;
    module.ensure_termination(FUEL).ok()?;
    Some(module.to_bytes())
}

/// Starts a module and calls its functions, each with a few arguments.
fn observe(engine: &dyn Engine, wasm: &[u8], limits: &Limits) -> Vec<Event> {
    let started = engine.compile(wasm).and_then(|module: Arc<dyn Module>| {
        let functions = module.info().functions().clone();
        Ok((module.instantiate(limits)?, functions))
    });
    let (mut runtime, functions) = match started {
        Ok(started) => started,
        Err(error) => return vec![refusal(&error)],
    };
    let mut seen = Vec::new();
    for (export, ty) in &functions {
        for round in 0..3 {
            seen.push(call(&mut *runtime, export, ty, round));
        }
    }
    seen
}

fn call(runtime: &mut dyn Runtime, export: &str, ty: &FunctionType, round: usize) -> Event {
    let args: Vec<_> = ty.params.iter().map(|ty| argument(*ty, round)).collect();
    match runtime.call(export, &args) {
        Ok(results) => Event::Returned {
            export: export.to_owned(),
            bits: results.into_iter().map(bits).collect(),
            bytes: runtime.memory().len(),
            sha256: Sha256::digest(runtime.memory()).to_vec(),
        },
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &Error) -> Event {
    match error {
        Error::Trap { kind, .. } => Event::Trapped(*kind),
        Error::InvalidModule { .. } => Event::Refused("the module is not valid"),
        Error::Unmet { .. } => Event::Refused("a feature is not offered"),
        Error::TooLarge { .. } | Error::OutOfMemory { .. } => Event::Refused("too large"),
        _ => Event::Refused("in another way"),
    }
}

/// Small, negative and extreme ones in turn.
fn argument(ty: ValueType, round: usize) -> Value {
    let pick = |values: [Value; 3]| values[round % 3];
    match ty {
        ValueType::I32 => pick([7, -1, i32::MIN].map(Value::I32)),
        ValueType::I64 => pick([65_530, -1, i64::MIN].map(Value::I64)),
        ValueType::F32 => pick([1.5, -0.0, f32::INFINITY].map(Value::F32)),
        ValueType::F64 => pick([-2.25, 0.0, 1e300].map(Value::F64)),
        _ => pick([1, u128::MAX, 0x0123_4567_89ab_cdef << 64].map(Value::V128)),
    }
}

/// The bits of a value: NaN is equal to itself.
fn bits(value: Value) -> u128 {
    match value {
        Value::I32(x) => x.cast_unsigned().into(),
        Value::I64(x) => x.cast_unsigned().into(),
        Value::F32(x) => x.to_bits().into(),
        Value::F64(x) => x.to_bits().into(),
        Value::V128(x) => x,
        _ => 0,
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
