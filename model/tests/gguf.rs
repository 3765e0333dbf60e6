//! Broken and hostile GGUF files: an error each, never a panic or a large allocation.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read};

use polychord_model::gguf::{Array, Error, GgmlType, Gguf, Value};
use proptest::prelude::*;
use support::{Writer, put_bytes, read, string, strings};

/// Notes the largest request of each thread, and refuses absurd ones, which aborts.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "only way to see allocations")]
// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from the system's allocator with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `f` and gives the largest single allocation that it made, in bytes.
fn largest_allocation<T>(f: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.set(0);
    let result = f();
    (result, LARGEST.get())
}

/// Reads what must be refused, and checks that this took little memory.
fn refuse(bytes: &[u8]) -> Error {
    refuse_as(bytes, bytes.len() as u64)
}

/// The error for a file that claims to be `file_len` bytes long.
fn refuse_as(bytes: &[u8], file_len: u64) -> Error {
    let (result, largest) = largest_allocation(|| Gguf::read(bytes, file_len));
    assert!(largest < 1 << 20, "{largest} bytes allocated: {result:?}");
    result.expect_err("accepted")
}

/// A file with every kind of value and a few tensors.
fn sample() -> Writer {
    Writer::default()
        .pair("general.architecture", string("llama"))
        .pair("u8", Value::U8(200))
        .pair("i8", Value::I8(-100))
        .pair("u16", Value::U16(60_000))
        .pair("i16", Value::I16(-30_000))
        .pair("u32", Value::U32(4_000_000_000))
        .pair("i32", Value::I32(-2_000_000_000))
        .pair("f32", Value::F32(1.5))
        .pair("bool", Value::Bool(true))
        .pair("u64", Value::U64(u64::MAX))
        .pair("i64", Value::I64(i64::MIN))
        .pair("f64", Value::F64(-0.25))
        .pair("strings", strings(["", "a", "▁the"]))
        .pair("numbers", Value::Array(Array::I32(vec![1, -2, 3])))
        .pair("bools", Value::Array(Array::Bool(vec![true, false])))
        .pair("empty", Value::Array(Array::F64(vec![])))
        .tensor("token_embd.weight", GgmlType::Q4_1, &[64, 10])
        .tensor("output_norm.weight", GgmlType::F32, &[64])
        .tensor("cube", GgmlType::Q6_K, &[256, 2, 3, 1])
}

#[test]
fn a_written_file_reads_back() {
    for version in [2, 3] {
        let writer = Writer { version, ..sample() };
        let bytes = writer.file();
        let gguf = read(&bytes).unwrap();
        assert_eq!(
            (gguf.version(), gguf.alignment(), gguf.file_len()),
            (version, 32, bytes.len() as u64)
        );
        let pairs: Vec<_> =
            gguf.metadata().iter().map(|(k, v)| (k.as_bytes().to_vec(), v.clone())).collect();
        assert_eq!(pairs, writer.pairs);
        assert_eq!(gguf.tensors().len(), 3);
        let norm = gguf.tensor("output_norm.weight").unwrap();
        assert_eq!(
            (norm.dtype, norm.dims.as_slice(), norm.bytes),
            (GgmlType::F32, [64].as_slice(), 256)
        );
        assert_eq!(norm.offset, gguf.data_offset() + 416, "400 bytes, then aligned");
        assert_eq!(gguf.tensor("cube").unwrap().bytes, 6 * 210);
    }
}

#[test]
fn values_are_read_as_what_they_are() {
    let gguf = read(&sample().file()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.u64("u32").unwrap(), Some(4_000_000_000));
    assert_eq!(metadata.f32("f64").unwrap(), Some(-0.25));
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(metadata.strings("strings").unwrap().unwrap().get(2), Some("▁the"));
    assert_eq!(metadata.i32s("numbers").unwrap().unwrap(), [1, -2, 3]);
    assert_eq!(metadata.u64("absent").unwrap(), None);
    for key in ["i8", "f32", "bool", "strings"] {
        let error = metadata.u64(key).unwrap_err();
        assert!(matches!(&error, Error::WrongType { key: named, .. } if named == key), "{error}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample().file();
    let end =
        usize::try_from(read(&bytes).unwrap().tensor("cube").map(|t| t.offset + t.bytes).unwrap())
            .unwrap();
    for len in 0..end {
        refuse(&bytes[..len]);
        // The file shrinks while it is read: the length was taken before.
        if len < sample().header().len() {
            assert!(matches!(
                refuse_as(&bytes[..len], bytes.len() as u64),
                Error::Truncated { .. }
            ));
        }
    }
    read(&bytes[..end]).unwrap();
}

#[test]
fn other_formats_and_versions_are_named() {
    assert!(matches!(refuse(&Writer { magic: *b"GGML", ..sample() }.file()), Error::Magic { .. }));
    for version in [0, 1, 4, 99, u32::MAX] {
        let error = refuse(&Writer { version, ..sample() }.file());
        assert!(matches!(error, Error::Version { version: found } if found == version), "{error}");
    }
    for version in [2_u32, 3] {
        let error = refuse(&Writer { version: version.swap_bytes(), ..sample() }.file());
        assert!(matches!(error, Error::BigEndian { .. }), "{error}");
    }
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    for count in [1 << 20, u64::from(u32::MAX), 1 << 60, u64::MAX] {
        let tensors = Writer { tensor_count: Some(count), ..sample() };
        assert!(matches!(refuse(&tensors.file()), Error::Count { what: "tensors", .. }));
        let pairs = Writer { pair_count: Some(count), ..sample() };
        assert!(matches!(refuse(&pairs.file()), Error::Count { what: "metadata pairs", .. }));
        // In a sparse file of many gigabytes the counts are possible.
        refuse_as(&tensors.file(), 1 << 62);
        refuse_as(&pairs.file(), 1 << 62);
        for kind in 0..=12_u32 {
            let bytes = array_claim(kind, count);
            refuse(&bytes);
            refuse_as(&bytes, u64::MAX);
        }
        let mut key = Writer { pair_count: Some(1), ..Writer::default() }.header();
        key.extend(count.to_le_bytes());
        key.resize(100, b'k');
        refuse(&key);
        let error = refuse_as(&key, u64::MAX);
        assert!(matches!(
            error,
            Error::Limit { what: "a key", .. } | Error::Count { what: "a key", .. }
        ));
    }
}

/// A file whose only value is an array that claims to have `count` elements.
fn array_claim(kind: u32, count: u64) -> Vec<u8> {
    let mut bytes = Writer { pair_count: Some(1), ..Writer::default() }.header();
    put_bytes(&mut bytes, b"key");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.resize(256, 0);
    bytes
}

#[test]
fn an_endless_header_is_refused() {
    /// Zeros without end, after a beginning.
    struct Endless<'a>(&'a [u8]);
    impl Read for Endless<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(to)?;
            to[read..].fill(0);
            Ok(to.len())
        }
    }
    let start = array_claim(0, (256 << 20) - 1);
    let error = Gguf::read(Endless(&start[..52]), u64::MAX).unwrap_err();
    assert!(matches!(error, Error::Limit { what: "bytes of header", .. }), "{error}");
}

#[test]
fn arrays_of_arrays_are_refused_at_any_depth() {
    let mut bytes = array_claim(9, 1);
    assert!(matches!(refuse(&bytes), Error::NestedArray { .. }));
    for _ in 0..100_000 {
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
    }
    assert!(matches!(refuse(&bytes), Error::NestedArray { .. }));
}

#[test]
fn broken_pairs_are_named() {
    let twice = sample().pair("u8", Value::U8(1)).file();
    assert!(matches!(refuse(&twice), Error::DuplicateKey { key, .. } if key == "u8"));
    assert!(matches!(refuse(&sample().pair("", Value::U8(1)).file()), Error::Empty { .. }));
    let mut invalid = sample();
    invalid.pairs[1].0 = vec![0xff, b'k'];
    let kept = read(&invalid.file()).unwrap();
    assert_eq!(kept.metadata().iter().nth(1).unwrap().0, "\\xFFk");
    let long = Writer::default().pair(&"k".repeat(65_536), Value::U8(1));
    assert!(matches!(refuse(&long.file()), Error::Limit { what: "a key", count: 65_536, .. }));
    read(&Writer::default().pair(&"k".repeat(65_535), Value::U8(1)).file()).unwrap();
    let mut kind = Writer { pair_count: Some(1), ..Writer::default() }.header();
    put_bytes(&mut kind, b"key");
    kind.extend(13_u32.to_le_bytes());
    kind.resize(100, 0);
    assert!(matches!(refuse(&kind), Error::ValueKind { kind: 13, .. }));
    let mut boolean = Writer::default().pair("key", Value::Bool(true)).file();
    *boolean.last_mut().unwrap() = 2;
    assert!(matches!(refuse(&boolean), Error::Bool { value: 2, .. }));
}

#[test]
fn alignment_must_be_usable() {
    for alignment in [0_u32, 1, 4, 12, 33, 1 << 31] {
        let error = refuse(&sample().pair("general.alignment", Value::U32(alignment)).file());
        assert!(
            matches!(error, Error::Alignment { alignment: found } if found == u64::from(alignment))
        );
    }
    let error = refuse(&sample().pair("general.alignment", string("32")).file());
    assert!(matches!(error, Error::WrongType { .. }));
    let wide = Writer { alignment: 4096, ..Writer::default() }
        .pair("general.alignment", Value::U32(4096))
        .tensor("a", GgmlType::F16, &[8])
        .tensor("b", GgmlType::F16, &[8]);
    let gguf = read(&wide.file()).unwrap();
    assert_eq!((gguf.data_offset(), gguf.tensors()[1].offset), (4096, 8192));
}

#[test]
fn broken_tensors_are_named() {
    let change = |change: fn(&mut support::Tensor)| {
        let mut writer = sample();
        change(&mut writer.tensors[1]);
        refuse(&writer.file())
    };
    assert!(matches!(change(|t| t.dims = vec![]), Error::Dimensions { count: 0, .. }));
    assert!(matches!(change(|t| t.dims = vec![1; 5]), Error::Dimensions { count: 5, .. }));
    assert!(matches!(change(|t| t.dims = vec![0]), Error::Shape { .. }));
    assert!(matches!(change(|t| t.dims = vec![64, 0]), Error::Shape { .. }));
    assert!(matches!(change(|t| t.dims = vec![1 << 32, 1 << 32]), Error::Shape { .. }));
    assert!(matches!(change(|t| t.dims = vec![1 << 63]), Error::Shape { .. }));
    assert!(matches!(change(|t| t.dims = vec![1 << 62]), Error::Shape { .. }), "bytes overflow");
    assert!(matches!(change(|t| t.dims = vec![1 << 60]), Error::OutsideFile { .. }));
    for kind in [4, 31, 43, u32::MAX] {
        let mut writer = sample();
        writer.tensors[1].kind = kind;
        assert!(
            matches!(refuse(&writer.file()), Error::TensorType { dtype: found, .. } if found == kind)
        );
    }
    assert!(matches!(
        change(|t| (t.kind, t.dims) = (2, vec![63])),
        Error::Blocks { block: 32, .. }
    ));
    assert!(matches!(change(|t| t.offset += 8), Error::Misaligned { .. }));
    assert!(matches!(change(|t| t.offset = 1 << 40), Error::OutsideFile { .. }));
    assert!(matches!(change(|t| t.offset = u64::MAX - 31), Error::OutsideFile { .. }));
    assert!(matches!(change(|t| t.offset -= 32), Error::Overlap { .. }));
    assert!(matches!(change(|t| t.offset = 0), Error::Overlap { .. }));
    assert!(
        matches!(change(|t| t.name = b"cube".to_vec()), Error::DuplicateTensor { name } if name == "cube")
    );
    assert!(matches!(change(|t| t.name = vec![]), Error::Empty { .. }));
    assert!(matches!(
        change(|t| t.name = vec![b'n'; 65]),
        Error::Limit { what: "a tensor name", .. }
    ));
    assert!(matches!(change(|t| t.name = vec![0xc3]), Error::Utf8 { .. }));
}

#[test]
fn only_the_header_is_read() {
    let writer = sample();
    let (header, file) = (writer.header(), writer.file());
    let mut rest = file.as_slice();
    Gguf::read(&mut rest, file.len() as u64).unwrap();
    assert_eq!(file.len() - rest.len(), header.len());
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = "\\PC{0,12}";
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        (-1e9_f32..1e9).prop_map(Value::F32),
        (-1e9_f64..1e9).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        text.prop_map(Value::String),
        prop::collection::vec(text, 0..9).prop_map(strings),
        prop::collection::vec(any::<i32>(), 0..9).prop_map(|v| Value::Array(Array::I32(v))),
        prop::collection::vec(any::<u16>(), 0..9).prop_map(|v| Value::Array(Array::U16(v))),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(|v| Value::Array(Array::Bool(v))),
    ]
}

fn any_tensor() -> impl Strategy<Value = (GgmlType, Vec<u64>)> {
    let dims = prop::collection::vec(1_u64..4, 1..=4);
    (prop::sample::select(GgmlType::ALL), dims).prop_map(|(kind, mut dims)| {
        dims[0] *= kind.block_elements();
        (kind, dims)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_reads_back(
        pairs in prop::collection::btree_map("[a-z.]{1,20}", any_value(), 0..12),
        tensors in prop::collection::vec(any_tensor(), 0..8),
    ) {
        let mut writer = pairs.into_iter().fold(Writer::default(), |w, (key, value)| w.pair(&key, value));
        for (index, (kind, dims)) in tensors.iter().enumerate() {
            writer = writer.tensor(&format!("t{index}"), *kind, dims);
        }
        let gguf = read(&writer.file()).unwrap();
        let pairs: Vec<_> = gguf.metadata().iter().map(|(k, v)| (k.as_bytes().to_vec(), v.clone())).collect();
        prop_assert_eq!(pairs, writer.pairs);
        let read: Vec<_> = gguf.tensors().iter().map(|t| (t.dtype, t.dims.clone())).collect();
        prop_assert_eq!(read, tensors);
        for (found, written) in gguf.tensors().iter().zip(&writer.tensors) {
            prop_assert_eq!(found.offset, gguf.data_offset() + written.offset);
        }
    }

    #[test]
    fn mutations_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        claimed in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = sample().file();
        let header = sample().header().len();
        for (index, byte) in changes {
            bytes[index.index(header)] = byte;
        }
        bytes.truncate(cut.index(bytes.len() * 4).clamp(1, bytes.len()));
        let (_, largest) = largest_allocation(|| Gguf::read(bytes.as_slice(), claimed.unwrap_or(bytes.len() as u64)));
        prop_assert!(largest < 1 << 20, "{} bytes allocated", largest);
    }

    #[test]
    fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let start = b"GGUF\x03\0\0\0";
        let len = bytes.len().min(start.len());
        bytes[..len].copy_from_slice(&start[..len]);
        let (_, largest) = largest_allocation(|| read(&bytes).is_ok());
        prop_assert!(largest < 1 << 20, "{} bytes allocated", largest);
    }
}
