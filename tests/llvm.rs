//! Wasmer computes the same bits whether Cranelift or LLVM compiles the guest.
#![cfg(feature = "wasmer-llvm")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use polychord::api::Engine;
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Model, Placement, Ranks, SessionOptions, SimdFlavor, Transformer,
};
use polychord::wasmer::{Compiler, WasmerEngine};

use common::llama::{Llama, Shape};

#[test]
fn llvm_computes_the_bits_of_cranelift() {
    let open =
        |compiler| -> Arc<dyn Engine> { Arc::new(WasmerEngine::with_compiler(compiler).unwrap()) };
    let (cranelift, llvm) = (open(Compiler::Cranelift), open(Compiler::Llvm));
    assert_eq!(llvm.capabilities().execution, "LLVM");
    let reference = Transformer::with_flavor(&cranelift, SimdFlavor::Plain).unwrap();
    for guest in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
        let transformer = Transformer::with_flavor(&llvm, guest).unwrap();
        for kind in [
            GgmlType::F32,
            GgmlType::F16,
            GgmlType::Q4_1,
            GgmlType::Q5_0,
            GgmlType::Q8_0,
            GgmlType::Q4_K,
            GgmlType::Q6_K,
            GgmlType::IQ4_NL,
            GgmlType::IQ4_XS,
            GgmlType::MXFP4,
            GgmlType::IQ2_S,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = Llama::random(Shape::of(kind)).save(folder.path());
            let model = Model::open(path).unwrap();
            for activations in [Activations::F32, Activations::Int8] {
                for (placement, ranks) in [(Placement::resident32(), 1), (Placement::multi32(), 2)]
                {
                    let mut options = SessionOptions::default();
                    options.activations = activations;
                    let expected = logits(&reference, &model, &options);
                    options.placement = placement;
                    options.ranks = Ranks::Exactly(ranks);
                    options.call_time = Some(Duration::from_secs(3600));
                    let same = logits(&transformer, &model, &options) == expected;
                    assert!(same, "{guest:?}, {kind}, {options:?}");
                }
            }
        }
    }
}

fn logits(transformer: &Transformer, model: &Model, options: &SessionOptions) -> Vec<u8> {
    let mut session = transformer.start(model, options).unwrap();
    let mut all = session.eval(&[1, 5, 9, 33, 70, 2, 4]).unwrap().as_bytes().to_vec();
    for token in [3, 50, 90] {
        all.extend(session.eval(&[token]).unwrap().as_bytes());
    }
    all
}
