//! Calls into a guest, and from there to the host.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use polychord::api::{MemorySpec, Runtime, Value};

const CALLS: i32 = 1000;
const MEMORY_BYTES: u64 = 1 << 20;
const GUEST: &str = r#"(module
    (import "env" "memory64_is_enabled" (func $is_enabled (result i32)))
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (import "env" "memory64_write" (func $write (param i64 i32 i32) (result i32)))
    (memory (export "memory") 17)
    (func (export "nothing"))
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "imports") (param $times i32) (result i32)
        (local $sum i32)
        (loop $again
            (local.set $sum (i32.add (local.get $sum) (call $is_enabled)))
            (br_if $again
                (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum))
    (func (export "read") (param $bytes i32) (result i32)
        (call $read (i64.const 0) (i32.const 65536) (local.get $bytes)))
    (func (export "write") (param $bytes i32) (result i32)
        (call $write (i64.const 0) (i32.const 65536) (local.get $bytes))))"#;

/// A call of a function that does nothing.
#[divan::bench(sample_size = 1000)]
fn call(bencher: Bencher<'_, '_>) {
    let mut guest = guest();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| guest.call("nothing", &[]).unwrap());
}

/// A call with Rust's own types, to compare with that by values.
#[divan::bench(sample_size = 1000)]
fn call_typed(bencher: Bencher<'_, '_>) {
    let mut guest = guest();
    let bencher = bencher.counter(ItemsCount::new(1_u32));
    bencher.bench_local(|| guest.call_typed::<_, i32>("same", (7_i32,)).unwrap());
}

/// A call by values, with room for its result.
#[divan::bench(sample_size = 1000)]
fn call_into(bencher: Bencher<'_, '_>) {
    let mut guest = guest();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let mut results = [Value::I32(0)];
        guest.call_into("same", &[Value::I32(7)], &mut results).unwrap();
        results
    });
}

/// The shortest import, from a loop in the guest.
#[divan::bench]
fn import(bencher: Bencher<'_, '_>) {
    let mut guest = guest();
    bencher
        .counter(ItemsCount::new(CALLS.unsigned_abs()))
        .bench_local(|| call_with(&mut *guest, "imports", CALLS));
}

/// A call of the guest that reads from a memory of the host.
#[divan::bench(args = [4, 4096, 1 << 20], sample_size = 100)]
fn memory64_read(bencher: Bencher<'_, '_>, bytes: i32) {
    copies(bencher, "read", bytes);
}

/// A call of the guest that writes to a memory of the host.
#[divan::bench(args = [4, 4096, 1 << 20], sample_size = 100)]
fn memory64_write(bencher: Bencher<'_, '_>, bytes: i32) {
    copies(bencher, "write", bytes);
}

fn copies(bencher: Bencher<'_, '_>, export: &str, bytes: i32) {
    let mut guest = guest();
    bencher
        .counter(BytesCount::new(bytes.unsigned_abs()))
        .bench_local(|| call_with(&mut *guest, export, bytes));
}

fn guest() -> Box<dyn Runtime> {
    let mut guest = crate::guest(GUEST);
    guest.create_memory64(&MemorySpec::host(MEMORY_BYTES)).unwrap();
    guest
}

/// Calls a function that returns what it was given.
fn call_with(guest: &mut dyn Runtime, export: &str, value: i32) {
    let results = guest.call(export, &[Value::I32(value)]).unwrap();
    assert_eq!(results, [Value::I32(value)]);
}
