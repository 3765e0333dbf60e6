//! Mappings of the process: none is left behind.

use std::path::Path;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, LayerId, LoadMethod, MemorySpec, Runtime, Source, Value};

use super::setup::{LAYER, WAT, map_all, start};
use crate::check::{equal, holds};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// Mapping and releasing a thousand times leaves the address space as it was.
pub fn no_leak(engine: &dyn Engine) -> Outcome {
    let file = guest::file(&guest::pattern(10, 4 * PAGE_LEN))?;
    let source = guest::mapped(file.path())?;
    let mut runtime = start(engine, &source, PAGE, 0, source.len())?;
    let mut first = None;
    for cycle in 0..1_000 {
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)?;
        runtime.release_layer(LAYER)?;
        let now = mappings(&*runtime, file.path())?;
        let Some(now) = now else { continue };
        equal("mappings of the file after its release", now.of_file, 0)?;
        let first = first.get_or_insert(now.of_guest);
        holds(now.of_guest <= *first, || {
            format!("after cycle {cycle} the guest has {} mappings, not {first}", now.of_guest)
        })?;
    }
    Ok(())
}

/// Nothing of a file stays mapped once its guest is gone.
pub fn unmapped_with_the_guest(engine: &dyn Engine) -> Outcome {
    let file = guest::file(&guest::pattern(11, 4 * PAGE_LEN))?;
    let (runtime, _) = map_all(engine, file.path())?;
    let during = mappings(&*runtime, file.path())?;
    holds(during.is_none_or(|lines| lines.of_file == 1), || "the file is not mapped once".into())?;
    drop(runtime);
    let other = guest::start(engine, WAT)?;
    let after = mappings(&*other, file.path())?;
    holds(after.is_none_or(|lines| lines.of_file == 0), || "the file is still mapped".into())
}

/// Many small layers that were loaded and released leave no mappings behind: copied ones, of
/// which there may be as many as there are pages, and mapped ones.
pub fn many_layers(engine: &dyn Engine) -> Outcome {
    const PLACES: u64 = 20_000;
    let file = guest::file(&guest::pattern(15, PAGE_LEN))?;
    let (copied, mapped) = (Source::open(file.path())?, guest::mapped(file.path())?);
    let mut runtime = guest::start(engine, WAT)?;
    let memory = runtime.create_memory64(&MemorySpec::guest(2 * PLACES * PAGE))?;
    let before = mappings(&*runtime, file.path())?;
    let register = |runtime: &mut dyn Runtime, id: u32, place: u64, source: &Source| {
        let spec = guest::layer(id, memory, 2 * place * PAGE, source);
        runtime.register_layer(spec.part(0, 1))
    };
    // Every other page, twice.
    for (id, place) in (0..).zip((0..PLACES).chain(0..PLACES)) {
        register(&mut *runtime, id, place, &copied)?;
        runtime.load_layer(LayerId(id))?;
        if id % 2 == 0 {
            runtime.release_layer(LayerId(id))?;
        }
        runtime.unregister_layer(LayerId(id))?;
    }
    let now = mappings(&*runtime, file.path())?;
    few_more("copied", before.as_ref(), now.as_ref())?;
    // As many as may be mapped at once, and pages between them that the guest uses meanwhile.
    let ids = || (0_u32..).zip(0..1_000);
    for (id, place) in ids() {
        register(&mut *runtime, id, place, &mapped)?;
        equal("method", runtime.load_layer(LayerId(id))?.method, LoadMethod::Mapped)?;
        let beside = i32::try_from((2 * place + 2) * PAGE)?;
        runtime.call("store", &[beside.into(), Value::I32(1)])?;
    }
    for (id, place) in ids().map(|(id, _)| (id * 7 % 1_000, u64::from(id * 7 % 1_000))) {
        runtime.release_layer(LayerId(id))?;
        let at = i32::try_from((2 * place + 1) * PAGE)?;
        equal("released", runtime.call("load", &[at.into()])?, vec![Value::I32(0)])?;
    }
    let now = mappings(&*runtime, file.path())?;
    few_more("mapped", before.as_ref(), now.as_ref())
}

/// Checks that a guest has hardly more mappings than before, and none of the file.
fn few_more(what: &str, before: Option<&Mappings>, now: Option<&Mappings>) -> Outcome {
    let (Some(before), Some(now)) = (before, now) else { return Ok(()) };
    equal("mappings of the file", now.of_file, 0)?;
    holds(now.of_guest <= before.of_guest + 4, || {
        let (before, now) = (before.of_guest, now.of_guest);
        format!("the guest has {now} mappings after {what} layers are gone, and had {before}")
    })
}

/// How many mappings the process has of a file, and within a guest's memory.
pub(super) struct Mappings {
    pub(super) of_file: usize,
    of_guest: usize,
}

/// Read from the operating system; none where it does not tell. Other cases may run at the
/// same time, so only what belongs to this one is counted.
pub(super) fn mappings(runtime: &dyn Runtime, path: &Path) -> Result<Option<Mappings>, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let start = runtime.memory().as_ptr().addr();
    let end = start + runtime.memory().len();
    let path = path.to_string_lossy();
    let mut found = Mappings { of_file: 0, of_guest: 0 };
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let Some((from, to)) = range else { continue };
        let (from, to) = (usize::from_str_radix(from, 16)?, usize::from_str_radix(to, 16)?);
        found.of_guest += usize::from(from < end && start < to);
        found.of_file += usize::from(line.ends_with(&*path));
    }
    Ok(Some(found))
}
