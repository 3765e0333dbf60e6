//! Memories that the host makes for guests.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::imports::{HostError, Imports, MemoryType};
use polychord_runtime_api::{
    AddressType, Engine, Error, Instantiation, LayerId, Limits, MemorySpec, Source, Value,
};

use super::start::start;
use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

const IMPORTS: &str = r#"(module (import "host" "memory" (memory 2 8))
    (data (i32.const 100) "data")
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

fn memory(ty: MemoryType) -> Result<Imports, Failure> {
    let mut imports = Imports::new();
    imports.memory("host", "memory", ty)?;
    Ok(imports)
}

/// A memory that the host makes is the guest's own, and layers can lie in it.
pub fn imported(engine: &dyn Engine) -> Outcome {
    let imports = memory(MemoryType::new(3).max(8))?;
    let (mut one, other) = (start(engine, IMPORTS, &imports)?, start(engine, IMPORTS, &imports)?);
    equal("size", one.memory().len(), 3 * PAGE_LEN)?;
    equal("data of the module", &one.memory()[100..104], &b"data"[..])?;
    one.call("store", &[Value::I32(7), Value::I32(9)])?;
    equal("what the guest wrote", (one.memory()[7], other.memory()[7]), (9, 0))?;
    one.memory_mut()[8] = 10;
    equal("what the host wrote", one.call("load", &[Value::I32(8)])?, vec![Value::I32(10)])?;
    let bytes = guest::pattern(3, PAGE_LEN);
    let source = Source::from_bytes(bytes.clone());
    let space = one.create_memory64(&MemorySpec::guest(PAGE))?;
    one.register_layer(guest::layer(1, space, 0, &source))?;
    let address = one.load_layer(LayerId(1))?.address;
    let at = usize::try_from(address.ok_or_else(|| Failure::new("no address"))?)?;
    holds(at >= 3 * PAGE_LEN, || format!("the layer is at {at}"))?;
    same_bytes("the layer", &one.memory()[at..at + PAGE_LEN], &bytes)?;
    equal(
        "and for the guest",
        one.call("load", &[Value::I32(i32::try_from(at)?)])?,
        vec![Value::I32(bytes[0].into())],
    )
}

/// A memory that is smaller or may grow larger than the guest declares is refused.
pub fn other_sizes(engine: &dyn Engine) -> Outcome {
    for ty in [
        MemoryType::new(1).max(8),
        MemoryType::new(2).max(9),
        MemoryType::new(2),
        MemoryType::new(2).max(8).address(AddressType::I64),
    ] {
        let imports = memory(ty)?;
        let module = guest::compile(engine, IMPORTS)?;
        let limits = Limits::default();
        let with = Instantiation::new(&limits).imports(&imports);
        let says = [ty.to_string(), "2 to 8 pages".into()];
        let error = refused(module.instantiate_with(with), &says.each_ref().map(String::as_str))?;
        holds(matches!(error, Error::Imports { .. }), || error.to_string())?;
    }
    for ty in [MemoryType::new(2).max(8), MemoryType::new(4).max(4), MemoryType::new(8).max(8)] {
        let got = start(engine, IMPORTS, &memory(ty)?)?.memory().len() as u64;
        equal("size", got, ty.min_pages * PAGE)?;
    }
    let backwards = Imports::new().memory("host", "memory", MemoryType::new(2).max(1)).err();
    holds(matches!(backwards, Some(Error::Import { .. })), || format!("{backwards:?}"))
}

/// A memory that the host makes keeps the guest's limits.
pub fn limited(engine: &dyn Engine) -> Outcome {
    let imports = memory(MemoryType::new(2).max(8))?;
    let module = guest::compile(engine, IMPORTS)?;
    let begin = |pages: u64| {
        let limits = Limits::default().memory_bytes(pages * PAGE);
        module.instantiate_with(Instantiation::new(&limits).imports(&imports))
    };
    let error = refused(begin(1), &["131072", "65536"])?;
    holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
    let mut runtime = begin(3)?;
    equal("within", runtime.call("grow", &[Value::I32(1)])?, vec![Value::I32(2)])?;
    equal("beyond", runtime.call("grow", &[Value::I32(1)])?, vec![Value::I32(-1)])?;
    let mut free = begin(100)?;
    equal("its own maximum", free.call("grow", &[Value::I32(6)])?, vec![Value::I32(2)])?;
    equal("beyond it", free.call("grow", &[Value::I32(1)])?, vec![Value::I32(-1)])
}

/// A memory with 64-bit addresses can be imported.
pub fn wide(engine: &dyn Engine) -> Outcome {
    let ty = MemoryType::new(1).max(16).address(AddressType::I64);
    let mut runtime = start(
        engine,
        r#"(module (import "host" "memory" (memory i64 1 16))
            (import "env" "memory64_stats_into" (func $stats (param i64 i64) (result i32)))
            (func (export "store") (param i64 i32) (i32.store8 (local.get 0) (local.get 1)))
            (func (export "stats") (result i32) (call $stats (i64.const 64) (i64.const 512))))"#,
        &memory(ty)?,
    )?;
    runtime.call("store", &[Value::I64(65_535), Value::I32(3)])?;
    equal("the last byte", runtime.memory().last().copied(), Some(3))?;
    let size = i32::try_from(polychord_runtime_api::abi::Stats::SIZE)?;
    equal("pointers of 64 bits", runtime.call("stats", &[])?, vec![Value::I32(size)])
}

/// A function sees the memory as it is after it has grown it, and so does the guest.
pub fn grown_by_a_function(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "grow", |caller, (ptr, pages): (u32, u32)| {
        // What was there stays there, and what is new are zeros.
        let first = caller.read_value::<u8>(ptr)?;
        let before = caller.grow(0, pages.into())? * PAGE;
        let last = caller.memory().len() as u64 - 1;
        caller.write_value(last, first)?;
        caller.write_value(ptr, first + 1)?;
        Ok::<_, HostError>(before)
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "grow" (func $grow (param i32 i32) (result i64)))
            (memory (export "memory") 1 6)
            (func (export "run") (param i32) (result i64 i32 i32)
                (i32.store8 (i32.const 500) (i32.const 70))
                (call $grow (i32.const 500) (local.get 0))
                (i32.load8_u (i32.const 500))
                (i32.load8_u (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))))"#,
    )?;
    let limits = Limits::default().memory_bytes(4 * PAGE);
    let mut runtime = module.instantiate_with(Instantiation::new(&limits).imports(&imports))?;
    let mut pages = 1_u8;
    for by in [1_u8, 0, 2] {
        let got = runtime.call("run", &[Value::I32(by.into())])?;
        let before = i64::from(pages) * 65_536;
        equal("what both see", got, vec![Value::I64(before), Value::I32(71), Value::I32(70)])?;
        pages += by;
        equal("size", runtime.memory().len(), usize::from(pages) * PAGE_LEN)?;
    }
    match runtime.call("run", &[Value::I32(1)]) {
        Err(Error::Host { source, .. }) => {
            let is_limit = matches!(source.downcast_ref(), Some(Error::TooLarge { .. }));
            holds(is_limit, || source.to_string())?;
        }
        other => return Err(Failure::new(format!("growth beyond the limits: {other:?}"))),
    }
    equal("size after it", runtime.memory().len(), 4 * PAGE_LEN)
}
