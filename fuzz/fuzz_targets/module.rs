//! Modules that hosts look at before an engine does, and that passes rewrite: arbitrary bytes, and valid modules.
//! There is a module or an error and never a panic, and what comes out is valid.
//!
//! `cargo fuzz run module`, from the repository's root.

#![no_main]

use std::borrow::Cow;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use polychord_passes::stop::{Reads, checks};
use polychord_passes::{copies, memories, start, tables};
use polychord_runtime_api::{Capabilities, ModuleInfo};
use wasmparser::{Validator, WasmFeatures};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let made = if choice & 1 == 0 { None } else { valid(rest) };
    let wasm = made.as_deref().unwrap_or(rest);
    let mut engine = Capabilities::new("fuzz", "1", "none");
    engine.multi_memory = choice & 2 != 0;
    if let Err(error) = ModuleInfo::parse(wasm, &engine) {
        assert!(!error.to_string().is_empty());
    }
    let features = WasmFeatures::all();
    let is_valid = |wasm: &[u8]| Validator::new_with_features(features).validate_all(wasm).is_ok();
    if !is_valid(wasm) {
        // Passes are given valid modules; of others they may make what is not valid, and no panic.
        _ = (
            memories::link(wasm).is_ok(),
            start::export(wasm).is_ok(),
            tables::limit(wasm, 100).is_ok(),
            copies::clear(wasm).is_ok(),
        );
        _ = checks(wasm, Reads::AfterStores).is_ok();
        return;
    }
    for made in [
        memories::link(wasm).ok(),
        start::export(wasm).ok().map(|it| it.wasm.into_owned()),
        checks(wasm, Reads::AfterStores).ok().map(|it| it.wasm),
        tables::limit(wasm, 100).ok().map(Cow::into_owned),
        copies::clear(wasm).ok().map(Cow::into_owned),
    ] {
        assert!(made.is_none_or(|made| is_valid(&made)));
    }
});

fn valid(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Unstructured::new(bytes);
    let config = wasm_smith::Config {
        // Or most inputs are used up by types, which passes copy, before there is a function.
        max_types: 8,
        memory64_enabled: true,
        max_memories: 3,
        max_tables: 3,
        bulk_memory_enabled: true,
        reference_types_enabled: true,
        simd_enabled: true,
        ..wasm_smith::Config::default()
    };
    Some(wasm_smith::Module::new(config, &mut input).ok()?.to_bytes())
}
