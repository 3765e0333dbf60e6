//! Files that shrink.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Error, LoadMethod, MemoryId, Value};

use super::address_space::mappings;
use super::setup::{LAYER, map_all, start};
use crate::Outcome;
use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};

/// A file that has shrunk before it was mapped is an error, and nothing is mapped.
pub fn truncated(engine: &dyn Engine) -> Outcome {
    for keep in [0, 1, PAGE, 4 * PAGE - 1] {
        let file = guest::file(&guest::pattern(12, 4 * PAGE_LEN))?;
        let source = guest::mapped(file.path())?;
        let mut runtime = start(engine, &source, 0, 0, source.len())?;
        let before = runtime.memory().to_vec();
        file.as_file().set_len(keep)?;
        let error = refused(runtime.load_layer(LAYER), &["shrunk", &format!("{keep} bytes")])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
        same_bytes("the guest", runtime.memory(), &before)?;
        equal("errors", runtime.stats().errors, 1)?;
        equal("loads", runtime.stats().loads, 0)?;
        let lines = mappings(&*runtime, file.path())?;
        holds(lines.is_none_or(|lines| lines.of_file == 0), || "the file is mapped".into())?;
    }
    Ok(())
}

/// A file that shrinks while it is mapped fails the calls of its guest, and of no other, and
/// the guest goes on when the layer has been loaded again.
pub fn shrinks_in_use(engine: &dyn Engine) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let content = guest::pattern(13, 4 * PAGE_LEN);
    let last = PAGE + 4 * PAGE - 1;
    let at = [Value::I32(i32::try_from(last)?)];
    let expected = vec![Value::I32(content[4 * PAGE_LEN - 1].into())];
    // All pages are lost, or some, or a byte of a page that stays.
    for keep in [0, 2 * PAGE, 4 * PAGE - 1] {
        let (file, other) = (guest::file(&content)?, guest::file(&content)?);
        let (mut runtime, _) = map_all(engine, file.path())?;
        let (mut untouched, _) = map_all(engine, other.path())?;
        equal("last byte", runtime.call("load", &at)?, expected.clone())?;
        file.as_file().set_len(keep)?;
        let error = refused(runtime.call("load", &at), &["shrunk", &format!("{keep} bytes")])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
        equal("errors", runtime.stats().errors, 1)?;
        // A guest that asks for the layer does not make it whole.
        refused(runtime.call("map", &[Value::I32(1)]), &["shrunk"])?;
        let mut byte = [0];
        let read = runtime.read_memory64(MemoryId(0), 4 * PAGE - 1, &mut byte);
        refused(read, &["shrunk"])?;
        let again = runtime.load_layer(LAYER).and_then(|_| runtime.call("load", &at));
        refused(again, &["shrunk"])?;
        std::fs::write(file.path(), &content)?;
        runtime.release_layer(LAYER)?;
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)?;
        equal("last byte", runtime.call("load", &at)?, expected.clone())?;
        equal("of another file", untouched.call("load", &at)?, expected.clone())?;
    }
    Ok(())
}
