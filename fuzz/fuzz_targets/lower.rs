//! Modules whose 64-bit memories become 32-bit ones: arbitrary bytes, and valid modules made of them.
//! There is a module or an error and never a panic, and what comes out is valid.
//!
//! `cargo fuzz run lower`, from the repository's root.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use polychord_memory64_lowering::{Dispatch, Error, Layout, Options, lower};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let dispatch = [Dispatch::Regions, Dispatch::Inline, Dispatch::Switch, Dispatch::Helpers];
    let options = Options::default()
        .cut_maximum(true)
        .segment_pages(1 << (choice >> 4))
        .max_memory(1 << (20 + (choice >> 5)))
        .max_memories(u32::MAX)
        .dispatch(dispatch[usize::from(choice & 3)]);
    let module = if choice & 4 == 0 { None } else { valid(rest) };
    match lower(module.as_deref().unwrap_or(rest), &options) {
        Ok(lowered) if lowered.report.memories.is_empty() => {}
        Ok(lowered) => {
            let layout = Layout::read(&lowered.wasm).expect("its own section is read");
            assert_eq!(layout.expect("it has the section").memories, lowered.report.memories);
            assert!(matches!(lower(&lowered.wasm, &options), Err(Error::Lowered)));
        }
        Err(Error::TooLarge(error)) => panic!("{error}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn valid(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Unstructured::new(bytes);
    let config = wasm_smith::Config {
        memory64_enabled: true,
        // Or most inputs are used up by types before there is a function.
        max_types: 8,
        max_memories: 4,
        max_tables: 3,
        max_memory64_bytes: 1 << 20,
        ..wasm_smith::Config::default()
    };
    Some(wasm_smith::Module::new(config, &mut input).ok()?.to_bytes())
}
