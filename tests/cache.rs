//! The cache of keys and values as 16-bit floats.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

mod common;

use polychord::api::PlannedMemory;
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, CacheType, Model, Placement, Ranks, Session, SessionOptions, SimdFlavor, Split,
    Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, test_name};

fn options(cache_type: CacheType) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.context = Some(40);
    options.batch = 4;
    options.cache_type = cache_type;
    options
}

/// Values of one token go through the cache, and come out as logits: up to one factor.
#[test]
fn values_are_rounded_to_the_nearest_half() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let values = values();
        let path = transparent(&values).save(folder.path());
        let model = Model::open(&path).unwrap();
        for flavor in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
            let transformer = Transformer::with_flavor(engine, flavor).unwrap();
            for (cache_type, expected) in
                [(CacheType::F32, values), (CacheType::F16, values.map(nearest_half))]
            {
                let mut session = transformer.start(&model, &options(cache_type)).unwrap();
                let logits = session.eval(&[0]).unwrap().to_vec();
                let squares = expected.iter().map(|value| f64::from(*value).powi(2));
                let input = INPUTS as f64 * f64::from(INPUT).powi(2);
                let rms = ((input + squares.sum::<f64>()) / DIM as f64).sqrt();
                for (found, value) in logits.iter().zip(expected) {
                    let expected = f64::from(value) / rms;
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error <= expected.abs() * 1e-6, "{cache_type:?}: {value:e}");
                }
            }
        }
    });
}

/// Large enough that the square of it hides the epsilon of norms.
const INPUT: f32 = (1 << 21) as f32;
const INPUTS: usize = 16;
const DIM: usize = 64;
const VALUES: usize = DIM - INPUTS;

/// Numbers that a 16-bit float has, ties, subnormal ones, and some beyond all that are finite.
fn values() -> [f32; VALUES] {
    let two_to = |exponent: i32| 2_f32.powi(exponent);
    let some = [
        1.0,
        -1.5,
        1.0 + two_to(-11),
        1.0 + 3.0 * two_to(-11),
        1.0 + two_to(-11) + two_to(-20),
        -1.0 - two_to(-11) + two_to(-20),
        2047.5,
        2049.0,
        65_504.0,
        65_519.0,
        65_520.0,
        -65_536.0,
        1e9,
        two_to(-14),
        two_to(-14) - two_to(-26),
        two_to(-15) + two_to(-25),
        two_to(-24),
        two_to(-25),
        1.5 * two_to(-25),
        -3.0 * two_to(-25),
        1e-10,
        0.0,
    ];
    std::array::from_fn(|i| match some.get(i) {
        Some(value) => *value,
        // Any others, from 2^-13 to 2^12.
        None => (1.0 + (i as f32 * 0.618_034).fract()) * two_to(i as i32 - some.len() as i32 - 13),
    })
}

/// The nearest 16-bit float, ties to even, and no further than the largest.
fn nearest_half(x: f32) -> f32 {
    let exponent = x.abs().log2().floor().max(-14.0);
    let unit = (exponent - 10.0).exp2();
    ((x / unit).round_ties_even() * unit).clamp(-65_504.0, 65_504.0)
}

/// One block and one head, whose values are `values` for the first token, and nothing else that
/// changes the hidden state; the logits are what they have become.
fn transparent(values: &[f32; VALUES]) -> Llama {
    let mut llama = Llama::random(Shape {
        vocab: VALUES + 1,
        dim: DIM,
        heads: 1,
        kv_heads: 1,
        head_dim: VALUES,
        rope_dim: VALUES,
        blocks: 1,
        ..Shape::of(GgmlType::F32)
    });
    let mut put = |name: &str, numbers: &dyn Fn(usize, usize) -> f32| {
        let tensor = llama.tensor_mut(name);
        let cols = tensor.dims[0] as usize;
        let count = tensor.dims.iter().product::<u64>() as usize;
        let floats = (0..count).map(|i| numbers(i / cols, i % cols));
        tensor.bytes = floats.flat_map(f32::to_le_bytes).collect();
    };
    let one_if = |is_one: bool| f32::from(u8::from(is_one));
    put("token_embd.weight", &|_, col| INPUT * one_if(col < INPUTS));
    // The root mean square is half of the input.
    put("blk.0.attn_norm.weight", &|_, _| 0.5);
    put("blk.0.attn_v.weight", &|row, col| values[row] * one_if(col == 0));
    put("blk.0.attn_output.weight", &|row, col| one_if(row == col + INPUTS));
    put("blk.0.ffn_down.weight", &|_, _| 0.0);
    put("output_norm.weight", &|_, _| 1.0);
    put("output.weight", &|row, col| one_if(col == row + INPUTS && row < VALUES));
    llama
}

/// Heads of whole vectors, or with a rest.
fn shape([heads, kv_heads, head_dim]: [usize; 3]) -> Shape {
    Shape {
        blocks: 3,
        dim: 288,
        ffn: 416,
        heads,
        kv_heads,
        head_dim,
        rope_dim: head_dim,
        ..Shape::of(GgmlType::Q4_1)
    }
}

/// The last token of the vocabulary comes last.
fn logits(session: &mut Session) -> Vec<u8> {
    common::logits(session, [3, 50, 96])
}

/// A cache of 16-bit floats has other bits, but the same ones everywhere, and near the exact ones.
#[test]
fn halves_are_the_same_everywhere() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut hashes = String::new();
        for heads in [[9, 3, 32], [8, 2, 36], [16, 4, 50]] {
            let path = Llama::random(shape(heads)).save(folder.path());
            let model = Model::open(&path).unwrap();
            let run = |transformer: &Transformer, options: &SessionOptions| {
                logits(&mut transformer.start(&model, options).unwrap())
            };
            let [exact, near] = [CacheType::F32, CacheType::F16].map(|cache_type| {
                let mut options = options(cache_type);
                options.activations = Activations::F32;
                run(&transformer, &options)
            });
            let rms = rms(&exact, &near);
            assert!(rms > 1e-6 && rms < 1e-3, "{rms}");
            let expected = run(&transformer, &options(CacheType::F16));
            for flavor in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
                let transformer = Transformer::with_flavor(engine, flavor).unwrap();
                assert!(run(&transformer, &options(CacheType::F16)) == expected, "{flavor:?}");
            }
            for (ranks, placement, split) in [
                (1, Placement::sharded32(2), Split::CacheApart),
                (1, Placement::multi32(), Split::ByLayer),
                (1, Placement::resident32(), Split::ByKind),
                (2, Placement::multi32(), Split::ByKind),
                (3, Placement::resident32(), Split::CacheApart),
                (4, Placement::resident32(), Split::ByLayer),
            ] {
                let mut options = options(CacheType::F16);
                options.ranks = Ranks::Exactly(ranks);
                options.placement = placement.with_split(split).unwrap();
                assert!(run(&transformer, &options) == expected, "{options:?}");
                options.batch = 1;
                options.profile = true;
                assert!(run(&transformer, &options) == expected, "{options:?}");
            }
            hashes.push_str(&format!("{:x?}", Sha256::digest(&expected)));
        }
        hashes
    });
}

fn rms(a: &[u8], b: &[u8]) -> f64 {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    let (a, b) = (floats(a), floats(b));
    let squares = a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn halves_take_half_of_the_memory() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape([9, 3, 32])).save(folder.path());
        let bytes = |cache_type| {
            let mut options = options(cache_type);
            options.placement = Placement::Auto { split: Split::CacheApart };
            let session = Transformer::new(engine)
                .unwrap()
                .start(&Model::open(&path).unwrap(), &options)
                .unwrap();
            let plan = &session.placed().plan;
            let kv: Vec<_> =
                plan.memories.iter().filter(|it| it.region == PlannedMemory::KV).collect();
            assert_eq!(kv.len(), 1);
            kv[0].bytes
        };
        // Blocks, keys and values, heads, positions and floats of a head.
        let floats = 3 * 2 * 3 * 40 * 32;
        let pages = |bytes: u64| bytes.next_multiple_of(1 << 16);
        assert_eq!(bytes(CacheType::F32), pages(floats * 4));
        assert_eq!(bytes(CacheType::F16), pages(floats * 2));
    });
}
