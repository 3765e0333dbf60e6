//! Loading a layer into a guest: mapped, copied, and the least that a copy can cost.

use std::cell::RefCell;
use std::io::Write;

use divan::Bencher;
use divan::counter::BytesCount;
use polychord::api::{LayerId, LayerSpec, MemorySpec, Runtime, Source};
use tempfile::NamedTempFile;

const MIB: u64 = 1 << 20;
const SIZES: [u64; 2] = [MIB, 128 * MIB];
const GUEST: &str = r#"(module (memory (export "memory") 1))"#;
const LAYER: LayerId = LayerId(0);

/// Maps the pages of a file.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
#[allow(unsafe_code, reason = "the contract of mapping is met here")]
fn map(bencher: Bencher<'_, '_>, bytes: u64) {
    let file = weights(bytes);
    // SAFETY: only this benchmark knows the file, and it is removed after the guest.
    let source = unsafe { Source::open_mapped(file.path()) }.unwrap();
    load(bencher, source, bytes);
}

/// Reads a file that is in the page cache.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn copy(bencher: Bencher<'_, '_>, bytes: u64) {
    let file = weights(bytes);
    load(bencher, Source::open(file.path()).unwrap(), bytes);
}

/// Copies a file without a guest, into pages that are already allocated.
#[divan::bench(args = SIZES, sample_count = 20, sample_size = 1)]
fn copy_to_host(bencher: Bencher<'_, '_>, bytes: u64) {
    let file = weights(bytes);
    let source = Source::open(file.path()).unwrap();
    let mut buffer = vec![1; usize::try_from(bytes).unwrap()];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        source.read_at(0, &mut buffer).unwrap();
    });
}

fn load(bencher: Bencher<'_, '_>, source: Source, bytes: u64) {
    let guest = RefCell::new(guest(source, bytes));
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| guest.borrow_mut().release_layer(LAYER).unwrap())
        .bench_local_values(|()| guest.borrow_mut().load_layer(LAYER).unwrap());
}

/// A guest with a memory for a layer that is registered.
fn guest(source: Source, bytes: u64) -> Box<dyn Runtime> {
    let mut guest = crate::guest(GUEST);
    let memory = guest.create_memory64(&MemorySpec::guest(bytes)).unwrap();
    let name = "weights".to_owned();
    let (offset, source_offset) = (0, 0);
    let layer =
        LayerSpec::new(LAYER, memory, &source).name(name).offset(offset).part(source_offset, bytes);
    guest.register_layer(layer).unwrap();
    guest
}

/// A file with bytes, in the page cache; it goes when this is dropped.
fn weights(bytes: u64) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let chunk = [1; 1 << 20];
    for _ in 0..bytes / MIB {
        file.write_all(&chunk).unwrap();
    }
    file
}
