//! Writes sound GGUF files.

use polychord::model::gguf::GgmlType;

const ALIGNMENT: usize = 32;

/// A GGUF file in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pairs: Section,
    tensors: Section,
    data: Vec<u8>,
    /// Length of the data, of which [`declare`](Self::declare) writes none.
    end: u64,
}

/// Records of the header, and how many they are.
#[derive(Clone, Debug, Default)]
struct Section {
    count: u64,
    bytes: Vec<u8>,
}

impl Section {
    fn start(&mut self, name: &str) -> &mut Vec<u8> {
        self.count += 1;
        put_text(&mut self.bytes, name);
        &mut self.bytes
    }
}

impl Writer {
    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.pair(key, 4, &value.to_le_bytes());
    }

    pub(crate) fn u16(&mut self, key: &str, value: u16) {
        self.pair(key, 2, &value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, key: &str, value: i32) {
        self.pair(key, 5, &value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.pair(key, 6, &value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.pair(key, 7, &[value.into()]);
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.pair(key, 8, &bytes);
    }

    pub(crate) fn texts(&mut self, key: &str, values: &[String]) {
        let mut bytes = array(8, values.len());
        values.iter().for_each(|value| put_text(&mut bytes, value));
        self.pair(key, 9, &bytes);
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        let mut bytes = array(5, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.pair(key, 9, &bytes);
    }

    pub(crate) fn bools(&mut self, key: &str, values: &[bool]) {
        let mut bytes = array(7, values.len());
        bytes.extend(values.iter().map(|value| u8::from(*value)));
        self.pair(key, 9, &bytes);
    }

    pub(crate) fn f32s(&mut self, key: &str, values: &[f32]) {
        let mut bytes = array(6, values.len());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.pair(key, 9, &bytes);
    }

    /// Appends a tensor; the contiguous dimension is the first.
    pub(crate) fn tensor(&mut self, name: &str, kind: GgmlType, dims: &[u64], data: &[u8]) {
        let start = self.declare(name, kind, dims, data.len() as u64);
        self.data.resize(usize::try_from(start).unwrap(), 0);
        self.data.extend(data);
    }

    /// Describes a tensor of `len` bytes, and returns where they go, counted from the end of
    /// the [`header`](Self::header).
    pub(crate) fn declare(&mut self, name: &str, kind: GgmlType, dims: &[u64], len: u64) -> u64 {
        let start = self.end.next_multiple_of(ALIGNMENT as u64);
        self.end = start + len;
        let info = self.tensors.start(name);
        info.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        dims.iter().for_each(|dim| info.extend(dim.to_le_bytes()));
        info.extend(kind.number().to_le_bytes());
        info.extend(start.to_le_bytes());
        start
    }

    /// Bytes of all tensors that were added or described.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.end
    }

    /// The whole file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = self.header();
        file.extend(&self.data);
        file
    }

    /// Everything before the data.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensors.count.to_le_bytes());
        file.extend(self.pairs.count.to_le_bytes());
        file.extend(&self.pairs.bytes);
        file.extend(&self.tensors.bytes);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file
    }

    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        let bytes = self.pairs.start(key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
}

fn array(kind: u32, len: usize) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(len as u64).to_le_bytes()].concat()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
}
