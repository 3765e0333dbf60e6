//! Reads the header of a GGUF file: version, metadata, and the list of tensors.

use std::io::Read;

use super::reader::Reader;
use super::tensor::{self, RawTensor};
use super::{Array, Error, GgmlType, Gguf, Metadata, Value, ValueType, foreign};

const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 30;
const MAX_PAIRS: u64 = 65_536;
const MAX_TENSORS: u64 = 65_536;
/// Key length, one byte of key, value type, one byte of value.
const MIN_PAIR: u64 = 8 + 1 + 4 + 1;
/// Name length, one byte of name, dimension count, one dimension, type, offset.
const MIN_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

impl Gguf {
    /// Reads a header from the start of `reader`, of a file of `file_len` bytes.
    ///
    /// The reader should be buffered; no more than `file_len` bytes and no tensor data are
    /// asked of it.
    ///
    /// # Errors
    ///
    /// If the header is not a valid GGUF header, or describes tensors that are not wholly
    /// inside the file, misaligned or overlapping.
    pub fn read(reader: impl Read, file_len: u64) -> Result<Self, Error> {
        let mut reader = Reader::new(reader, file_len);
        let version = version(&mut reader)?;
        let tensor_count = reader.count("tensors", MIN_TENSOR, MAX_TENSORS)?;
        let pair_count = reader.count("metadata pairs", MIN_PAIR, MAX_PAIRS)?;
        let metadata = metadata(&mut reader, pair_count)?;
        let alignment = alignment(&metadata)?;
        let raw = (0..tensor_count).map(|_| tensor(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let data_offset = reader.offset().next_multiple_of(alignment);
        let tensors = tensor::place(raw, alignment, data_offset, file_len)?;
        let parts = 1;
        Ok(Self { version, alignment, file_len, data_offset, metadata, tensors, parts })
    }
}

fn version<R: Read>(reader: &mut Reader<R>) -> Result<u32, Error> {
    let magic = reader.field("the magic number")?;
    if magic != *b"GGUF" {
        let head = [&magic[..], &reader.up_to(foreign::HEAD)?].concat();
        let (found, advice) = foreign::name(&head, reader.file_len());
        return Err(Error::Magic { magic, found, advice });
    }
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        _ if matches!(version.swap_bytes(), 1..=0xffff) => Err(Error::BigEndian { version }),
        _ => Err(Error::Version { version }),
    }
}

fn metadata<R: Read>(reader: &mut Reader<R>, count: u64) -> Result<Metadata, Error> {
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let offset = reader.offset();
        let key = reader.key()?;
        let kind = value_type(reader, &key)?;
        let value = value(reader, &key, kind)?;
        metadata.insert(key, value).map_err(|key| Error::DuplicateKey { key, offset })?;
    }
    Ok(metadata)
}

fn value_type<R: Read>(reader: &mut Reader<R>, key: &str) -> Result<ValueType, Error> {
    let offset = reader.offset();
    let kind = reader.u32("a value type")?;
    let unknown = || Error::ValueKind { key: key.to_owned(), kind, offset };
    ValueType::from_number(kind).ok_or_else(unknown)
}

fn value<R: Read>(reader: &mut Reader<R>, key: &str, kind: ValueType) -> Result<Value, Error> {
    let what = "a value";
    Ok(match kind {
        ValueType::U8 => Value::U8(u8::from_le_bytes(reader.field(what)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(reader.field(what)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(reader.field(what)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(reader.field(what)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(reader.field(what)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(reader.field(what)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(reader.field(what)?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(reader.field(what)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(reader.field(what)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(reader.field(what)?)),
        ValueType::Bool => {
            let offset = reader.offset();
            let [byte] = reader.field(what)?;
            Value::Bool(bool_of(byte, key, offset)?)
        }
        ValueType::String => reader.text()?,
        ValueType::Array => Value::Array(array(reader, key)?),
    })
}

fn array<R: Read>(reader: &mut Reader<R>, key: &str) -> Result<Array, Error> {
    let offset = reader.offset();
    let kind = value_type(reader, key)?;
    Ok(match kind {
        ValueType::U8 => Array::U8(reader.numbers(u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(reader.numbers(i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(reader.numbers(u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(reader.numbers(i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(reader.numbers(u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(reader.numbers(i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(reader.numbers(f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(reader.numbers(u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(reader.numbers(i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(reader.numbers(f64::from_le_bytes)?),
        ValueType::Bool => {
            let bytes = reader.numbers(u8::from_le_bytes)?;
            let start = reader.offset() - bytes.len() as u64;
            let bools = (start..).zip(bytes).map(|(offset, byte)| bool_of(byte, key, offset));
            Array::Bool(bools.collect::<Result<_, _>>()?)
        }
        ValueType::String => Array::String(reader.strings()?),
        ValueType::Array => return Err(Error::NestedArray { key: key.to_owned(), offset }),
    })
}

fn bool_of(byte: u8, key: &str, offset: u64) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Error::Bool { key: key.to_owned(), value, offset }),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    let alignment = metadata.u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&alignment) {
        return Err(Error::Alignment { alignment });
    }
    Ok(alignment)
}

fn tensor<R: Read>(reader: &mut Reader<R>) -> Result<RawTensor, Error> {
    let name = reader.tensor_name()?;
    let offset = reader.offset();
    let count = reader.u32("a dimension count")?;
    if !(1..=4).contains(&count) {
        return Err(Error::Dimensions { name, count, offset });
    }
    let dims = (0..count).map(|_| reader.u64("a dimension")).collect::<Result<Vec<_>, _>>()?;
    let offset = reader.offset();
    let number = reader.u32("a tensor type")?;
    let Some(dtype) = GgmlType::from_number(number) else {
        return Err(Error::TensorType { name, dtype: number, offset });
    };
    Ok(RawTensor { name, dtype, dims, offset: reader.u64("a tensor offset")? })
}
