//! Bounded reading of little-endian fields.

use std::io::{ErrorKind, Read};

use super::value::shown;
use super::{Error, StringArray, Value};

/// Longest key, by the format's specification.
const MAX_KEY: u64 = 65_535;
/// Longest tensor name, by the format's specification.
const MAX_NAME: u64 = 64;
/// Most bytes of header; the largest known vocabularies take about 16 MiB.
const MAX_HEADER: u64 = 256 << 20;
/// Memory is taken in steps of this while bytes arrive, so that a claim alone costs nothing,
/// not even in a sparse file.
const STEP: u64 = 64 << 10;

/// Reads little-endian fields and knows where it is and how much is left.
pub(super) struct Reader<R> {
    inner: R,
    offset: u64,
    file_len: u64,
    /// Bytes that were read before they were asked for, from `used` on.
    ahead: Vec<u8>,
    used: usize,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, file_len: u64) -> Self {
        Self { inner, offset: 0, file_len, ahead: Vec::new(), used: 0 }
    }

    /// Bytes from the start of the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file.
    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Takes a count of things of at least `need` bytes each, refusing what cannot be.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        need: u64,
        limit: u64,
    ) -> Result<u64, Error> {
        let offset = self.offset;
        let count = self.u64(what)?;
        let remaining = self.file_len - self.offset;
        if count > remaining / need {
            return Err(Error::Count { what, offset, count, need, remaining });
        }
        if count > limit {
            return Err(Error::Limit { what, offset, count, limit });
        }
        Ok(count)
    }

    /// A key. Those that are not UTF-8 are no keys that anything needs, and are kept as
    /// [`shown`] to be listed.
    pub(super) fn key(&mut self) -> Result<String, Error> {
        let bytes = self.label("a key", MAX_KEY)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| shown(error.as_bytes())))
    }

    pub(super) fn tensor_name(&mut self) -> Result<String, Error> {
        let (what, offset) = ("a tensor name", self.offset);
        let bytes = self.label(what, MAX_NAME)?;
        String::from_utf8(bytes).map_err(|error| {
            let text = shown(error.as_bytes());
            Error::Utf8 { what, offset, text }
        })
    }

    fn label(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
        let offset = self.offset;
        let label = self.string(what, limit)?;
        if label.is_empty() {
            return Err(Error::Empty { what, offset });
        }
        Ok(label)
    }

    /// A string, or the bytes of one that is not UTF-8.
    pub(super) fn text(&mut self) -> Result<Value, Error> {
        let bytes = self.string("a string", MAX_HEADER)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        })
    }

    /// The bytes of a string, without the zeros at its end that some tools write as C does.
    fn string(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
        let len = self.count(what, 1, limit)?;
        let mut bytes = self.bytes(what, len)?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        Ok(bytes)
    }

    /// Reads a count and as many strings.
    pub(super) fn strings(&mut self) -> Result<StringArray, Error> {
        let count = self.count("array elements", 8, MAX_HEADER)?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for left in (1..=count).rev() {
            let what = "a string of an array";
            if self.used == self.ahead.len() {
                // Each string that is left has a length at least.
                self.look_ahead(left.saturating_mul(8))?;
            }
            if self.take_ahead(&mut bytes) {
                ends.push(bytes.len());
                continue;
            }
            let len = self.count(what, 1, MAX_HEADER)?;
            self.append(what, len, &mut bytes)?;
            ends.push(bytes.len());
        }
        Ok(StringArray::from_bytes(bytes, ends))
    }

    /// Appends a string that is wholly among the bytes that were read ahead, which are inside all
    /// limits. Vocabularies have hundreds of thousands of them.
    fn take_ahead(&mut self, to: &mut Vec<u8>) -> bool {
        let ahead = self.ahead.get(self.used..).unwrap_or_default();
        let string = ahead.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            rest.get(..len)
        });
        let Some(string) = string else { return false };
        to.extend_from_slice(string);
        let taken = string.len() + size_of::<u64>();
        self.used += taken;
        self.offset += taken as u64;
        true
    }

    /// The next bytes, up to a number or the end of the file.
    pub(super) fn up_to(&mut self, most: u64) -> Result<Vec<u8>, Error> {
        self.bytes("the start", most.min(self.file_len - self.offset))
    }

    fn bytes(&mut self, what: &'static str, len: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.append(what, len, &mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, what: &'static str, len: u64, to: &mut Vec<u8>) -> Result<(), Error> {
        self.check(what, len)?;
        let end = usize::try_from(len).ok().and_then(|len| self.used.checked_add(len));
        if let Some(bytes) = end.and_then(|end| self.ahead.get(self.used..end)) {
            to.extend_from_slice(bytes);
            self.used += bytes.len();
            self.offset += len;
            return Ok(());
        }
        let mut left = len;
        while left > 0 {
            let step = left.min(STEP);
            let start = to.len();
            to.resize(start + usize::try_from(step).unwrap_or(0), 0);
            self.fill(what, &mut to[start..])?;
            left -= step;
        }
        Ok(())
    }

    /// Reads a count and as many elements of `N` bytes.
    pub(super) fn numbers<T, const N: usize>(
        &mut self,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let what = "array elements";
        let count = self.count(what, N as u64, MAX_HEADER)?;
        let bytes = self.bytes(what, count.saturating_mul(N as u64))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect())
    }

    pub(super) fn field<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut field = [0; N];
        self.check(what, N as u64)?;
        self.fill(what, &mut field)?;
        Ok(field)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        self.field(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        self.field(what).map(u64::from_le_bytes)
    }

    /// Whether `need` more bytes may be read.
    fn check(&self, what: &'static str, need: u64) -> Result<(), Error> {
        if need > self.file_len - self.offset {
            return Err(self.truncated(what, need));
        }
        if need > MAX_HEADER.saturating_sub(self.offset) {
            let what = "bytes of header";
            let count = self.offset.saturating_add(need);
            return Err(Error::Limit { what, offset: self.offset, count, limit: MAX_HEADER });
        }
        Ok(())
    }

    /// Reads some of the next `len` bytes, which are part of the header, or are missing: that is
    /// found when they are asked for.
    fn look_ahead(&mut self, len: u64) -> Result<(), Error> {
        let (what, offset) = ("array elements", self.offset);
        let most = self.file_len.min(MAX_HEADER).saturating_sub(offset);
        let len = len.min(STEP).min(most);
        self.used = 0;
        self.ahead.clear();
        let read = (&mut self.inner).take(len).read_to_end(&mut self.ahead);
        read.map(|_| ()).map_err(|source| Error::Read { what, offset, source })
    }

    /// Fills `to`, for which [`Self::check`] has passed.
    fn fill(&mut self, what: &'static str, to: &mut [u8]) -> Result<(), Error> {
        let len = to.len() as u64;
        let known = self.ahead.get(self.used..).unwrap_or_default();
        let (now, later) = to.split_at_mut(known.len().min(to.len()));
        now.copy_from_slice(&known[..now.len()]);
        self.used += now.len();
        self.inner.read_exact(later).map_err(|source| match source.kind() {
            // The file shrank since its length was taken.
            ErrorKind::UnexpectedEof => self.truncated(what, len),
            _ => Error::Read { what, offset: self.offset, source },
        })?;
        self.offset += len;
        Ok(())
    }

    fn truncated(&self, what: &'static str, need: u64) -> Error {
        Error::Truncated { what, offset: self.offset, need, file_len: self.file_len }
    }
}
