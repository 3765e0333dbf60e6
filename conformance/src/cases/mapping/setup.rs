//! Guests with a layer of a file, to be mapped.

use std::path::Path;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, LayerId, LoadMethod, MemorySpec, Runtime, Source};

use crate::Failure;
use crate::check::equal;
use crate::guest;

pub(super) const WAT: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "map") (param i32) (result i64) (call $map (local.get 0)))
    (func (export "read") (param i64 i32 i32) (result i32)
        (call $read (local.get 0) (local.get 1) (local.get 2)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "copy") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

/// Pages of the memory that layers are mapped into; it begins at the guest's second page.
pub(super) const PAGES: u64 = 8;
pub(super) const LAYER: LayerId = LayerId(1);

/// A guest with a layer that is not loaded yet.
pub(super) fn start(
    engine: &dyn Engine,
    source: &Source,
    offset: u64,
    source_offset: u64,
    bytes: u64,
) -> Result<Box<dyn Runtime>, Failure> {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.memory_mut().fill(0x77);
    let memory = runtime.create_memory64(&MemorySpec::guest(PAGES * PAGE))?;
    let spec = guest::layer(LAYER.0, memory, offset, source);
    runtime.register_layer(spec.part(source_offset, bytes))?;
    Ok(runtime)
}

/// A guest with all of a file mapped, and the address of the layer.
pub(super) fn map_all(
    engine: &dyn Engine,
    path: &Path,
) -> Result<(Box<dyn Runtime>, u64), Failure> {
    let source = guest::mapped(path)?;
    let mut runtime = start(engine, &source, 0, 0, source.len())?;
    let loaded = runtime.load_layer(LAYER)?;
    equal("method", loaded.method, LoadMethod::Mapped)?;
    equal("address", loaded.address, Some(PAGE))?;
    Ok((runtime, PAGE))
}

/// A guest with a layer that is not loaded yet, every byte of which is 0x77.
pub(super) fn start_filled(
    engine: &dyn Engine,
    source: &Source,
    offset: u64,
    source_offset: u64,
    bytes: u64,
) -> Result<Box<dyn Runtime>, Failure> {
    let mut runtime = start(engine, source, offset, source_offset, bytes)?;
    runtime.memory_mut().fill(0x77);
    Ok(runtime)
}
