//! Imports and exports by name and type.

use polychord_runtime_api::abi::import;
use polychord_runtime_api::imports::{GlobalType, Imports, MemoryType};
use polychord_runtime_api::{Engine, Error, Value, ValueType};

use super::start::{nothing, start};
use crate::check::{equal, holds, refused};
use crate::guest;
use crate::{Failure, Outcome};

/// A module tells all that it imports and exports, also what no host could use.
pub fn described(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(
        engine,
        r#"(module
            (import "a" "f" (func (param i32 i64) (result f32 f64)))
            (import "a" "refs" (func (param funcref)))
            (import "b" "g" (global (mut i64)))
            (import "b" "r" (global funcref))
            (import "c" "m" (memory 1 4))
            (import "c" "t" (table 1 9 funcref))
            (func (export "run") (param v128))
            (global (export "count") i32 (i32.const 1))
            (table (export "table") 2 funcref)
            (export "memory" (memory 0)))"#,
    )?;
    let imports: Vec<_> = module
        .imports()
        .iter()
        .map(|import| format!("{}.{}: {}", import.module, import.name, import.ty))
        .collect();
    let expected = [
        "a.f: a function (i32, i64) -> (f32, f64)",
        "a.refs: a function of type (funcref) -> ()",
        "b.g: a global of type mut i64",
        "b.r: a global of type funcref",
        "c.m: a memory of 1 to 4 pages",
        "c.t: a table of funcref with 1 to 9 elements",
    ];
    equal("imports", imports.iter().map(String::as_str).collect::<Vec<_>>(), expected.to_vec())?;
    let exports: Vec<_> =
        module.exports().iter().map(|export| format!("{}: {}", export.name, export.ty)).collect();
    let expected = [
        "run: a function (v128) -> ()",
        "count: a global of type i32",
        "table: a table of funcref with 2 or more elements",
        "memory: a memory of 1 to 4 pages",
    ];
    equal("exports", exports.iter().map(String::as_str).collect::<Vec<_>>(), expected.to_vec())?;
    let says = ["a.refs", "references", "b.r", "c.t", "tables"];
    refused(module.instantiate(&polychord_runtime_api::Limits::default()), &says)?;
    Ok(())
}

/// Every import that is missing or of another type is listed, with similar names.
pub fn every_mismatch(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module
        (import "host" "log" (func (param i32)))
        (import "host" "lgo" (func (param i32)))
        (import "other" "log" (func (param i32)))
        (import "host" "size" (global i32))
        (import "host" "wide" (global i64))
        (import "host" "const" (global i32))
        (import "host" "fine" (func))
        (import "nowhere" "x" (memory 1)))"#;
    let mut imports = Imports::new();
    imports
        .function("host", "log", |_, (_,): (i64,)| ())?
        .function("host", "fine", nothing)?
        .function("host", "size", nothing)?
        .global("host", "wide", GlobalType::new(ValueType::I32), 1)?
        .global("host", "const", GlobalType::new(ValueType::I32).mutable(), 1)?;
    let says = ["(i64) -> ()", "(i32) -> ()", "similar are host.log", "mut i32", "nowhere"];
    // `start` passes errors on as failures, of which the text is looked at.
    let module = guest::compile(engine, wat)?;
    let limits = polychord_runtime_api::Limits::default();
    let with = polychord_runtime_api::Instantiation::new(&limits).imports(&imports);
    match refused(module.instantiate_with(with), &says)? {
        Error::Imports { unmatched } => {
            let names: Vec<_> =
                unmatched.iter().map(|it| format!("{}.{}", it.module, it.name)).collect();
            let expected = [
                "host.log",
                "host.lgo",
                "other.log",
                "host.size",
                "host.wide",
                "host.const",
                "nowhere.x",
            ];
            equal("what does not match", names, expected.map(str::to_owned).to_vec())
        }
        other => Err(Failure::new(other.to_string())),
    }
}

/// The same name cannot be given twice, nor can a function of `env` be replaced.
///
/// Whatever the engine: but a program meets it with one.
pub fn given_twice(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "f", nothing)?;
    let name = |error| match error {
        Error::Import { module, name, .. } => Ok((module, name)),
        other => Err(Failure::new(other.to_string())),
    };
    let twice = || Some(("host".to_owned(), "f".to_owned()));
    let again = imports.clone().function("host", "f", nothing).err().map(name).transpose()?;
    equal("a function twice", again, twice())?;
    let memory = imports.clone().memory("host", "f", MemoryType::new(1)).err();
    equal("a memory by the same name", memory.map(name).transpose()?, twice())?;
    let merged = imports.clone().extend(&imports).err();
    equal("both of two", merged.map(name).transpose()?, twice())?;
    let own = imports.function("env", import::READ, nothing).err();
    let expected = Some(("env".to_owned(), import::READ.to_owned()));
    equal("a function of env", own.map(name).transpose()?, expected)?;
    // What was refused has changed nothing.
    let wat = r#"(module (import "host" "f" (func $f)) (func (export "run") (call $f)))"#;
    start(engine, wat, &imports)?.call("run", &[])?;
    Ok(())
}

/// Functions of the user stand beside those of `env` in the same module.
pub fn reserved(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("env", "answer", |_, (): ()| 42)?;
    let mut runtime = start(
        engine,
        r#"(module (import "env" "answer" (func $answer (result i32)))
            (import "env" "memory64_is_enabled" (func $enabled (result i32)))
            (func (export "both") (result i32 i32) (call $answer) (call $enabled)))"#,
        &imports,
    )?;
    equal("both", runtime.call("both", &[])?, vec![Value::I32(42), Value::I32(0)])
}

/// What a module imports twice is the same thing twice.
pub fn twice_imported(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "f", |_, (): ()| 5)?.global(
        "host",
        "g",
        GlobalType::new(ValueType::I32).mutable(),
        1,
    )?;
    let mut runtime = start(
        engine,
        r#"(module
            (import "host" "f" (func $f (result i32))) (import "host" "g" (global $g (mut i32)))
            (import "host" "f" (func $again (result i32))) (import "host" "g" (global $h (mut i32)))
            (func (export "run") (result i32 i32 i32)
                (global.set $g (i32.const 7)) (call $f) (call $again) (global.get $h)))"#,
        &imports,
    )?;
    let expected = [5, 5, 7].map(Value::I32).to_vec();
    equal("results", runtime.call("run", &[])?, expected)
}

/// What a guest does not import does not matter to it.
pub fn unused(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports
        .function("host", "unused", nothing)?
        .memory("host", "memory", MemoryType::new(1 << 40))?
        .global("other", "g", GlobalType::new(ValueType::V128), 1_u128)?;
    let runtime = start(engine, r#"(module (memory (export "memory") 1))"#, &imports)?;
    holds(runtime.memory().len() == 65_536, || "another memory".into())
}
