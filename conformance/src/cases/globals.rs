//! Globals: exported ones, and those that the host makes.

use polychord_runtime_api::imports::{GlobalType, HostError, Imports};
use polychord_runtime_api::{Engine, Error, Instantiation, Limits, Value, ValueType};

use crate::check::{equal, holds, refused};
use crate::guest::{self, NOTHING};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "globals/exported",
        promise: "exported globals of every type are read and set by name, with all their bits",
        needs: NOTHING,
        run: exported,
    },
    Case {
        name: "globals/imported",
        promise: "a global that the host gives is the guest's own, begins as given, and is shared with the host",
        needs: NOTHING,
        run: imported,
    },
    Case {
        name: "globals/refused",
        promise: "a global that is missing, constant, of another type or of references is refused",
        needs: NOTHING,
        run: refusals,
    },
    Case {
        name: "globals/in_a_function",
        promise: "a function of the host reads and sets globals of the guest that has called it",
        needs: NOTHING,
        run: in_a_function,
    },
];

const VALUES: [Value; 5] = [
    Value::I32(-7),
    Value::I64(i64::MIN + 1),
    Value::F32(-0.5),
    Value::F64(1e300),
    Value::V128(u128::MAX / 7),
];

/// Exported globals of every type are read and set by name, with all their bits.
pub fn exported(engine: &dyn Engine) -> Outcome {
    let mut text = String::new();
    for ty in VALUES.map(Value::ty) {
        let zero =
            if ty == ValueType::V128 { "v128.const i64x2".into() } else { format!("{ty}.const") };
        let first = if ty == ValueType::V128 { "3 0" } else { "3" };
        text += &format!(
            r#"(global ${ty} (export "{ty}") (mut {ty}) ({zero} {first}))
            (func (export "get {ty}") (result {ty}) (global.get ${ty}))
            (func (export "set {ty}") (param {ty}) (global.set ${ty} (local.get 0)))"#
        );
    }
    let mut runtime = guest::start(engine, &format!("(module {text})"))?;
    equal("at the start", runtime.global("i64")?, Value::I64(3))?;
    equal("a vector at the start", runtime.global("v128")?, Value::V128(3))?;
    for value in VALUES {
        let name = value.ty().name();
        runtime.set_global(name, value)?;
        equal("set by the host", runtime.call(&format!("get {name}"), &[])?, vec![value])?;
        runtime.call(&format!("set {name}"), &[value.ty().zero()])?;
        equal("set by the guest", runtime.global(name)?, value.ty().zero())?;
    }
    Ok(())
}

/// A global that the host gives is the guest's own, begins as given, and is shared with the host.
pub fn imported(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports
        .global("host", "base", GlobalType::new(ValueType::I32), 1_024)?
        .global("host", "count", GlobalType::new(ValueType::I64).mutable(), 5_i64)?
        .global("other", "count", GlobalType::new(ValueType::F32).mutable(), 0.25_f32)?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "base" (global $base i32))
            (import "host" "count" (global $count (mut i64)))
            (import "other" "count" (global $other (mut f32)))
            (memory (export "memory") 1) (data (global.get $base) "here")
            (export "again" (global $count))
            (func (export "next") (result i64)
                (global.set $count (i64.add (global.get $count) (i64.const 1)))
                (global.get $count)))"#,
    )?;
    let limits = Limits::default();
    let begin = || module.instantiate_with(Instantiation::new(&limits).imports(&imports));
    let (mut one, mut other) = (begin()?, begin()?);
    equal("the place of data", &one.memory()[1_024..1_028], &b"here"[..])?;
    equal("the first", one.call("next", &[])?, vec![Value::I64(6)])?;
    one.set_global("count", Value::I64(50))?;
    equal("set by the host", one.call("next", &[])?, vec![Value::I64(51)])?;
    equal("by its other name", one.global("again")?, Value::I64(51))?;
    equal("of the other guest", other.global("host.count")?, Value::I64(5))?;
    equal("of the other module", one.global("other.count")?, Value::F32(0.25))?;
    equal("a constant", one.global("base")?, Value::I32(1_024))?;
    let constant = refused(one.set_global("base", Value::I32(1)), &["base", "i32"])?;
    holds(matches!(constant, Error::GlobalType { .. }), || constant.to_string())?;
    let wrong = Imports::new().global("host", "g", GlobalType::new(ValueType::I32), 1_i64).err();
    holds(matches!(wrong, Some(Error::Import { .. })), || format!("{wrong:?}"))
}

/// A global that is missing, constant, of another type or of references is refused.
pub fn refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(
        engine,
        r#"(module (global (export "fixed") i32 (i32.const 4))
            (global (export "free") (mut i64) (i64.const 4))
            (global (export "reference") (mut funcref) (ref.null func))
            (func (export "function")))"#,
    )?;
    for name in ["nothing", "reference", "function", ""] {
        let error = refused(runtime.global(name), &["fixed", "free"])?;
        holds(matches!(error, Error::MissingGlobal { .. }), || error.to_string())?;
    }
    for (name, value) in
        [("fixed", Value::I32(1)), ("free", Value::I32(1)), ("free", Value::F64(1.0))]
    {
        let error = refused(runtime.set_global(name, value), &[name, value.ty().name()])?;
        holds(matches!(error, Error::GlobalType { .. }), || error.to_string())?;
    }
    equal("as it was", runtime.global("fixed")?, Value::I32(4))?;
    equal("as it was", runtime.global("free")?, Value::I64(4))
}

/// A function of the host reads and sets globals of the guest that has called it.
pub fn in_a_function(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.global("host", "step", GlobalType::new(ValueType::I32).mutable(), 10)?.function(
        "host",
        "move",
        |caller, (): ()| {
            let step = caller.global("step")?.as_i32().ok_or(HostError::new("no step"))?;
            let at = caller.global("at")?.as_i32().ok_or(HostError::new("no place"))?;
            caller.set_global("at", Value::I32(at + step))?;
            caller.set_global("step", Value::I32(step + 1))?;
            Ok::<_, HostError>(i32::from(caller.set_global("at", Value::I64(0)).is_err()))
        },
    )?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "step" (global $step (mut i32)))
            (import "host" "move" (func $move (result i32)))
            (global $at (export "at") (mut i32) (i32.const 1))
            (func (export "run") (result i32 i32 i32)
                (call $move) (global.get $at) (global.get $step)))"#,
    )?;
    let limits = Limits::default();
    let mut runtime = module.instantiate_with(Instantiation::new(&limits).imports(&imports))?;
    let first = runtime.call("run", &[])?;
    equal("first", first, [1, 11, 11].map(Value::I32).to_vec())?;
    let second = runtime.call("run", &[])?;
    equal("second", second, [1, 22, 12].map(Value::I32).to_vec())?;
    let none = runtime.global("move").err();
    none.map(|_| ()).ok_or_else(|| Failure::new("a function was read as a global"))
}
