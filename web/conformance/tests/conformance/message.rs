//! What goes between this process and the one that has the engine: JSON, and bytes behind it.

use polychord_runtime_api::{Value, ValueType};
use serde::{Deserialize, Serialize};

/// What the engine is to do.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(crate) enum Command {
    /// Compile the module in the bytes.
    Compile { module: u64 },
    /// Make an instance.
    Start { module: u64, guest: u64, imports: Vec<Import>, memories: Vec<MemoryOf> },
    /// Call an export.
    Invoke { guest: u64, export: String, args: Vec<String>, results: Vec<&'static str> },
    /// Grow a memory by pages.
    Grow { guest: u64, memory: usize, by: u64 },
    /// Read a global, or set it.
    Global { guest: u64, at: At, value: Option<String> },
    /// The function of the host that was called has returned.
    Return { guest: u64, values: Vec<String> },
    /// The function of the host that was called ends the call.
    Stop { guest: u64, why: String },
    /// This guest is not called any more.
    DropGuest { guest: u64 },
    /// No further guest is made of this module.
    DropModule { module: u64 },
}

/// What a guest imports.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) item: Item,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Item {
    Function { params: Vec<&'static str>, results: Vec<&'static str> },
    Memory { is64: bool, min: u64, max: Option<u64> },
    Global { ty: &'static str, mutable: bool, value: String },
}

/// Where a memory is found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum MemoryOf {
    Import(usize),
    Export(String),
}

/// Where a global is found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum At {
    Import(usize),
    Export(String),
}

/// What the engine says.
#[derive(Debug, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub(crate) enum Answer {
    /// It is there.
    Hello(Hello),
    /// It did what it was to do.
    Done { values: Vec<String> },
    /// It could not.
    Failed { kind: Option<String>, message: String },
    /// A function of the host is called.
    Call { import: usize, args: Vec<String> },
}

/// What an engine is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hello {
    pub(crate) engine: String,
    pub(crate) version: String,
    pub(crate) multi_memory: bool,
    pub(crate) memory64: bool,
    pub(crate) relaxed_simd: bool,
}

/// Pages of a guest's memories that have changed, whose bytes follow, and how long memories are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pages {
    pub(crate) lengths: Vec<usize>,
    pub(crate) changed: Vec<(usize, usize)>,
}

/// A message without its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    #[serde(flatten)]
    pub(crate) content: T,
    #[serde(default)]
    pub(crate) pages: Pages,
}

/// The name of a type.
pub(crate) const fn type_name(ty: ValueType) -> &'static str {
    match ty {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
        ValueType::V128 => "v128",
        _ => "unknown",
    }
}

/// A value: its type, and its bits as a number.
pub(crate) fn write(value: Value) -> String {
    let with = |bits: u128| format!("{}:{bits}", type_name(value.ty()));
    value.convert(
        |it| with(it.cast_unsigned().into()),
        |it| with(it.cast_unsigned().into()),
        |it| with(it.to_bits().into()),
        |it| with(it.to_bits().into()),
        with,
    )
}

/// The value that [`write`] has written.
#[expect(clippy::cast_possible_truncation, reason = "the type says how many bits there are")]
pub(crate) fn read(text: &str) -> Option<Value> {
    let (ty, bits) = text.split_once(':')?;
    let bits: u128 = bits.parse().ok()?;
    Some(match ty {
        "i32" => Value::I32((bits as u32).cast_signed()),
        "i64" => Value::I64((bits as u64).cast_signed()),
        "f32" => Value::F32(f32::from_bits(bits as u32)),
        "f64" => Value::F64(f64::from_bits(bits as u64)),
        "v128" => Value::V128(bits),
        _ => return None,
    })
}
