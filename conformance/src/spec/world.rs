//! The instances of a script, linked as far as they import from each other.
//!
//! What shares something runs as one guest ([`super::link`]). A script may link an instance
//! that has been running: then the guest that has both is brought to the same state by doing
//! again all that was done, which is possible because the scripts are deterministic.

use std::collections::{BTreeSet, HashMap};

use polychord_runtime_api::{Engine, Error, Limits, ModuleInfo, Result, Runtime, Value};

use super::external::Interface;
use super::link::{self, Part};
use super::verdict::Verdict;

/// Number of an instance.
pub(super) type Id = usize;

pub(super) struct World<'a> {
    engine: &'a dyn Engine,
    instances: Vec<Instance>,
    guests: Vec<Option<Guest>>,
    /// What can be imported by these names.
    registered: HashMap<String, std::result::Result<Id, Verdict>>,
    /// The instances of the module `spectest` that are used.
    spectest: HashMap<&'static str, Id>,
}

struct Instance {
    wasm: Vec<u8>,
    interface: Interface,
    imports: Vec<(Id, String)>,
    /// Where it runs, if it does.
    guest: Option<usize>,
}

/// Instances that run together.
struct Guest {
    parts: Vec<Id>,
    log: Vec<Event>,
    runtime: Box<dyn Runtime>,
    /// Whether it is a linked module, or the only part's own.
    linked: bool,
}

#[derive(Clone)]
enum Event {
    Start(Id),
    Call(Id, String, Vec<Value>),
}

/// Why there is no instance.
pub(super) enum Stop {
    /// The engine or Polychord refused it, or it trapped.
    Error(Error),
    /// An import has nothing that fits: what the scripts call this.
    Unlinkable(&'static str),
    /// A module that it imports from is not available.
    Missing(Verdict),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl<'a> World<'a> {
    pub(super) fn new(engine: &'a dyn Engine) -> Self {
        Self {
            engine,
            instances: Vec::new(),
            guests: Vec::new(),
            registered: HashMap::new(),
            spectest: HashMap::new(),
        }
    }

    /// Instantiates a module.
    pub(super) fn start(&mut self, wasm: &[u8]) -> std::result::Result<Id, Stop> {
        // What imports something is compiled with that in one module.
        let info = ModuleInfo::parse(wasm, self.engine.capabilities())?;
        if info.imports().is_empty() {
            let runtime = self.engine.compile(wasm)?.instantiate(&limits())?;
            let id = self.add(wasm, Vec::new());
            let log = vec![Event::Start(id)];
            self.run(Guest { parts: vec![id], log, runtime, linked: false });
            return Ok(id);
        }
        let imports = self.resolve(wasm)?;
        let id = self.add(wasm, imports);
        self.link(id)?;
        Ok(id)
    }

    /// Lets others import from an instance.
    pub(super) fn register(&mut self, name: &str, instance: std::result::Result<Id, Verdict>) {
        self.registered.insert(name.to_owned(), instance);
    }

    /// Calls an exported function; none if its type is beyond the API.
    pub(super) fn call(
        &mut self,
        id: Id,
        export: &str,
        args: &[Value],
    ) -> Option<Result<Vec<Value>>> {
        let guest = self.guest(id)?;
        let name = guest.call_name(id, export);
        if !guest.runtime.host().module().functions().contains_key(&name) {
            return None;
        }
        guest.log.push(Event::Call(id, export.to_owned(), args.to_vec()));
        Some(guest.runtime.call(&name, args))
    }

    /// The value of an exported global, or the size of an exported memory or table.
    pub(super) fn read(&mut self, id: Id, export: &str) -> Result<Vec<Value>> {
        let number = self.instances[id].guest;
        if number
            .is_none_or(|number| self.guests[number].as_ref().is_none_or(|guest| !guest.linked))
        {
            let (parts, log) = self.take(id);
            let runtime = self.build(&parts, &log)?;
            self.run(Guest { parts, log, runtime, linked: true });
        }
        let Some(guest) = self.guest(id) else { return Ok(Vec::new()) };
        let name = link::read_name(guest.position(id), export);
        guest.runtime.call(&name, &[])
    }

    fn guest(&mut self, id: Id) -> Option<&mut Guest> {
        self.guests[self.instances[id].guest?].as_mut()
    }

    fn add(&mut self, wasm: &[u8], imports: Vec<(Id, String)>) -> Id {
        let mut interface = Interface::of(wasm).unwrap_or_default();
        interface.stateless &=
            imports.iter().all(|(from, _)| self.instances[*from].interface.stateless);
        self.instances.push(Instance { wasm: wasm.to_vec(), interface, imports, guest: None });
        self.instances.len() - 1
    }

    fn run(&mut self, guest: Guest) {
        for id in &guest.parts {
            // What has no state may have copies elsewhere; one of them is called.
            let runs =
                self.instances[*id].guest.is_some_and(|number| self.guests[number].is_some());
            if !self.instances[*id].interface.stateless || !runs {
                self.instances[*id].guest = Some(self.guests.len());
            }
        }
        self.guests.push(Some(guest));
    }

    /// Where each import comes from.
    fn resolve(&mut self, wasm: &[u8]) -> std::result::Result<Vec<(Id, String)>, Stop> {
        let Ok(interface) = Interface::of(wasm) else { return Err(Stop::Unlinkable("invalid")) };
        let mut resolved = Vec::new();
        for (module, name, wanted) in interface.imports {
            let from = match self.registered.get(&module).cloned() {
                Some(instance) => instance.map_err(Stop::Missing)?,
                None if module == "spectest" => self.spectest(&name).ok_or(UNKNOWN)?,
                None => return Err(UNKNOWN),
            };
            let export =
                self.instances[from].interface.exports.get(&name).cloned().ok_or(UNKNOWN)?;
            let size = || match self.read(from, &name).ok()?.first()? {
                Value::I32(size) => Some(size.cast_unsigned().into()),
                Value::I64(size) => Some(size.cast_unsigned()),
                _ => None,
            };
            if !wanted.accepts(&export, size) {
                return Err(Stop::Unlinkable("incompatible import type"));
            }
            resolved.push((from, name));
        }
        Ok(resolved)
    }

    /// The instance of `spectest` that has this export. They are several, so that who imports
    /// a function does not share a memory.
    fn spectest(&mut self, export: &str) -> Option<Id> {
        let wat = match export {
            "memory" => SPECTEST_MEMORY,
            "table" => SPECTEST_TABLE,
            "table64" => SPECTEST_TABLE64,
            _ => SPECTEST_VALUES,
        };
        if !self.spectest.contains_key(wat) {
            let id = self.add(&wat::parse_str(wat).ok()?, Vec::new());
            self.spectest.insert(wat, id);
        }
        self.spectest.get(wat).copied()
    }

    /// Makes a guest of an instance and all that it shares something with, and starts it there.
    fn link(&mut self, id: Id) -> Result<()> {
        let (mut parts, mut log) = (BTreeSet::from([id]), Vec::new());
        let sources: Vec<_> = self.instances[id].imports.iter().map(|(from, _)| *from).collect();
        let (stateless, shared): (Vec<_>, Vec<_>) =
            sources.into_iter().partition(|from| self.instances[*from].interface.stateless);
        for from in shared {
            if !parts.contains(&from) {
                let (with, done) = self.take(from);
                parts.extend(with);
                log.extend(done);
            }
        }
        parts.extend(self.closure(stateless));
        let parts: Vec<_> = parts.into_iter().collect();
        let mut runtime = self.build(&parts, &log)?;
        let position = parts.iter().position(|part| *part == id).unwrap_or(0);
        let started = runtime.call(&link::start_name(position), &[]);
        log.push(Event::Start(id));
        self.run(Guest { parts, log, runtime, linked: true });
        started.map(drop)
    }

    /// Takes the guest apart that an instance is in.
    fn take(&mut self, id: Id) -> (Vec<Id>, Vec<Event>) {
        let guest = self.instances[id].guest.and_then(|number| self.guests[number].take());
        // A module that was not started yet.
        guest.map_or_else(|| (vec![id], vec![Event::Start(id)]), |guest| (guest.parts, guest.log))
    }

    /// These instances and all that they import from.
    fn closure(&self, mut ids: Vec<Id>) -> BTreeSet<Id> {
        let mut all = BTreeSet::new();
        while let Some(id) = ids.pop() {
            if all.insert(id) {
                ids.extend(self.instances[id].imports.iter().map(|(from, _)| *from));
            }
        }
        all
    }

    /// One guest with these instances, in the state that the events lead to.
    fn build(&self, parts: &[Id], log: &[Event]) -> Result<Box<dyn Runtime>> {
        let position = |id: Id| parts.iter().position(|part| *part == id).unwrap_or(0);
        let part = |id: &Id| {
            let Instance { wasm, imports, .. } = &self.instances[*id];
            let imports = imports.iter().map(|(from, name)| (position(*from), name.as_str()));
            Part { wasm, imports: imports.collect() }
        };
        let wasm = link::link(&parts.iter().map(part).collect::<Vec<_>>());
        let wasm = wasm.map_err(|error| Error::Instantiate {
            engine: self.engine.capabilities().engine,
            reason: format!("the suite could not link it: {error}"),
        })?;
        let mut runtime = self.engine.compile(&wasm)?.instantiate(&limits())?;
        for event in log {
            // What trapped does so again.
            _ = match event {
                Event::Start(id) => runtime.call(&link::start_name(position(*id)), &[]),
                Event::Call(id, export, args) => {
                    runtime.call(&link::call_name(position(*id), export), args)
                }
            };
        }
        Ok(runtime)
    }
}

impl Guest {
    fn position(&self, id: Id) -> usize {
        self.parts.iter().position(|part| *part == id).unwrap_or(0)
    }

    fn call_name(&self, id: Id, export: &str) -> String {
        if self.linked { link::call_name(self.position(id), export) } else { export.to_owned() }
    }
}

/// As large as the engine allows, which is what the scripts expect.
fn limits() -> Limits {
    Limits::default()
        .memory_bytes(u64::MAX)
        .total_bytes(u64::MAX)
        .memories(u32::MAX)
        .tables(u32::MAX)
        .table_elements(u64::MAX)
}

const UNKNOWN: Stop = Stop::Unlinkable("unknown import");

const SPECTEST_MEMORY: &str = r#"(module (memory (export "memory") 1 2))"#;
const SPECTEST_TABLE: &str = r#"(module (table (export "table") 10 20 funcref))"#;
const SPECTEST_TABLE64: &str = r#"(module (table (export "table64") i64 10 20 funcref))"#;
const SPECTEST_VALUES: &str = r#"(module
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

#[cfg(test)]
mod tests {
    use polychord_backend_wasmtime::WasmtimeEngine;
    use polychord_runtime_api::TrapKind;

    use super::*;

    const COUNTER: &str = r#"(module
        (memory (export "memory") 1 4) (table (export "table") 2 funcref)
        (global $count (export "count") (mut i32) (i32.const 40))
        (func (export "next") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (drop (memory.grow (i32.const 1)))
            (global.get $count))
        (func (export "load") (result i32) (i32.load8_u (i32.const 7))))"#;

    /// A world in which a module has been running under the name `counter`.
    fn world(engine: &dyn Engine) -> (World<'_>, Id) {
        let mut world = World::new(engine);
        let counter = start(&mut world, COUNTER).unwrap_or_else(|_| panic!("is not started"));
        assert_eq!(number(&mut world, counter, "next"), 41);
        world.register("counter", Ok(counter));
        (world, counter)
    }

    fn start(world: &mut World<'_>, wat: &str) -> std::result::Result<Id, Stop> {
        world.start(&wat::parse_str(wat).unwrap())
    }

    fn number(world: &mut World<'_>, id: Id, export: &str) -> i32 {
        world.call(id, export, &[]).unwrap().unwrap()[0].as_i32().unwrap()
    }

    #[test]
    fn an_importer_shares_the_state_of_what_has_been_running() {
        let engine = WasmtimeEngine::new().unwrap();
        let (mut world, counter) = world(&engine);
        let importer = r#"(module
            (import "counter" "next" (func $next (result i32)))
            (import "counter" "count" (global $count (mut i32)))
            (import "spectest" "global_i32" (global $base i32))
            (import "counter" "memory" (memory 2))
            (data (i32.const 7) "*")
            (global $copy i32 (global.get $base))
            (func (export "twice") (result i32)
                (drop (call $next)) (i32.add (call $next) (i32.mul (global.get $copy) (i32.const 0))))
            (func (export "count") (result i32) (global.get $count)))"#;
        let importer = start(&mut world, importer).unwrap_or_else(|_| panic!("is not linked"));
        assert_eq!(number(&mut world, importer, "twice"), 43);
        assert_eq!(number(&mut world, counter, "next"), 44);
        assert_eq!(number(&mut world, importer, "count"), 44);
        assert_eq!(number(&mut world, counter, "load"), i32::from(b'*'));
        assert_eq!(world.read(counter, "count").unwrap()[0].as_i32(), Some(44));
    }

    #[test]
    fn what_a_part_did_before_it_trapped_stays() {
        let engine = WasmtimeEngine::new().unwrap();
        let (mut world, counter) = world(&engine);
        let trapping = r#"(module (import "counter" "memory" (memory 1))
            (data (i32.const 7) "+") (func $main unreachable) (start $main))"#;
        let stopped = start(&mut world, trapping);
        let kind = |stop| match stop {
            Err(Stop::Error(Error::Trap { kind, .. })) => Some(kind),
            _ => None,
        };
        assert_eq!(kind(stopped), Some(TrapKind::Unreachable));
        assert_eq!(number(&mut world, counter, "load"), i32::from(b'+'));
        assert_eq!(number(&mut world, counter, "next"), 42);
    }

    #[test]
    fn what_does_not_fit_is_not_linked() {
        let engine = WasmtimeEngine::new().unwrap();
        let (mut world, _) = world(&engine);
        for (import, why) in [
            (r#""counter" "nothing" (func)"#, "unknown import"),
            (r#""missing" "next" (func (result i32))"#, "unknown import"),
            (r#""counter" "next" (func)"#, "incompatible import type"),
            (r#""counter" "next" (memory 1)"#, "incompatible import type"),
            (r#""counter" "count" (global i32)"#, "incompatible import type"),
            (r#""counter" "memory" (memory 3)"#, "incompatible import type"),
            (r#""counter" "memory" (memory 1 3)"#, "incompatible import type"),
            (r#""counter" "memory" (memory i64 1)"#, "incompatible import type"),
            (r#""counter" "table" (table 2 2 funcref)"#, "incompatible import type"),
        ] {
            match start(&mut world, &format!("(module (import {import}))")) {
                Err(Stop::Unlinkable(got)) => assert_eq!(got, why, "{import}"),
                _ => panic!("{import} was linked"),
            }
        }
        for import in
            [r#""counter" "memory" (memory 2 4)"#, r#""counter" "table" (table 1 funcref)"#]
        {
            let linked = start(&mut world, &format!("(module (import {import}))"));
            assert!(linked.is_ok(), "{import} was not linked");
        }
    }
}
