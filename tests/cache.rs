//! The cache of keys and values as 16-bit floats, and as blocks of 8-bit integers.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use polychord::api::{Engine, PlannedMemory, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, CacheType, ErrorKind, Model, Placement, Ranks, Session, SessionOptions,
    SimdFlavor, Split, Transformer,
};
use sha2::{Digest, Sha256};

use common::architecture::{Family, Shape as FamilyShape};
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
fn values_are_rounded_as_the_type_says() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let values = values();
        let blocks = values_for_blocks();
        let path = transparent(&values).save(folder.path());
        let other = tempfile::tempdir().unwrap();
        let other = transparent(&blocks).save(other.path());
        let other = Model::open(&other).unwrap();
        let model = Model::open(&path).unwrap();
        for flavor in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
            let transformer = Transformer::with_flavor(engine, flavor).unwrap();
            for (model, cache_type, expected) in [
                (&model, CacheType::F32, values),
                (&model, CacheType::F16, values.map(nearest_half)),
                (&other, CacheType::F32, blocks),
                (&other, CacheType::Q8_0, in_blocks(&blocks)),
            ] {
                let mut session = transformer.start(model, &options(cache_type)).unwrap();
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
const INPUTS: usize = 32;
const DIM: usize = 128;
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
        None => (1.0 + (i as f32 * 0.618_034).fract()) * two_to((i - some.len()) as i32 % 26 - 13),
    })
}

/// A block whose scale is 1, with ties, and one with any numbers, of which the largest is negative.
fn values_for_blocks() -> [f32; VALUES] {
    let some = [127.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.499_999_97, 126.5, -126.5, 0.0, 1e-9, -63.75];
    std::array::from_fn(|i| match some.get(i) {
        Some(value) => *value,
        None if i < 32 => (i as f32 * 0.618_034).fract() * 250.0 - 125.0,
        None if i == 40 => -0.123_456,
        None => (i as f32 * 0.618_034).fract() * 0.2 - 0.1,
    })
}

/// What ggml's `quantize_row_q8_0_ref` makes of numbers, and `dequantize_row_q8_0` of that.
fn in_blocks(values: &[f32; VALUES]) -> [f32; VALUES] {
    let mut blocks = *values;
    for block in blocks.as_chunks_mut::<32>().0 {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        // `round` of Rust and `roundf` of C are one.
        *block = block.map(|value| (value * inverse).round() * nearest_half(scale));
    }
    blocks
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
        let heads = [[9, 3, 32], [8, 2, 36], [16, 4, 50]];
        same_everywhere(engine, CacheType::F16, &heads, 1e-6..1e-3)
    });
}

/// So has one of blocks of integers; heads have one block or more, and share keys by 1 to 5.
#[test]
fn blocks_are_the_same_everywhere() {
    engines_agree(test_name!(), |engine| {
        let heads = [[9, 3, 32], [8, 4, 64], [5, 1, 96], [4, 4, 32]];
        same_everywhere(engine, CacheType::Q8_0, &heads, 1e-4..0.1)
    });
}

fn same_everywhere(
    engine: &Arc<dyn Engine>,
    cache_type: CacheType,
    heads: &[[usize; 3]],
    distance: Range<f64>,
) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut hashes = String::new();
    for heads in heads.iter().copied() {
        let path = Llama::random(shape(heads)).save(folder.path());
        let model = Model::open(&path).unwrap();
        let run = |transformer: &Transformer, options: &SessionOptions| {
            logits(&mut transformer.start(&model, options).unwrap())
        };
        let [exact, near] = [CacheType::F32, cache_type].map(|cache_type| {
            let mut options = options(cache_type);
            options.activations = Activations::F32;
            run(&transformer, &options)
        });
        let rms = rms(&exact, &near);
        assert!(distance.contains(&rms), "{rms}");
        let expected = run(&transformer, &options(cache_type));
        for flavor in [SimdFlavor::Plain, SimdFlavor::Relaxed] {
            let transformer = Transformer::with_flavor(engine, flavor).unwrap();
            assert!(run(&transformer, &options(cache_type)) == expected, "{flavor:?}");
        }
        for (ranks, placement, split) in [
            (1, Placement::sharded32(2), Split::CacheApart),
            (1, Placement::multi32(), Split::ByLayer),
            (1, Placement::resident32(), Split::ByKind),
            (2, Placement::multi32(), Split::ByKind),
            (3, Placement::resident32(), Split::CacheApart),
            (4, Placement::resident32(), Split::ByLayer),
        ] {
            if ranks > heads[0] as u32 {
                continue;
            }
            let mut options = options(cache_type);
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
fn smaller_numbers_take_less_memory() {
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
        assert_eq!(bytes(CacheType::Q8_0), pages(floats / 32 * 34));
    });
}

/// Rows of other lengths are refused with their numbers, before anything is started.
#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        for (head_dim, row) in [(36, "has 36"), (1056, "has 1056")] {
            let folder = tempfile::tempdir().unwrap();
            let path = Llama::random(shape([8, 2, head_dim])).save(folder.path());
            let model = Model::open(&path).unwrap();
            assert!(transformer.start(&model, &options(CacheType::F16)).is_ok());
            let error = transformer.start(&model, &options(CacheType::Q8_0)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let text = error.to_string();
            assert!(text.contains(row) && text.contains("blocks of 32 numbers"), "{text}");
        }
    });
}

/// As many numbers as a row can have, which are expanded four rows at a time.
#[test]
fn the_longest_rows_are_computed() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape([2, 1, 1024])).save(folder.path());
        let model = Model::open(&path).unwrap();
        let run = |cache_type| {
            let mut options = options(cache_type);
            options.activations = Activations::F32;
            logits(&mut transformer.start(&model, &options).unwrap())
        };
        let rms = rms(&run(CacheType::F32), &run(CacheType::Q8_0));
        assert!((1e-4..0.1).contains(&rms), "{rms}");
    });
}

/// Every family whose rows are whole blocks: windows as rings, chunks, states beside rows, keys that blocks
/// share, and one row for all heads. A session that is forked or that travels goes on with the same bits.
#[test]
fn blocks_are_the_same_in_every_family() {
    engines_agree(test_name!(), |engine| {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/architectures");
        let mut paths: Vec<_> =
            data.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
        paths.sort();
        let flavors = [SimdFlavor::Plain, SimdFlavor::Relaxed];
        let transformers = flavors.map(|it| Transformer::with_flavor(engine, it).unwrap());
        let (mut hashes, mut seen) = (String::new(), BTreeSet::new());
        for path in &paths {
            let golden = Golden::read(path);
            if seen.insert(golden.architecture.clone()) {
                let hash = golden.hash(&transformers);
                hashes.push_str(&format!("{} {hash}\n", golden.architecture));
            }
        }
        assert!(seen.len() > 25, "{seen:?}");
        hashes
    });
}

/// What is needed of a file in tests/data/architectures, with heads of 32.
#[derive(serde::Deserialize)]
struct Golden {
    architecture: String,
    seed: u64,
    model: FamilyShape,
    prompts: Vec<Prompt>,
}

#[derive(serde::Deserialize)]
struct Prompt {
    prompt_ids: Vec<u32>,
    gen_ids: Vec<u32>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let mut json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let model = json["model"].as_object_mut().unwrap();
        // A row of latent attention is that vector, of 32, and the rotated part.
        let is_latent = model.contains_key("kv_lora");
        model.insert(if is_latent { "rot" } else { "hd" }.into(), 32.into());
        if model.contains_key("hd_swa") {
            model.insert("hd_swa".into(), 32.into());
        }
        serde_json::from_value(json).unwrap()
    }

    /// The hash of the logits that follow a prompt, which is the same however they are computed.
    fn hash(&self, [plain, relaxed]: &[Transformer; 2]) -> String {
        let Self { architecture, seed, model, prompts } = self;
        let family =
            Family { architecture: architecture.clone(), seed: *seed, shape: model.clone() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, family.file()).unwrap();
        let model = Model::open(&path).unwrap();
        let options =
            |batch| SessionOptions::new().context(96).batch(batch).cache_type(CacheType::Q8_0);
        let prompt: Vec<_> = prompts.iter().flat_map(|it| it.prompt_ids.iter().copied()).collect();
        let prompt = &prompt[..prompt.len().min(60)];
        let follow = |session: &mut Session| {
            let ids = prompts[0].gen_ids.iter().take(6);
            ids.flat_map(|id| session.eval(&[*id]).unwrap().as_bytes().to_vec()).collect::<Vec<_>>()
        };
        let most = (std::fs::metadata(&path).unwrap().len() / 8 * 7).max(8 << 16);
        let paged = Placement::Paged { resident_bytes: Some(most), policy: Policy::Lru };
        let mut expected: Option<Vec<u8>> = None;
        let mut saved: Option<Vec<u8>> = None;
        for (transformer, placement, ranks, batch) in [
            (plain, Placement::resident32(), 1, 64),
            (relaxed, Placement::multi32(), 2, 3),
            (plain, Placement::sharded32(2), 1, 7),
            (relaxed, paged, 1, 16),
        ] {
            let options = options(batch).placement(placement).ranks(Ranks::Exactly(ranks));
            let mut session = transformer.start(&model, &options).unwrap();
            session.eval(prompt).unwrap();
            let mut bytes = Vec::new();
            session.save(&mut bytes).unwrap();
            let expected_bytes = saved.get_or_insert_with(|| bytes.clone());
            assert!(*expected_bytes == bytes, "{architecture}: {options:?}");
            let mut others = [
                session.fork().unwrap(),
                transformer.restore(&model, &bytes[..], &options).unwrap().session,
            ];
            let found = follow(&mut session);
            for other in &mut others {
                assert_eq!(other.profile().prompt.tokens, 0, "computed again");
                assert!(follow(other) == found, "{architecture}: {options:?}");
            }
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(*expected == found, "{architecture}: {options:?}");
        }
        format!("{:x?}", Sha256::digest(expected.unwrap()))
    }
}
