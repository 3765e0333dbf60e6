//! The same logits whether guests touch weights ahead of their use or not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Placement, Ranks, Session, SessionOptions, TouchAhead, Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

/// Logits after a prompt, and after single tokens, which are what it is about.
fn logits(session: &mut Session) -> Vec<u8> {
    let mut all = session.eval(&[1, 2, 3]).unwrap().as_bytes().to_vec();
    for token in 4..8 {
        all.extend_from_slice(session.eval(&[token]).unwrap().as_bytes());
    }
    all
}

fn start(transformer: &Transformer, path: &Path, options: &SessionOptions) -> Session {
    transformer.start(&open(path, true), options).unwrap()
}

/// Every type, with rows one at a time, several, a part of them left over, and all at once.
#[test]
fn no_burst_changes_a_bit() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut hash = Sha256::new();
        for kind in GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported()) {
            let path = Llama::random(Shape::of(kind)).save(folder.path());
            for activations in [Activations::F32, Activations::Int8] {
                let options = SessionOptions::new().context(16).activations(activations);
                let with = |touch| {
                    let mut session =
                        start(&transformer, &path, &options.clone().touch_ahead(touch));
                    let logits = logits(&mut session);
                    (logits, session.report().touch_ahead.bytes)
                };
                let (expected, none) = with(TouchAhead::Off);
                assert_eq!(none, 0);
                for bytes in [1, 1000, 16 << 10, u32::MAX] {
                    let (logits, touched) = with(TouchAhead::Bytes(bytes));
                    assert!(logits == expected, "{kind:?}, {activations:?}, {bytes} bytes");
                    assert_eq!(touched, bytes.min(u32::MAX / 2));
                }
                hash.update(&expected);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    });
}

/// Neither where the weights are, nor how many ranks compute.
#[test]
fn it_goes_with_placements_and_ranks() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { blocks: 3, tied: true, ..Shape::of(GgmlType::Q4_1) };
        let path = Llama::random(shape).save(folder.path());
        let options = |touch| SessionOptions::new().context(16).touch_ahead(touch);
        let expected = logits(&mut start(&transformer, &path, &options(TouchAhead::Off)));
        for (ranks, placement) in [
            (2, Placement::resident32()),
            (1, Placement::sharded32(2)),
            (2, Placement::sharded32(2)),
            (1, Placement::multi32()),
        ] {
            let options = options(TouchAhead::Bytes(100))
                .ranks(Ranks::Exactly(ranks))
                .placement(placement.clone());
            let mut session = start(&transformer, &path, &options);
            assert!(logits(&mut session) == expected, "{placement:?}, {ranks} ranks");
            assert_eq!(session.report().touch_ahead.bytes, 100);
        }
    });
}

/// A model that caches may hold is left alone; of a larger one tokens are measured, whose bits
/// are the same meanwhile, and after a fork what was found is known.
#[test]
fn auto_decides_where_it_matters() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::Q4_1)).save(folder.path());
        let small = start(&transformer, &path, &SessionOptions::new().context(16));
        assert_eq!(small.report().touch_ahead.reason, "caches may hold the weights of a token");
        large(&transformer, folder.path());
    });
}

fn large(transformer: &Transformer, folder: &Path) {
    let shape = Shape { ffn: 5632, blocks: 8, context: 64, ..Shape::of(GgmlType::F32) };
    let shape = Shape { dim: 256, heads: 4, kv_heads: 2, head_dim: 64, rope_dim: 64, ..shape };
    let path = Llama::random(shape).save(folder);
    let options = SessionOptions::new().context(64);
    let mut auto = start(transformer, &path, &options);
    let mut off = start(transformer, &path, &options.touch_ahead(TouchAhead::Off));
    assert!(auto.report().touch_ahead.reason.starts_with("too few"));
    for session in [&mut auto, &mut off] {
        session.eval(&[1, 2, 3]).unwrap();
    }
    // As many as the longest trial takes.
    for token in 0..45 {
        let tokens = [token % 7];
        assert_eq!(auto.eval(&tokens).unwrap().as_bytes(), off.eval(&tokens).unwrap().as_bytes());
    }
    let found = auto.report().touch_ahead;
    assert!(found.reason.starts_with("measured"), "{found:?}");
    assert!(found.without.is_some() && found.with.is_some(), "{found:?}");
    assert_eq!(auto.fork().unwrap().report().touch_ahead, found);
}
