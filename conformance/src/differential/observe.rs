//! What can be observed of a module while it runs.

use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, FunctionType, Limits, MemoryId, MemorySpec, Module, Result, Runtime, Source,
    Stats, TrapKind, Value, ValueType,
};
use sha2::{Digest, Sha256};

use crate::guest::{layer, pattern};

/// The observable results of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
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
    /// What the host counted, and the hash of the memories behind its functions.
    Host {
        stats: Stats,
        sha256: Vec<u8>,
    },
}

/// Starts a module and calls its functions, each with a few arguments.
pub(super) fn observe(
    engine: &dyn Engine,
    wasm: &[u8],
    limits: &Limits,
    behind: bool,
) -> Vec<Event> {
    let started = engine.compile(wasm).and_then(|module: Arc<dyn Module>| {
        let functions = module.info().functions().clone();
        let mut runtime = module.instantiate(limits)?;
        if behind {
            memories(&mut *runtime)?;
        }
        Ok((runtime, functions))
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
    if behind {
        seen.push(host(&*runtime));
    }
    seen
}

/// Pages of the memory in the host, which comes first, and of the one in the guest.
const PAGES: [u64; 2] = [1, 3];

/// What stands behind the host's functions: a memory in the host and one in the guest, with a layer in each.
fn memories(runtime: &mut dyn Runtime) -> Result<()> {
    let [in_host, in_guest] = PAGES.map(|pages| pages * PAGE);
    let specs = [MemorySpec::host(in_host), MemorySpec::guest(in_guest)];
    for (id, spec) in (0..).zip(specs) {
        let memory = runtime.create_memory64(&spec)?;
        let source = Source::from_bytes(pattern(u64::from(id), 5000));
        runtime.register_layer(layer(3 + 2 * id, memory, 1000 + u64::from(id) * PAGE, &source))?;
    }
    Ok(())
}

fn host(runtime: &dyn Runtime) -> Event {
    // Reading counts, too, so the counters come first. How long something took is no promise.
    let mut stats = runtime.stats();
    stats.load_nanos = 0;
    let mut hash = Sha256::new();
    for (id, pages) in (0..).zip(PAGES) {
        let mut bytes = vec![0xa5; usize::try_from(pages * PAGE).unwrap_or_default()];
        if let Err(error) = runtime.read_memory64(MemoryId(id), 0, &mut bytes) {
            return refusal(&error);
        }
        hash.update(bytes);
    }
    Event::Host { stats, sha256: hash.finalize().to_vec() }
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
