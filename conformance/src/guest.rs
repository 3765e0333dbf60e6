//! Guests, sources and requirements that many cases need.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, LayerId, LayerSpec, Limits, MemoryId, Module, Requirements, Result, Runtime, Source,
};
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// Requires nothing beyond what every engine has.
pub(crate) const NOTHING: Requirements = Requirements::NONE;
/// Small native 64-bit memories.
pub(crate) const MEMORY64: Requirements = NOTHING.memory64_bytes(64 * PAGE);
/// Mapping of file pages.
pub(crate) const MAPPING: Requirements = NOTHING.mapping();
/// Stopping guests that take too long.
pub(crate) const TIME_LIMIT: Requirements = NOTHING.time_limit();
/// Many guests at once.
pub(crate) const THREADS: Requirements = NOTHING.threads();

/// A WebAssembly page as an index.
#[allow(clippy::cast_possible_truncation, reason = "it is 65,536")]
pub(crate) const PAGE_LEN: usize = PAGE as usize;

/// Compiles a module given as text.
pub(crate) fn compile(engine: &dyn Engine, wat: &str) -> Result<Arc<dyn Module>, Failure> {
    Ok(engine.compile(&wat::parse_str(wat)?)?)
}

/// Starts a guest given as text, with the default limits.
pub(crate) fn start(engine: &dyn Engine, wat: &str) -> Result<Box<dyn Runtime>, Failure> {
    Ok(compile(engine, wat)?.instantiate(&Limits::default())?)
}

/// Bytes of which none is zero, and which differ from seed to seed.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3].max(1)
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A temporary file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> Result<NamedTempFile, Failure> {
    let mut file = NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Drops a file from the page cache, so that it is read from the disk again.
#[cfg(target_os = "linux")]
pub(crate) fn drop_cached(file: &File) -> Result<(), Failure> {
    // Dirty pages are not dropped.
    file.sync_all()?;
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Does nothing: elsewhere the library does not ask for cached pages.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_cached(_: &File) -> Result<(), Failure> {
    Ok(())
}

/// A temporary file as a source to be mapped.
#[allow(unsafe_code, reason = "only this case knows the file")]
pub(crate) fn mapped(path: &Path) -> Result<Source> {
    // SAFETY: the file is a case's own, and a case truncates it only while it is not mapped.
    unsafe { Source::open_mapped(path) }
}

/// A layer that fills its source's bytes from `source_offset` on.
pub(crate) fn layer(id: u32, memory: MemoryId, offset: u64, source: &Source) -> LayerSpec {
    LayerSpec::new(LayerId(id), memory, source).offset(offset)
}
