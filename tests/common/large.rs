//! Files in the shapes of well-known models, as large as those.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use polychord::model::gguf::GgmlType;

use super::ggml::Random;
use super::llama::Shape;

/// The shape of a model, by its published configuration (`config.json`): Llama 2 for 13b, else
/// Llama 3. Embedding and output are Q8_0, or Q6_K where the blocks have a K type.
pub(crate) fn shape(name: &str, kind: GgmlType) -> Option<Shape> {
    let (dim, ffn, heads, kv_heads, blocks, vocab) = match name {
        "1b" => (2048, 8192, 32, 8, 16, 128_256),
        "3b" => (3072, 8192, 24, 8, 28, 128_256),
        "8b" => (4096, 14_336, 32, 8, 32, 128_256),
        "13b" => (5120, 13_824, 40, 40, 40, 32_000),
        "70b" => (8192, 28_672, 64, 8, 80, 128_256),
        "405b" => (16_384, 53_248, 128, 8, 126, 128_256),
        _ => return None,
    };
    let head_dim = dim / heads;
    Some(Shape {
        ends: if kind.block_elements() == 256 { GgmlType::Q6_K } else { GgmlType::Q8_0 },
        vocab,
        dim,
        ffn,
        heads,
        kv_heads,
        head_dim,
        rope_dim: head_dim,
        rope_base: if name == "13b" { 10_000.0 } else { 500_000.0 },
        blocks,
        context: 4096,
        tied: matches!(name, "1b" | "3b"),
        ..Shape::of(kind)
    })
}

/// Writes a model with random weights, or `sparse`: with matrices of zeros, which take no room
/// on disk. Returns its size in bytes.
pub(crate) fn write(shape: &Shape, sparse: bool, path: &Path) -> u64 {
    let mut writer = shape.metadata("llama", shape.vocab - 1);
    let specs = shape.tensors();
    let mut places = Vec::new();
    for spec in &specs {
        let len = spec.elements() / spec.kind.block_elements() * spec.kind.block_bytes();
        let start = writer.declare(&spec.name, spec.kind, &spec.dims, len);
        places.push(start..start + len);
    }
    let header = writer.header();
    let file = File::create(path).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let base = header.len() as u64;
    let mut random = Random(1);
    for (spec, place) in specs.iter().zip(&places) {
        file.set_len(base + place.end).unwrap();
        if sparse && spec.gain.is_some() {
            continue;
        }
        // Rows repeat after a while: making each of them would take hours.
        let count = spec.elements().min(spec.dims[0] * 64);
        let part = spec.random(usize::try_from(count).unwrap(), &mut random);
        for start in place.clone().step_by(part.len()) {
            let len = usize::try_from(place.end - start).unwrap().min(part.len());
            file.write_all_at(&part[..len], base + start).unwrap();
        }
    }
    file.metadata().unwrap().len()
}
