//! What goes wrong on the way from a file to a token: a clear error, and nothing else harmed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use polychord::OpenError;
use polychord::api::abi::transformer;
use polychord::api::{self, Engine, Limits, TrapKind, Value};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Error, ErrorKind, Generation, Model, Placement, Sampling, Session, SessionOptions, Transformer,
};

use common::llama::{Llama, Shape};
use common::{alone, each_engine, skip, test_name, transformer};

/// A guest that traps in two ways, and adds.
const TRAPS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "unreachable") unreachable)
    (func (export "far") (drop (i32.load (i32.const 0x7fffffff))))
    (func (export "divide") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
    (func (export "add") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))"#;

/// Wasmer and Wasmtime catch traps by signal handlers that pass on what is not theirs.
#[test]
fn wasmer_and_wasmtime_share_a_process() {
    if !["wasmer", "wasmtime"].iter().all(|name| polychord::available().contains(name)) {
        return skip("Wasmer and Wasmtime are not both compiled in");
    }
    alone(test_name!(), &[], || {
        for _ in 0..3 {
            traps_are_caught(&*open("wasmer").unwrap());
            traps_are_caught(&*open("wasmtime").unwrap());
        }
    });
}

#[cfg(feature = "wasmedge")]
mod wasmedge {
    use polychord::wasmedge::{Mode, WasmEdgeEngine};

    use super::*;

    /// Runs in a process and with a cache of compiled guests of its own.
    fn with_cache(test: &str, body: impl FnOnce()) {
        let cache = tempfile::tempdir().unwrap();
        alone(test, &[("POLYCHORD_CACHE", cache.path().as_ref())], body);
    }

    #[test]
    fn after_compiled_guests_no_other_engine_opens() {
        with_cache("wasmedge::after_compiled_guests_no_other_engine_opens", || {
            let wasmedge = open("wasmedge").unwrap();
            traps_are_caught(&*wasmedge);
            for name in others() {
                let Err(OpenError::Engine(error)) = open(name) else { panic!("{name} opened") };
                assert_conflict(&error, name, "wasmedge");
            }
            traps_are_caught(&*wasmedge);
        });
    }

    #[test]
    #[cfg(feature = "wasmer")]
    fn after_wasmer_guests_are_not_compiled() {
        with_cache("wasmedge::after_wasmer_guests_are_not_compiled", || is_refused_after("wasmer"));
    }

    #[test]
    #[cfg(feature = "wasmtime")]
    fn after_wasmtime_guests_are_not_compiled() {
        with_cache("wasmedge::after_wasmtime_guests_are_not_compiled", || {
            is_refused_after("wasmtime");
        });
    }

    fn is_refused_after(first: &str) {
        let engine = open(first).unwrap();
        traps_are_caught(&*engine);
        let refused = open("wasmedge").unwrap().compile(&wasm(TRAPS)).map(|_| ());
        assert_conflict(&refused.unwrap_err(), "wasmedge", first);
        traps_are_caught(&*engine);
    }

    /// The interpreter needs no signals.
    #[test]
    fn interpreted_guests_share_a_process() {
        with_cache("wasmedge::interpreted_guests_share_a_process", || {
            let interpreter = WasmEdgeEngine::new(Mode::Interpreter).unwrap();
            for _ in 0..2 {
                traps_are_caught(&interpreter);
                for name in others() {
                    traps_are_caught(&*open(name).unwrap());
                }
            }
        });
    }

    fn others() -> impl Iterator<Item = &'static str> {
        polychord::available().into_iter().filter(|name| *name != "wasmedge")
    }

    fn assert_conflict(error: &api::Error, refused: &str, before: &str) {
        let api::Error::SignalConflict { engine, other, exclusive } = error else {
            panic!("{error}")
        };
        assert_eq!((*engine, *other, *exclusive), (refused, before, "wasmedge"));
        assert!(error.to_string().contains("each in a process of its own"), "{error}");
    }
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    each_engine(test_name!(), |engine| {
        for mapped in [false, true] {
            let place = Place::new(engine);
            let len = fs::metadata(&place.path).unwrap().len();
            let model = place.open(mapped);
            let file = OpenOptions::new().write(true).open(&place.path).unwrap();
            file.set_len(len / 2).unwrap();
            let error = place.start(&model).map(|_| ()).unwrap_err();
            let Error::Runtime(api::Error::Truncated { path, now, .. }) = &error else {
                panic!("{error}")
            };
            assert_eq!((path, *now), (&place.path, len / 2));
            file.set_len(0).unwrap();
            let error = Model::open(&place.path).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::Gguf { .. }), "{error}");
        }
    });
}

/// What was opened stays, as everywhere on Unix.
#[test]
#[cfg(unix)]
fn a_file_that_was_removed_can_be_used() {
    each_engine(test_name!(), |engine| {
        let place = Place::new(engine);
        let expected = place.start(&place.open(false)).unwrap().eval(&[1, 2, 3]).unwrap().to_vec();
        let models = [false, true].map(|mapped| place.open(mapped));
        fs::remove_file(&place.path).unwrap();
        for model in models {
            assert_eq!(place.start(&model).unwrap().eval(&[1, 2, 3]).unwrap().to_vec(), expected);
        }
        let error = Model::open(&place.path).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Runtime(api::Error::Io { .. })), "{error}");
        assert!(error.to_string().contains("model.gguf"), "{error}");
    });
}

/// A mapped file is never written to, whatever a guest does to its memory.
#[test]
fn guests_do_not_change_the_file() {
    each_engine(test_name!(), |engine| {
        let place = Place::new(engine);
        let before = fs::read(&place.path).unwrap();
        let module = engine.compile(&wasm(SCRIBBLER)).unwrap();
        let mut runtime = module.instantiate(&Limits::default()).unwrap();
        let bytes = before.len() as u64;
        let memory = runtime.create_memory64(&api::MemorySpec::guest(bytes)).unwrap();
        let (id, name) = (api::LayerId(0), "all".to_owned());
        let (offset, source_offset) = (0, 0);
        let source = source(&place.path);
        let spec = api::LayerSpec::new(id, memory, &source)
            .name(name)
            .offset(offset)
            .part(source_offset, bytes);
        runtime.register_layer(spec).unwrap();
        let len = Value::I32(i32::try_from(bytes).unwrap());
        let first = runtime.call("scribble", &[len]).unwrap();
        assert_eq!(first, [Value::I32(i32::from_le_bytes(*b"GGUF"))]);
        assert_eq!(runtime.call("scribble", &[len]).unwrap(), [Value::I32(-1)]);
        drop(runtime);
        assert!(fs::read(&place.path).unwrap() == before);
    });
}

/// Overwrites a layer and returns what its first word was.
const SCRIBBLER: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "scribble") (param $len i32) (result i32) (local $at i32) (local $was i32)
        (local.set $at (i32.wrap_i64 (call $map (i32.const 0))))
        (local.set $was (i32.load (local.get $at)))
        (memory.fill (local.get $at) (i32.const 0xff) (local.get $len))
        (local.get $was)))"#;

#[test]
fn mistakes_in_a_sequence_leave_it_as_it_was() {
    each_engine(test_name!(), |engine| {
        let place = Place::new(engine);
        let mut session = place.start(&place.open(false)).unwrap();
        session.eval(&[1, 2, 3]).unwrap();
        let mut other = place.start(&place.open(false)).unwrap();
        let expected = other.eval(&[1, 2, 3, 4]).unwrap().to_vec();

        let error = session.eval(&[5, 97]).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Guest { operation: "transformer_embed", .. }), "{error}");
        assert!(error.to_string().contains("vocabulary"), "{error}");
        let error = session.eval(&[]).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::EmptyPrompt), "{error}");
        let error = session.eval(&[0; 126]).map(|_| ()).unwrap_err();
        let Error::ContextFull { asked: 126, used: 3, context: 128, limit: 128 } = error else {
            panic!("{error}")
        };
        assert_eq!(session.position(), 3);
        assert_eq!(session.eval(&[4]).unwrap().to_vec(), expected);
        session.eval(&[0; 124]).unwrap();
        assert!(session.eval(&[0]).is_err(), "the context is full");
    });
}

#[test]
fn a_guest_that_takes_too_long_is_stopped() {
    each_engine(test_name!(), |engine| {
        // Half a second of attention in one call; a watchdog is seldom so late.
        let shape = Shape { context: 4096, ..Shape::of(GgmlType::F16) };
        let place = Place::with(engine, &Llama::random(shape));
        let mut options = SessionOptions::default();
        let limit = Duration::from_millis(1);
        options.batch = 4096;
        options.call_time = Some(limit);
        let session = place.transformer.start(&place.open(false), &options);
        let error = session.and_then(|mut session| session.eval(&[7; 4096]).map(|_| ()));
        match error.unwrap_err() {
            Error::Runtime(api::Error::Trap { kind: TrapKind::DeadlineExceeded(time), .. }) => {
                assert!(engine.capabilities().time_limit);
                assert_eq!(time, limit);
            }
            Error::Runtime(api::Error::Unmet { unmet, .. }) => {
                assert!(!engine.capabilities().time_limit);
                assert_eq!(unmet[0].field, "time_limit");
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn memory_has_limits() {
    each_engine(test_name!(), |engine| {
        // A cache for 2^25 tokens of 2 heads of 16 floats, twice for keys and values.
        let shape = Shape { context: 1 << 25, ..Shape::of(GgmlType::F16) };
        let place = Place::with(engine, &Llama::random(shape));
        let model = place.open(false);
        place.start(&model).unwrap().eval(&[1]).unwrap();
        let mut options = SessionOptions::default();
        options.context = Some(1 << 25);
        let error = place.transformer.start(&model, &options).map(|_| ()).unwrap_err();
        let message = error.to_string();
        for part in ["33554432 tokens", "4294967296 bytes", "shorter context"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        options.context = Some((1 << 25) + 1);
        let error = place.transformer.start(&model, &options).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Context { .. }), "{error}");

        let limits = Limits::default().memory_bytes(65_536);
        let two_pages = wasm(r#"(module (memory (export "memory") 2))"#);
        let error = engine.compile(&two_pages).unwrap().instantiate(&limits).map(|_| ());
        let Err(api::Error::TooLarge { asked: 131_072, limit: 65_536, .. }) = error else {
            panic!("{error:?}")
        };
    });
}

/// The bits of a NaN are not specified, so that engines differ: the guest makes them one.
#[test]
fn nonsense_is_the_same_everywhere_and_not_sampled() {
    each_engine(test_name!(), |engine| {
        let strange = f32::from_bits(0xffc1_2345);
        for (nonsense, tensor) in [
            (strange, "output.weight"),
            (strange, "blk.0.ffn_down.weight"),
            (f32::INFINITY, "blk.0.attn_v.weight"),
        ] {
            let mut model = Llama::random(Shape::of(GgmlType::F32));
            let bytes = &mut model.tensor_mut(tensor).bytes;
            bytes[..4].copy_from_slice(&nonsense.to_le_bytes());
            let place = Place::with(engine, &model);
            let model = place.open(false);
            let mut session = place.start(&model).unwrap();
            let logits = session.eval(&[1, 2, 3]).unwrap().to_vec();
            assert_eq!(logits[0].to_bits(), 0x7fc0_0000, "{nonsense} in {tensor}");
            let all = logits.iter().all(|x| x.is_finite() || x.to_bits() == 0x7fc0_0000);
            assert!(all, "{nonsense} in {tensor}: {logits:?}");
            session.reset();
            let (tokenizer, greedy) = (model.tokenizer().unwrap(), Sampling::greedy());
            let mut generation =
                Generation::new(&mut session, tokenizer, &[1, 2, 3], &greedy, 4).unwrap();
            let error = generation.next().unwrap().unwrap_err();
            assert!(matches!(error, Error::Sampler(_)), "{error}");
            assert!(generation.next().is_none(), "nothing follows an error");
        }
    });
}

/// Norms and biases are small, so they are looked at before anything is computed: an error names the tensor.
#[test]
fn norms_that_are_no_numbers_are_named_before_a_session_starts() {
    each_engine(test_name!(), |engine| {
        for (number, tensor, element) in [
            (f32::NAN, "blk.1.attn_norm.weight", 0),
            (f32::INFINITY, "output_norm.weight", 3),
            (f32::NEG_INFINITY, "blk.0.ffn_norm.weight", 1),
        ] {
            let mut model = Llama::random(Shape::of(GgmlType::F32));
            let bytes = &mut model.tensor_mut(tensor).bytes;
            bytes[element * 4..][..4].copy_from_slice(&number.to_le_bytes());
            let place = Place::with(engine, &model);
            for mapped in [false, true] {
                let error = place.start(&place.open(mapped)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidFile);
                let text = error.to_string();
                assert!(
                    text.contains(&format!("element {element} of tensor {tensor:?}")),
                    "{text}"
                );
                assert!(text.contains("again"), "{text}");
            }
        }
    });
}

#[test]
fn modules_that_are_no_transformer_are_refused() {
    each_engine(test_name!(), |engine| {
        let place = Place::new(engine);
        let error = Transformer::from_wasm(engine, b"not wasm").map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Runtime(api::Error::InvalidModule { .. })), "{error}");
        let start = |wat: &str| {
            let transformer = Transformer::from_wasm(engine, &wasm(wat)).unwrap();
            let error = transformer.start(&place.open(false), &SessionOptions::default());
            error.map(|_| ()).unwrap_err()
        };
        let error = start(TRAPS);
        let Error::Runtime(api::Error::MissingExport { export, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(export, "transformer_version");
        let error = start(&STRANGER.replace("VERSION", "999"));
        assert!(matches!(error, Error::GuestVersion { found: 999, .. }), "{error}");
        // A pointer that is not in its memory.
        let error = start(&STRANGER.replace("VERSION", &transformer::VERSION.to_string()));
        assert!(matches!(error, Error::Guest { operation: "transformer_alloc", .. }), "{error}");
        // Another kind of memory than the placement is about.
        let mut options = SessionOptions::default();
        options.placement = Placement::multi32();
        let transformer = Transformer::from_wasm(engine, &wasm(TRAPS)).unwrap();
        let error = transformer.start(&place.open(false), &options).unwrap_err().to_string();
        assert!(error.contains("built for multi32") && error.contains("for wasm32"), "{error}");
    });
}

/// Says that it is a transformer, and lies about an address.
const STRANGER: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "transformer_version") (result i32) (i32.const VERSION))
    (func (export "transformer_alloc") (param i32) (result i32) (i32.const -16)))"#;

/// A model in a file, and the guest that runs it.
struct Place {
    transformer: Transformer,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(engine: &Arc<dyn Engine>) -> Self {
        Self::with(engine, &Llama::random(Shape::of(GgmlType::F16)))
    }

    fn with(engine: &Arc<dyn Engine>, model: &Llama) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let transformer = transformer(engine);
        Self { transformer, path: model.save(folder.path()), _folder: folder }
    }

    fn open(&self, mapped: bool) -> Model {
        common::open(&self.path, mapped)
    }

    fn start(&self, model: &Model) -> Result<Session, Error> {
        self.transformer.start(model, &SessionOptions::default())
    }
}

#[allow(unsafe_code, reason = "the file is the test's own")]
fn source(path: &Path) -> api::Source {
    // SAFETY: the file belongs to this test alone, and it stays as it is until the guest is dropped.
    unsafe { api::Source::open_mapped(path).unwrap() }
}

fn open(name: &str) -> Result<Arc<dyn Engine>, OpenError> {
    polychord::open(name)
}

/// Every kind of trap ends a call and nothing else.
fn traps_are_caught(engine: &dyn Engine) {
    let module = engine.compile(&wasm(TRAPS)).unwrap();
    let traps = [
        ("unreachable", &[][..], TrapKind::Unreachable),
        ("far", &[], TrapKind::MemoryOutOfBounds),
        ("divide", &[Value::I32(0)], TrapKind::IntegerDivisionByZero),
    ];
    for (export, args, expected) in traps {
        let mut runtime = module.instantiate(&Limits::default()).unwrap();
        let error = runtime.call(export, args).unwrap_err();
        let api::Error::Trap { kind, .. } = error else { panic!("{error}") };
        assert_eq!(kind, expected, "{}", engine.capabilities().engine);
        assert_eq!(runtime.call("add", &[Value::I32(1)]).unwrap(), [Value::I32(2)]);
    }
}

fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}
