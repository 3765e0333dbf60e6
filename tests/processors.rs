//! What an engine uses of a processor changes no bit: code that uses none of its extensions (AVX, AVX2, AVX-512,
//! FMA) computes what code does that uses all of them. `scripts/test-processors` emulates other processors.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(all(feature = "wasmer", feature = "wasmtime"))]

mod common;

use std::sync::Arc;

use polychord::api::Engine;
use polychord::model::{Activations, SessionOptions, SimdFlavor, Transformer};
use polychord::wasmer::WasmerEngine;
use polychord::wasmtime::WasmtimeEngine;
use sha2::{Digest, Sha256};

use common::architecture::Family;
use common::open;

#[test]
fn extensions_of_the_processor_change_no_bit() {
    let engines: [(&str, Arc<dyn Engine>); 4] = [
        ("wasmtime", Arc::new(WasmtimeEngine::new().unwrap())),
        ("wasmtime, portable", Arc::new(WasmtimeEngine::portable().unwrap())),
        ("wasmer", Arc::new(WasmerEngine::new().unwrap())),
        ("wasmer, portable", Arc::new(WasmerEngine::portable().unwrap())),
    ];
    let folder = tempfile::tempdir().unwrap();
    let families = [
        include_str!("data/architectures/llama-wide.json"),
        include_str!("data/architectures/gemma3-wide.json"),
        include_str!("data/architectures/qwen35-small.json"),
        include_str!("data/architectures/gpt-oss-mxfp4.json"),
    ];
    let paths: Vec<_> = (0..)
        .zip(families)
        .map(|(number, json)| {
            let folder = folder.path().join(format!("{number}"));
            std::fs::create_dir(&folder).unwrap();
            Family::of(json).save(&folder)
        })
        .collect();
    let mut all = Vec::new();
    for (name, engine) in &engines {
        for flavor in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
            let transformer = Transformer::with_flavor(engine, flavor).unwrap();
            let mut hash = Sha256::new();
            for path in &paths {
                for activations in [Activations::F32, Activations::Int8] {
                    let options = SessionOptions::new().context(32).activations(activations);
                    let mut session = transformer.start(&open(path, true), &options).unwrap();
                    for tokens in [&[1, 5, 9, 2, 7][..], &[3], &[8]] {
                        hash.update(session.eval(tokens).unwrap().as_bytes());
                    }
                }
            }
            all.push((format!("{name} {flavor}"), hash.finalize()));
        }
    }
    for (name, hash) in &all {
        assert_eq!(*hash, all[0].1, "{name} differs from {}", all[0].0);
    }
}
