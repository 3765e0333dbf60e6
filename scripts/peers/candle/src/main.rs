//! Times candle: `peer-candle MODEL.gguf IDS DECODE`, with RAYON_NUM_THREADS threads.
//!
//! IDS are the prompt's ids with commas between them. Prints what scripts/peers/programs.py
//! describes.

use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use candle_core::quantized::gguf_file;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, ids, decode] = args.as_slice() else {
        candle_core::bail!("usage: peer-candle MODEL.gguf IDS DECODE");
    };
    let prompt: Vec<u32> = ids.split(',').map(|id| id.parse().expect("a number")).collect();
    let decode: usize = decode.parse().expect("a number");

    let mut file = BufReader::new(File::open(model)?);
    let content = gguf_file::Content::read(&mut file)?;
    let mut weights = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;

    let start = Instant::now();
    let mut ids = vec![next(&mut weights, &prompt, 0)?];
    let prompt_ms = ms(start);
    let start = Instant::now();
    for at in prompt.len()..prompt.len() + decode {
        let last = ids[ids.len() - 1];
        ids.push(next(&mut weights, &[last], at)?);
    }
    let decode_ms = ms(start);
    println!(r#"{{"prompt_ms": {prompt_ms}, "decode_ms": {decode_ms}, "ids": {ids:?}}}"#);
    Ok(())
}

/// The best token after `ids`, the first of which stands at `position`.
fn next(weights: &mut ModelWeights, ids: &[u32], position: usize) -> Result<u32> {
    let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
    weights.forward(&input, position)?.squeeze(0)?.argmax(0)?.to_scalar()
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
