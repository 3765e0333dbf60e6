//! A guest, and requests to its host with the counters that they change.

use polychord_runtime_api::{Error, Runtime, Stats};

use crate::Failure;
use crate::check::{equal, refused, same_bytes};

pub(super) const WAT: &str = r#"(module (memory (export "memory") 2)
    (func (export "size") (result i32) (memory.size))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;

/// Runs a request and checks which counters it changes, and how.
#[track_caller]
pub(super) fn counts<T>(
    runtime: &mut dyn Runtime,
    request: impl FnOnce(&mut dyn Runtime) -> T,
    count: impl FnOnce(&mut Stats),
) -> Result<T, Failure> {
    let mut expected = runtime.stats();
    let result = request(runtime);
    count(&mut expected);
    let now = runtime.stats();
    expected.load_nanos = now.load_nanos;
    expected.compress_nanos = now.compress_nanos;
    expected.decompress_nanos = now.decompress_nanos;
    equal("counters", now, expected)?;
    Ok(result)
}

/// A request is refused, counts one error and changes nothing else.
#[track_caller]
pub(super) fn refuses<T>(
    runtime: &mut dyn Runtime,
    says: &[&str],
    request: impl FnOnce(&mut dyn Runtime) -> polychord_runtime_api::Result<T>,
) -> Result<Error, Failure> {
    let before = runtime.memory().to_vec();
    let result = counts(runtime, request, |stats| stats.errors += 1)?;
    let error = refused(result, says)?;
    same_bytes("memory of the guest", runtime.memory(), &before)?;
    Ok(error)
}
