//! Which modules are compiled, and why others are not.

use polychord_runtime_api::imports::{LAYER_FUNCTIONS, Unmatched};
use polychord_runtime_api::{
    AddressType, Engine, Error, Limits, Memory64, ModuleLimits, RelaxedSimd, Value,
};

use crate::check::{equal, holds, refused, unmet};
use crate::guest::{self, MEMORY64, NOTHING};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "compile/not_a_module",
        promise: "bytes that are not a module are refused as invalid",
        needs: NOTHING,
        run: not_a_module,
    },
    Case {
        name: "compile/truncated",
        promise: "a module that ends too early is refused, wherever it ends",
        needs: NOTHING,
        run: truncated,
    },
    Case {
        name: "compile/corrupted",
        promise: "a module with a wrong byte is compiled or refused, but does no harm",
        needs: NOTHING,
        run: corrupted,
    },
    Case {
        name: "compile/missing_import",
        promise: "an import that no host offers is named, with those that are offered",
        needs: NOTHING,
        run: missing_import,
    },
    Case {
        name: "compile/import_signature",
        promise: "an import of another type is refused with both types",
        needs: NOTHING,
        run: import_signature,
    },
    Case {
        name: "compile/import_signature_wasm64",
        promise: "pointers of imports are as wide as the guest's addresses",
        needs: MEMORY64,
        run: import_signature_wasm64,
    },
    Case {
        name: "compile/import_kind",
        promise: "a memory, a global or a table that the host does not give is refused, by whatever name",
        needs: NOTHING,
        run: import_kind,
    },
    Case {
        name: "compile/beyond_the_accepted",
        promise: "a proposal that Polychord does not accept is refused, whatever the engine has",
        needs: NOTHING,
        run: beyond_the_accepted,
    },
    Case {
        name: "compile/every_missing_feature_is_listed",
        promise: "a module that needs more than the engine has is refused with all that is missing",
        needs: NOTHING,
        run: every_missing_feature_is_listed,
    },
    Case {
        name: "compile/too_complex",
        promise: "a module that could take too much to compile is refused with numbers",
        needs: NOTHING,
        run: too_complex,
    },
    Case {
        name: "compile/info",
        promise: "imports, exports and the memory are known before anything is started",
        needs: NOTHING,
        run: info,
    },
    Case {
        name: "compile/instances_are_independent",
        promise: "one compiled module makes many guests that share nothing",
        needs: NOTHING,
        run: instances_are_independent,
    },
    Case {
        name: "compile/names_itself",
        promise: "an engine states its name, its version, and how it runs guests",
        needs: NOTHING,
        run: names_itself,
    },
];

const SMALL: &str = r#"(module
    (import "env" "memory64_is_enabled" (func $enabled (result i32)))
    (memory (export "memory") 1 4)
    (global $count (mut i32) (i32.const 0))
    (table 2 funcref)
    (elem (i32.const 0) $enabled $next)
    (data (i32.const 8) "polychord")
    (func $next (export "next") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store (i32.const 64) (global.get $count))
        (global.get $count)))"#;

/// A module that could take too much to compile is refused with numbers.
pub fn too_complex(engine: &dyn Engine) -> Outcome {
    let nested = |loops: usize| {
        let (open, close) = ("loop ".repeat(loops), "end ".repeat(loops));
        wat::parse_str(format!("(module (func nop) (func {open} {close}))"))
    };
    engine.compile(&nested(100)?)?;
    let error = refused(engine.compile(&nested(101)?), &["function 1", "101", "100"])?;
    holds(matches!(error, Error::TooComplex { .. }), || error.to_string())?;
    engine.compile_within(&nested(101)?, &ModuleLimits::trusted())?;
    Ok(())
}

/// Bytes that are not a module are refused as invalid.
pub fn not_a_module(engine: &dyn Engine) -> Outcome {
    let component = wat::parse_str("(component)")?;
    let bad: [&[u8]; 6] =
        [b"", b"\0", b"\0asm", b"\0asm\x02\0\0\0", b"\x7fELF and so on", &component];
    for bytes in bad {
        invalid(engine.compile(bytes))?;
    }
    Ok(())
}

/// A module that ends too early is refused, wherever it ends.
pub fn truncated(engine: &dyn Engine) -> Outcome {
    let wasm = wat::parse_str(SMALL)?;
    engine.compile(&wasm)?;
    let mut whole = 0;
    for len in 0..wasm.len() {
        match engine.compile(&wasm[..len]) {
            Ok(_) => whole += 1,
            error => invalid(error)?,
        }
    }
    // Without its last sections a module may be one still, but not from the functions on,
    // whose code is missing: the header alone, the types, the imports; then the code, the data.
    holds(whole <= 5, || format!("{whole} beginnings of a module were compiled"))
}

/// A module with a wrong byte is compiled or refused, but does no harm.
pub fn corrupted(engine: &dyn Engine) -> Outcome {
    let wasm = wat::parse_str(SMALL)?;
    for at in 0..wasm.len() {
        for flip in [0x01, 0x40, 0x80, 0xff] {
            let mut wasm = wasm.clone();
            wasm[at] ^= flip;
            if let Err(error) = engine.compile(&wasm) {
                let expected = matches!(error, Error::InvalidModule { .. } | Error::Unmet { .. });
                // A valid module may be more than an engine can bear; that it says so is enough.
                let too_much = matches!(error, Error::Compile { .. });
                holds(expected || too_much, || format!("byte {at} ^ {flip}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// An import that no host offers is named, with those that are offered.
pub fn missing_import(engine: &dyn Engine) -> Outcome {
    for (module, name) in [
        ("env", "nothing"),
        ("env", ""),
        ("wasi_snapshot_preview1", "fd_write"),
        ("ENV", "memory64_read"),
    ] {
        let wasm = wat::parse_str(format!(r#"(module (import "{module}" "{name}" (func)))"#))?;
        let compiled = engine.compile(&wasm)?;
        let says: Vec<_> = match module {
            "env" => LAYER_FUNCTIONS.iter().map(|offer| offer.name).collect(),
            "ENV" => vec!["env.memory64_read"],
            _ => vec!["Imports"],
        };
        match refused(compiled.instantiate(&Limits::default()), &says)? {
            Error::Imports { unmatched } => {
                let names = |import: &Unmatched| (import.module.clone(), import.name.clone());
                let got: Vec<_> = unmatched.iter().map(names).collect();
                equal("the imports", got, vec![(module.to_owned(), name.to_owned())])?;
            }
            other => return Err(Failure::new(other.to_string())),
        }
    }
    Ok(())
}

/// An import of another type is refused with both types.
pub fn import_signature(engine: &dyn Engine) -> Outcome {
    let read = "(i64, i32, i32) -> (i32)";
    for (ty, expected, given) in [
        ("memory64_read\" (func (param i64 i32) (result i32))", read, "(i64, i32) -> (i32)"),
        ("memory64_read\" (func (param i64 i32 i32))", read, "(i64, i32, i32) -> ()"),
        (
            "memory64_read\" (func (param i64 i64 i64) (result i32))",
            read,
            "(i64, i64, i64) -> (i32)",
        ),
        ("memory64_is_enabled\" (func (result funcref))", "() -> (i32)", "() -> (funcref)"),
    ] {
        let wasm = wat::parse_str(format!("(module (import \"env\" \"{ty}))"))?;
        let compiled = engine.compile(&wasm)?;
        let error = refused(compiled.instantiate(&Limits::default()), &[expected, given])?;
        holds(matches!(error, Error::Imports { .. }), || error.to_string())?;
    }
    Ok(())
}

/// Pointers of imports are as wide as the guest's addresses.
pub fn import_signature_wasm64(engine: &dyn Engine) -> Outcome {
    let module = |pointer: &str| {
        let memory = r#"(memory (export "memory") i64 1)"#;
        let ty = format!("(func (param i64 {pointer} {pointer}) (result i32))");
        wat::parse_str(format!(r#"(module (import "env" "memory64_read" {ty}) {memory})"#))
    };
    let compiled = engine.compile(&module("i64")?)?;
    equal("addresses", compiled.info().address(), AddressType::I64)?;
    let says = ["(i64, i64, i64) -> (i32)", "(i64, i32, i32) -> (i32)"];
    let narrow = engine.compile(&module("i32")?)?;
    let error = refused(narrow.instantiate(&Limits::default()), &says)?;
    holds(matches!(error, Error::Imports { .. }), || error.to_string())
}

/// A memory, a global or a table that the host does not give is refused.
pub fn import_kind(engine: &dyn Engine) -> Outcome {
    for import in ["(memory 1)", "(global i32)", "(global (mut i64))", "(table 1 funcref)"] {
        // The name of a function that exists does not help.
        for name in ["memory", "memory64_read"] {
            let wasm = wat::parse_str(format!(r#"(module (import "env" "{name}" {import}))"#))?;
            let compiled = engine.compile(&wasm)?;
            let kind = import.trim_start_matches('(').split(' ').next().unwrap_or_default();
            let error = refused(compiled.instantiate(&Limits::default()), &[name, kind])?;
            holds(matches!(error, Error::Imports { .. }), || error.to_string())?;
        }
    }
    Ok(())
}

/// A proposal that Polychord does not accept is refused, whatever the engine has.
pub fn beyond_the_accepted(engine: &dyn Engine) -> Outcome {
    for wat in [
        "(module (memory 1 1 shared))",
        "(module (func (param externref)))",
        "(module (func $f (return_call $f)))",
        "(module (tag (param i32)))",
        "(module (type (struct (field i32))))",
        "(module (func (param (ref func))))",
        "(module (memory 1 1 (pagesize 1)))",
        "(module (func (result i64 i64) (i64.mul_wide_s (i64.const 1) (i64.const 1))))",
    ] {
        invalid(engine.compile(&wat::parse_str(wat)?))
            .map_err(|f| Failure::new(format!("{wat}: {f}")))?;
    }
    Ok(())
}

/// A module that needs more than the engine has learns all that is missing.
pub fn every_missing_feature_is_listed(engine: &dyn Engine) -> Outcome {
    let wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (memory $wide i64 1)
            (func (export "run") (result i32)
                (i32.store $wide (i64.const 8) (i32.const 42))
                (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))
                (i32.load $wide (i64.const 8))))"#,
    )?;
    let has = engine.capabilities();
    let mut missing = Vec::new();
    if has.relaxed_simd == RelaxedSimd::Unsupported {
        missing.push("relaxed_simd");
    }
    if !has.multi_memory {
        missing.push("multi_memory");
    }
    if has.memory64 == Memory64::Host {
        missing.push("memory64");
    }
    let compiled = engine.compile(&wasm);
    if missing.is_empty() {
        let got = compiled?.instantiate(&Limits::default())?.call("run", &[])?;
        return equal("what the module computes", got, vec![Value::I32(42)]);
    }
    let fields: Vec<_> = unmet(compiled)?.into_iter().map(|unmet| unmet.field).collect();
    equal("what is missing", fields, missing)
}

/// Imports, exports and the memory are known before anything is started.
pub fn info(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, SMALL)?;
    let info = module.info();
    let imports: Vec<_> = info.imports().iter().map(|import| import.name.as_str()).collect();
    equal("imports", imports, vec!["memory64_is_enabled"])?;
    let functions: Vec<_> =
        info.functions().iter().map(|(name, ty)| format!("{name}{ty}")).collect();
    equal("functions", functions, vec!["next() -> (i32)".to_owned()])?;
    let memory = info.memory().ok_or_else(|| Failure::new("no memory"))?;
    equal("addresses", memory.address, AddressType::I32)?;
    equal("sizes", (memory.min_bytes, memory.max_bytes), (65_536, Some(4 * 65_536)))?;
    equal("capabilities", module.capabilities().engine, engine.capabilities().engine)
}

/// One compiled module makes many guests that share nothing.
pub fn instances_are_independent(engine: &dyn Engine) -> Outcome {
    let module = guest::compile(engine, SMALL)?;
    let mut first = module.instantiate(&Limits::default())?;
    let mut second = module.instantiate(&Limits::default())?;
    for expected in 1..4 {
        equal("the first", first.call("next", &[])?, vec![Value::I32(expected)])?;
    }
    equal("the second", second.call("next", &[])?, vec![Value::I32(1)])?;
    equal("memory of the first", &first.memory()[64..65], &[3][..])?;
    equal("memory of the second", &second.memory()[64..65], &[1][..])?;
    equal("data of the second", &second.memory()[8..17], &b"polychord"[..])
}

/// An engine says what it is called, which version, and how it runs guests.
pub fn names_itself(engine: &dyn Engine) -> Outcome {
    let has = engine.capabilities();
    for (what, text) in
        [("engine", has.engine), ("version", has.version), ("execution", has.execution)]
    {
        holds(!text.is_empty(), || format!("{what} is empty"))?;
    }
    // Names are cargo features and words of the command line.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    holds(has.engine.chars().all(plain), || format!("{:?} is no plain name", has.engine))
}

#[track_caller]
fn invalid<T>(result: polychord_runtime_api::Result<T>) -> Outcome {
    let error = refused(result, &["not valid at byte"])?;
    holds(matches!(error, Error::InvalidModule { .. }), || error.to_string())
}
