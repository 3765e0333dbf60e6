//! A guest that passes whatever it is told on to the host's functions.

use polychord_runtime_api::abi::{PAGE, import};
use polychord_runtime_api::{
    AddressType, Engine, LayerId, MemoryId, MemorySpec, Runtime, Source, Stats, Value, ValueType,
};

use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// The width of a guest's addresses.
///
/// ```
/// use polychord_conformance::cases::abi::{Wasm32, Wasm64, Width};
///
/// fn module<W: Width>() -> String {
///     format!("(module (memory (export \"memory\") {} 1))", W::INDEX)
/// }
/// assert_eq!(Wasm32::SPACE, 1 << 32);
/// assert!(module::<Wasm64>().contains("i64"));
/// ```
pub trait Width {
    /// As the API has it.
    const ADDRESS: AddressType;
    /// As the text format has it: the value type.
    const TYPE: &str;
    /// As the text format has it: the index type of a memory, if it must be said.
    const INDEX: &str;
    /// Bytes of the address space.
    const SPACE: u128;
}

/// 32-bit guests.
///
/// ```
/// use polychord_conformance::cases::abi::{Wasm32, Width};
///
/// assert_eq!(Wasm32::TYPE, "i32");
/// ```
#[derive(Debug)]
pub struct Wasm32;

/// 64-bit guests.
///
/// ```
/// use polychord_conformance::cases::abi::{Wasm64, Width};
///
/// assert_eq!(Wasm64::TYPE, "i64");
/// ```
#[derive(Debug)]
pub struct Wasm64;

impl Width for Wasm32 {
    const ADDRESS: AddressType = AddressType::I32;
    const TYPE: &str = "i32";
    const INDEX: &str = "";
    const SPACE: u128 = 1 << 32;
}

impl Width for Wasm64 {
    const ADDRESS: AddressType = AddressType::I64;
    const TYPE: &str = "i64";
    const INDEX: &str = "i64";
    const SPACE: u128 = 1 << 64;
}

/// The guest, and what stands behind it.
pub(super) struct Probe {
    pub(super) runtime: Box<dyn Runtime>,
}

/// Pages that the guest has from the start.
pub(super) const OWN: u64 = 2;
/// Pages of the memory in the host, which comes first in the common space.
pub(super) const IN_HOST: u64 = 1;
/// Pages of the memory in the guest, which comes next.
pub(super) const IN_GUEST: u64 = 3;
/// Bytes of both.
pub(super) const TOTAL: u64 = (IN_HOST + IN_GUEST) * PAGE;
/// Bytes of the guest once both are made.
pub(super) const GUEST: u64 = (OWN + IN_GUEST) * PAGE;

/// A layer that belongs to the memory in the host.
pub(super) const HOST_LAYER: u64 = 3;
pub(super) const HOST_LAYER_BYTES: u64 = 1000;
/// A layer that belongs to the memory in the guest, in its second page.
pub(super) const GUEST_LAYER: u64 = 5;
pub(super) const GUEST_LAYER_BYTES: u64 = 5000;
/// Where it lies in the guest.
pub(super) const GUEST_LAYER_ADDRESS: u64 = (OWN + 1) * PAGE + 40;

/// All that a request could change.
struct Snapshot {
    guest: Vec<u8>,
    host: Vec<u8>,
    stats: Stats,
}

impl Probe {
    /// A guest of which every byte is set, without any 64-bit memory.
    pub(super) fn start<W: Width>(engine: &dyn Engine, pages: u64) -> Result<Self, Failure> {
        let mut runtime = guest::start(engine, &wat::<W>(pages))?;
        equal("addresses", runtime.host().module().address(), W::ADDRESS)?;
        let own = runtime.memory_mut();
        let dirty = own.len().min(2 * PAGE_LEN);
        own[..dirty].copy_from_slice(&guest::pattern(1, dirty));
        Ok(Self { runtime })
    }

    /// A guest with both kinds of memories, every byte of them set, and a layer in each.
    pub(super) fn with_memories<W: Width>(engine: &dyn Engine) -> Result<Self, Failure> {
        let mut probe = Self::start::<W>(engine, OWN)?;
        let runtime = &mut *probe.runtime;
        for (id, spec) in [MemorySpec::host(IN_HOST * PAGE), MemorySpec::guest(IN_GUEST * PAGE)]
            .into_iter()
            .enumerate()
        {
            let memory = runtime.create_memory64(&spec)?;
            equal("number of the memory", memory, MemoryId(u32::try_from(id)?))?;
            let bytes = guest::pattern(2 + id as u64, usize::try_from(spec.regions[0].bytes)?);
            runtime.write_memory64(memory, 0, &bytes)?;
        }
        let layers = [
            (HOST_LAYER, MemoryId(0), 24, HOST_LAYER_BYTES),
            (GUEST_LAYER, MemoryId(1), PAGE + 40, GUEST_LAYER_BYTES),
        ];
        for (id, memory, offset, bytes) in layers {
            let source = Source::from_bytes(layer_bytes(id, bytes));
            let id = u32::try_from(id)?;
            runtime.register_layer(guest::layer(id, memory, offset, &source))?;
        }
        Ok(probe)
    }

    /// Registers a layer of this file in the memory in the guest, in its third page.
    pub(super) fn register_file(&mut self, id: u64, source: &Source) -> Outcome {
        let spec = guest::layer(u32::try_from(id)?, MemoryId(1), 2 * PAGE, source);
        self.runtime.register_layer(spec.name("file"))?;
        Ok(())
    }

    /// Lets the guest call an import. Numbers are cut to the width of the parameters.
    pub(super) fn ask(&mut self, import: &str, args: &[u64]) -> Result<i64, Failure> {
        let functions = self.runtime.host().module().functions();
        let Some(ty) = functions.get(import) else {
            return Err(Failure::new(format!("the probe does not import {import}")));
        };
        let cut = |(number, ty): (&u64, &ValueType)| match ty {
            ValueType::I32 => Value::I32(low_half(*number).cast_signed()),
            _ => Value::I64(number.cast_signed()),
        };
        let args: Vec<_> = args.iter().zip(&ty.params).map(cut).collect();
        match self.runtime.call(import, &args)?[..] {
            [Value::I32(result)] => Ok(result.into()),
            [Value::I64(result)] => Ok(result),
            ref other => Err(Failure::new(format!("{import} returned {other:?}"))),
        }
    }

    /// The import refuses with this code, counts one error and changes nothing else.
    #[track_caller]
    pub(super) fn refuses(&mut self, import: &str, args: &[u64], code: i32) -> Outcome {
        let what = || format!("{import}{args:x?}");
        let before = self.snapshot()?;
        equal(&what(), self.ask(import, args)?, code.into())?;
        let mut expected = before.stats;
        expected.errors += 1;
        equal(&format!("{}: counters", what()), self.runtime.stats(), expected)?;
        let after = self.snapshot()?;
        same_bytes(&format!("{}: memory of the guest", what()), &after.guest, &before.guest)?;
        same_bytes(&format!("{}: memory of the host", what()), &after.host, &before.host)?;
        let reason = self.runtime.host().last_refusal();
        holds(reason.as_ref().is_some_and(|error| error.code() == code), || {
            format!("{}: the host remembers {reason:?}", what())
        })
    }

    /// The import serves the request with this result and changes the counters in this way.
    #[track_caller]
    pub(super) fn serves(
        &mut self,
        import: &str,
        args: &[u64],
        result: u64,
        count: impl FnOnce(&mut Stats),
    ) -> Outcome {
        let what = || format!("{import}{args:x?}");
        let mut expected = self.runtime.stats();
        equal(&what(), self.ask(import, args)?, i64::try_from(result)?)?;
        count(&mut expected);
        // How long something took is no promise.
        let now = self.runtime.stats();
        expected.load_nanos = now.load_nanos;
        equal(&format!("{}: counters", what()), now, expected)
    }

    /// The guest's own bytes.
    pub(super) fn guest(&self, start: u64, len: u64) -> &[u8] {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.runtime.memory().get(start..start.saturating_add(len)).unwrap_or_default()
    }

    /// All bytes of the common space.
    pub(super) fn common(&self) -> Result<Vec<u8>, Failure> {
        let mut all = vec![0; usize::try_from(TOTAL)?];
        let (host, guest) = all.split_at_mut(usize::try_from(IN_HOST * PAGE)?);
        self.runtime.read_memory64(MemoryId(0), 0, host)?;
        self.runtime.read_memory64(MemoryId(1), 0, guest)?;
        Ok(all)
    }

    /// Reading the host's memory counts, so the counters come last.
    fn snapshot(&self) -> Result<Snapshot, Failure> {
        let mut host = Vec::new();
        if self.runtime.stats().memory64_bytes > 0 {
            host.resize(usize::try_from(IN_HOST * PAGE)?, 0);
            self.runtime.read_memory64(MemoryId(0), 0, &mut host)?;
        }
        Ok(Snapshot { guest: self.runtime.memory().to_vec(), host, stats: self.runtime.stats() })
    }
}

/// What a layer of the probe contains.
pub(super) fn layer_bytes(id: u64, bytes: u64) -> Vec<u8> {
    guest::pattern(100 + id, usize::try_from(bytes).unwrap_or_default())
}

/// The number of a layer.
pub(super) fn layer_id(id: u64) -> LayerId {
    LayerId(low_half(id))
}

const fn low_half(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// All imports, each exported again under its name by way of the guest's own code.
fn wat<W: Width>(pages: u64) -> String {
    let pointer = W::TYPE;
    let imports = [
        (import::IS_ENABLED, vec![], "i32"),
        (import::LOAD_LAYER, vec!["i32", pointer, pointer], "i32"),
        (import::READ, vec!["i64", pointer, pointer], "i32"),
        (import::WRITE, vec!["i64", pointer, pointer], "i32"),
        (import::MAP_LAYER, vec!["i32"], "i64"),
        (import::LAYER_BYTES, vec!["i32"], "i64"),
        (import::PREFETCH, vec!["i32"], "i32"),
        (import::RELEASE, vec!["i32"], "i32"),
        (import::STATS, vec![], "i64"),
        (import::STATS_INTO, vec![pointer, pointer], "i32"),
        (import::ALL_GATHER, vec![pointer, pointer, pointer], "i32"),
    ];
    let (mut declared, mut passed_on) = (String::new(), String::new());
    for (name, params, result) in imports {
        let ty = format!("(param {}) (result {result})", params.join(" "));
        let args: String = (0..params.len()).map(|index| format!("(local.get {index})")).collect();
        declared += &format!("(import \"env\" \"{name}\" (func ${name} {ty}))\n");
        passed_on += &format!("(func (export \"{name}\") {ty} (call ${name} {args}))\n");
    }
    let index = W::INDEX;
    format!(
        r#"(module {declared}
            (memory (export "memory") {index} {pages})
            {passed_on}
            (func (export "fail") (param $times i32)
                (loop $again
                    (drop (call $memory64_prefetch (i32.const -1)))
                    (br_if $again (local.tee $times
                        (i32.sub (local.get $times) (i32.const 1)))))))"#
    )
}
