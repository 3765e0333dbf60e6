//! Writes small GGUF files, sound or broken, and finds the large ones that tests may use.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

use std::io::{self, Write as _};
use std::path::PathBuf;

use polychord_model::gguf::{Array, GgmlType, Gguf, StringArray, Value};

/// A GGUF file in the making. Every field can be set to nonsense.
#[derive(Clone, Debug)]
pub struct Writer {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub pair_count: Option<u64>,
    pub pairs: Vec<(Vec<u8>, Value)>,
    pub tensors: Vec<Tensor>,
    pub alignment: u64,
}

/// A tensor in the making; its offset is relative to the data.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
        }
    }
}

impl Writer {
    pub fn pair(mut self, key: &str, value: Value) -> Self {
        self.pairs.push((key.as_bytes().to_vec(), value));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.pairs.retain(|(k, _)| k != key.as_bytes());
        self
    }

    /// Appends a tensor behind those that are there.
    pub fn tensor(mut self, name: &str, kind: GgmlType, dims: &[u64]) -> Self {
        let offset = self.data_len();
        let (name, kind) = (name.as_bytes().to_vec(), kind.number());
        self.tensors.push(Tensor { name, dims: dims.to_vec(), kind, offset });
        self
    }

    /// Length of the header in bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            put_bytes(&mut out, key);
            put_value(&mut out, value);
        }
        for tensor in &self.tensors {
            put_bytes(&mut out, &tensor.name);
            out.extend(u32::try_from(tensor.dims.len()).unwrap_or(u32::MAX).to_le_bytes());
            tensor.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }

    /// The whole file, tensor data being zero.
    pub fn file(&self) -> Vec<u8> {
        let mut out = self.header();
        if !self.tensors.is_empty() {
            let data = (out.len() as u64).next_multiple_of(self.alignment) + self.data_len();
            out.resize(usize::try_from(data).unwrap_or(0), 0);
        }
        out
    }

    fn data_len(&self) -> u64 {
        let end = |tensor: &Tensor| {
            let kind = GgmlType::from_number(tensor.kind).unwrap_or(GgmlType::F32);
            let elements = tensor.dims.iter().fold(1_u64, |n, &dim| n.saturating_mul(dim));
            tensor.offset.saturating_add(
                (elements / kind.block_elements()).saturating_mul(kind.block_bytes()),
            )
        };
        let end = self.tensors.iter().map(end).max().unwrap_or(0).min(1 << 20);
        end.next_multiple_of(self.alignment)
    }
}

pub fn read(bytes: &[u8]) -> Result<Gguf, polychord_model::gguf::Error> {
    Gguf::read(bytes, bytes.len() as u64)
}

/// A model that can be run, with one block of 32 numbers.
pub fn small_model() -> Writer {
    let keys = [
        ("llama.block_count", 1),
        ("llama.context_length", 128),
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 32),
        ("llama.attention.head_count", 2),
    ];
    let writer = Writer::default()
        .pair("general.architecture", string("llama"))
        .pair("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    let writer = keys.iter().fold(writer, |writer, (key, n)| writer.pair(key, Value::U32(*n)));
    let matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let matrices = matrices.map(|name| format!("blk.0.{name}.weight"));
    let names = matrices.iter().map(String::as_str).chain(["token_embd.weight"]);
    let writer = names.fold(writer, |writer, name| writer.tensor(name, GgmlType::F32, &[32, 32]));
    let vectors = ["blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"];
    vectors.iter().fold(writer, |writer, name| writer.tensor(name, GgmlType::F32, &[32]))
}

/// Reads the header of a file.
pub fn open(path: impl AsRef<std::path::Path>) -> Gguf {
    let file = std::fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    Gguf::read(io::BufReader::new(file), len).unwrap()
}

pub fn strings<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Value {
    Value::Array(Array::String(strings.into_iter().collect::<StringArray>()))
}

pub fn string(string: &str) -> Value {
    Value::String(string.to_owned())
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(0, &v.to_le_bytes()),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[u8::from(*v)]),
        Value::String(v) => {
            put(8, &[]);
            put_bytes(out, v.as_bytes());
        }
        Value::Bytes(v) => {
            put(8, &[]);
            put_bytes(out, v);
        }
        Value::Array(v) => {
            put(9, &[]);
            put_array(out, v);
        }
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn put<T: Copy, const N: usize>(
        out: &mut Vec<u8>,
        kind: u32,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) {
        out.extend(kind.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|&value| out.extend(bytes(value)));
    }
    match array {
        Array::U8(v) => put(out, 0, v, u8::to_le_bytes),
        Array::I8(v) => put(out, 1, v, i8::to_le_bytes),
        Array::U16(v) => put(out, 2, v, u16::to_le_bytes),
        Array::I16(v) => put(out, 3, v, i16::to_le_bytes),
        Array::U32(v) => put(out, 4, v, u32::to_le_bytes),
        Array::I32(v) => put(out, 5, v, i32::to_le_bytes),
        Array::F32(v) => put(out, 6, v, f32::to_le_bytes),
        Array::Bool(v) => put(out, 7, v, |v| [u8::from(v)]),
        Array::U64(v) => put(out, 10, v, u64::to_le_bytes),
        Array::I64(v) => put(out, 11, v, i64::to_le_bytes),
        Array::F64(v) => put(out, 12, v, f64::to_le_bytes),
        Array::String(v) => {
            out.extend(8_u32.to_le_bytes());
            out.extend((v.len() as u64).to_le_bytes());
            v.iter().for_each(|string| put_bytes(out, string.as_bytes()));
        }
    }
}

/// A file of the test data that is too large for the repository, if it was fetched.
///
/// Looks in `POLYCHORD_TEST_DATA`, or else in `test-data` of the cache folder.
pub fn test_data(name: &str) -> Option<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        variable("POLYCHORD_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("polychord")))
            .or_else(|| variable("HOME").map(|dir| dir.join(".cache/polychord")))
            .map(|dir| dir.join("test-data"))
    };
    let path = variable("POLYCHORD_TEST_DATA").or_else(cache)?.join(name);
    if !path.is_file() {
        // Past the capture of `eprintln!`: a test that did not run must say so.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: {} is absent; scripts/test fetches it",
            path.display()
        );
        return None;
    }
    Some(path)
}
