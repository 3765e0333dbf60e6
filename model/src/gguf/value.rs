//! Metadata values, and how they are looked up by key and type.

use std::fmt;
use std::sync::Arc;

use super::error::Error;
use super::value_type::ValueType;

/// One metadata value. Exhaustive: versions 2 and 3 of the format have no other types.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named after the format's types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A string that is not UTF-8. It is kept to be shown, and refused where it is needed.
    Bytes(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of one type; arrays of arrays are refused when reading. Exhaustive, as [`Value`] is.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "named after the format's types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// A scalar as itself, an array as its length and its first elements.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(number) => number.fmt(f),
            Self::I8(number) => number.fmt(f),
            Self::U16(number) => number.fmt(f),
            Self::I16(number) => number.fmt(f),
            Self::U32(number) => number.fmt(f),
            Self::I32(number) => number.fmt(f),
            Self::F32(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "{:?} (not UTF-8)", shown(bytes)),
            Self::Array(array) => array.fmt(f),
            Self::U64(number) => number.fmt(f),
            Self::I64(number) => number.fmt(f),
            Self::F64(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        fn list<T: fmt::Debug>(
            f: &mut fmt::Formatter<'_>,
            all: impl ExactSizeIterator<Item = T>,
        ) -> fmt::Result {
            let len = all.len();
            f.write_str("[")?;
            for (index, item) in all.take(SHOWN).enumerate() {
                write!(f, "{}{item:?}", if index > 0 { ", " } else { "" })?;
            }
            match len > SHOWN {
                true => write!(f, ", ...] {len} in all"),
                false => f.write_str("]"),
            }
        }
        match self {
            Self::U8(all) => list(f, all.iter()),
            Self::I8(all) => list(f, all.iter()),
            Self::U16(all) => list(f, all.iter()),
            Self::I16(all) => list(f, all.iter()),
            Self::U32(all) => list(f, all.iter()),
            Self::I32(all) => list(f, all.iter()),
            Self::F32(all) => list(f, all.iter()),
            Self::Bool(all) => list(f, all.iter()),
            Self::String(all) => list(f, all.iter()),
            Self::U64(all) => list(f, all.iter()),
            Self::I64(all) => list(f, all.iter()),
            Self::F64(all) => list(f, all.iter()),
        }
    }
}

impl Value {
    /// Type of the value.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) | Self::Bytes(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }
}

impl Array {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements, if they are integers that are not negative.
    pub(crate) fn numbers(&self) -> Option<Vec<u64>> {
        fn of<T: Copy + TryInto<u64>>(all: &[T]) -> Option<Vec<u64>> {
            all.iter().map(|it| (*it).try_into().ok()).collect()
        }
        match self {
            Self::U8(all) => of(all),
            Self::I8(all) => of(all),
            Self::U16(all) => of(all),
            Self::I16(all) => of(all),
            Self::U32(all) => of(all),
            Self::I32(all) => of(all),
            Self::U64(all) => of(all),
            Self::I64(all) => of(all),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) => None,
        }
    }

    /// The integer that all elements are, if they are one that is not negative.
    pub(crate) fn uniform(&self) -> Option<u64> {
        fn of<T: Copy + PartialEq + TryInto<u64>>(all: &[T]) -> Option<u64> {
            let first = *all.first()?;
            all.iter().all(|it| *it == first).then_some(first)?.try_into().ok()
        }
        match self {
            Self::U8(all) => of(all),
            Self::I8(all) => of(all),
            Self::U16(all) => of(all),
            Self::I16(all) => of(all),
            Self::U32(all) => of(all),
            Self::I32(all) => of(all),
            Self::U64(all) => of(all),
            Self::I64(all) => of(all),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::String(_) => None,
        }
    }
}

/// Many strings in one allocation: vocabularies have hundreds of thousands. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringArray(Arc<Strings>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Strings {
    text: String,
    ends: Vec<usize>,
    /// The first that was not UTF-8, if there was one.
    invalid: Option<usize>,
}

/// Bytes as text: what is not UTF-8 as `\xE8`.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

impl StringArray {
    /// Appends one string.
    pub fn push(&mut self, string: &str) {
        let strings = Arc::make_mut(&mut self.0);
        strings.text.push_str(string);
        strings.ends.push(strings.text.len());
    }

    /// Strings that may not be UTF-8, one after the other, and where each ends. Those that are not
    /// are kept as they can be shown.
    pub(super) fn from_bytes(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        let bytes = match String::from_utf8(bytes) {
            // All at once, which is much faster than one by one.
            Ok(text) if ends.iter().all(|end| text.is_char_boundary(*end)) => {
                return Self(Arc::new(Strings { text, ends, invalid: None }));
            }
            Ok(text) => text.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        let (mut strings, mut start) = (Self::default(), 0);
        for end in ends {
            strings.push_bytes(&bytes[std::mem::replace(&mut start, end)..end]);
        }
        strings
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.push(text);
        }
        let len = self.len();
        Arc::make_mut(&mut self.0).invalid.get_or_insert(len);
        self.push(&shown(bytes));
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The string at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let Strings { text, ends, .. } = &*self.0;
        let end = *ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| ends[before]);
        text.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let Strings { text, ends, .. } = &*self.0;
        let mut start = 0;
        ends.iter().map(move |&end| &text[std::mem::replace(&mut start, end)..end])
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut array = Self::default();
        strings.into_iter().for_each(|string| array.push(string.as_ref()));
        array
    }
}

/// Key-value pairs in file order; keys are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pairs: Vec<(String, Value)>,
    by_key: std::collections::HashMap<String, usize>,
}

impl Metadata {
    /// Appends a pair, or gives the key back if it is there already.
    pub(super) fn insert(&mut self, key: String, value: Value) -> Result<(), String> {
        if self.by_key.contains_key(&key) {
            return Err(key);
        }
        self.by_key.insert(key.clone(), self.pairs.len());
        self.pairs.push((key, value));
        Ok(())
    }

    /// The pairs but for those of some keys.
    pub(super) fn without(self, keys: &[&str]) -> Self {
        let mut rest = Self::default();
        for (key, value) in self.pairs.into_iter().filter(|(key, _)| !keys.contains(&&**key)) {
            // Each is there once.
            _ = rest.insert(key, value);
        }
        rest
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// All pairs in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|&index| &self.pairs[index].1)
    }

    /// The value of `key` if it is there, as any integer type that is not negative.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "an integer that is not negative", Value::as_u64)
    }

    /// The value of `key` if it is there, as a float of 32 or 64 bits.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a float", |value| match *value {
            Value::F32(v) => Some(v),
            #[allow(clippy::cast_possible_truncation, reason = "rounds, or becomes infinite")]
            Value::F64(v) => Some(v as f32),
            _ => None,
        })
    }

    /// The value of `key` if it is there, as a bool.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// The value of `key` if it is there, as a string.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else, and [`Error::ValueUtf8`] if it is not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        if let Some(Value::Bytes(bytes)) = self.get(key) {
            return Err(not_utf8(key, None, shown(bytes)));
        }
        self.typed(key, "a string", |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// The value of `key` if it is there, as an array of strings.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else, and [`Error::ValueUtf8`] if one of them is
    /// not UTF-8.
    pub fn strings(&self, key: &str) -> Result<Option<&StringArray>, Error> {
        let strings = self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        })?;
        match strings.and_then(|strings| Some((strings, strings.0.invalid?))) {
            Some((strings, index)) => {
                let text = strings.get(index).unwrap_or_default().to_owned();
                Err(not_utf8(key, Some(index), text))
            }
            None => Ok(strings),
        }
    }

    /// The value of `key` if it is there, as an array of `i32`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else.
    pub fn i32s(&self, key: &str) -> Result<Option<&[i32]>, Error> {
        self.typed(key, "an array of i32", |value| match value {
            Value::Array(Array::I32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The value of `key` if it is there, as an array of `f32`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if it is something else.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.typed(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = value.value_type();
        let wrong = || Error::WrongType { key: key.to_owned(), expected, found };
        convert(value).map(Some).ok_or_else(wrong)
    }
}

fn not_utf8(key: &str, element: Option<usize>, text: String) -> Error {
    Error::ValueUtf8 { key: key.to_owned(), element, text }
}
