//! The builds of the transformer guest that are committed: which instructions they have.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use wasmparser::{Operator, Parser, Payload};

/// Compilers turn ordinary code into relaxed instructions when they may (LLVM makes
/// `relaxed_max` of `pmax`), and engines differ in what those do with NaN. The dot product has
/// one result where one operand is within 0..=127, which is how kernels use it.
#[test]
fn the_dot_product_is_the_only_relaxed_instruction() {
    assert_eq!(relaxed("plain"), BTreeSet::new());
    assert_eq!(relaxed("relaxed"), BTreeSet::from(["I16x8RelaxedDotI8x16I7x16S".to_owned()]));
}

/// Names of the relaxed SIMD instructions of a build.
fn relaxed(build: &str) -> BTreeSet<String> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/built");
    let wasm = std::fs::read(built.join(format!("transformer-wasm32-{build}.wasm"))).unwrap();
    let mut names = BTreeSet::new();
    for payload in Parser::new(0).parse_all(&wasm) {
        if let Payload::CodeSectionEntry(body) = payload.unwrap() {
            for operator in body.get_operators_reader().unwrap() {
                names.extend(relaxed_name(&operator.unwrap()));
            }
        }
    }
    names
}

fn relaxed_name(operator: &Operator<'_>) -> Option<String> {
    let shown = format!("{operator:?}");
    let name = shown.split([' ', '{']).next()?;
    name.contains("Relaxed").then(|| name.to_owned())
}
