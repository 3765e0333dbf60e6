//! A plan is plain data: made on one engine, stored as JSON, carried out on another one.
//!
//! cargo run --release --features wasmtime --example plan -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use std::sync::Arc;

use polychord::api::{Engine, Plan};
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Model, Placement, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: plan MODEL.gguf")?;
    let first = polychord::open("wasmer")?;
    let second = polychord::open("wasmtime").or_else(|_| polychord::open("wasmer"))?;
    let model = Model::open(path)?;

    let options = SessionOptions::new().context(64);
    let shards = options.clone().placement(Placement::sharded32(2));
    let placed = model.place(&shards, first.capabilities())?;
    let json = serde_json::to_string_pretty(&placed.plan)?;
    println!("{}: {} bytes of JSON for {} guests", placed.name, json.len(), placed.plan.guests());

    // Checks it, in linear time: the text may come from anywhere.
    let plan = Plan::from_json(&json)?;
    let planned = options.placement(Placement::Planned(plan));
    let prompt = model.tokenizer()?.encode_prompt("One plan, any engine", SpecialTokens::Parse)?;
    let logits = |engine: &Arc<dyn Engine>, options: &SessionOptions| {
        let mut session = Transformer::new(engine)?.start(&model, options)?;
        session.eval(&prompt).map(|logits| logits.as_bytes().to_vec())
    };
    assert!(logits(&first, &shards)? == logits(&second, &planned)?, "the logits differ");
    for engine in [first, second] {
        println!("{} computed the same logits", engine.capabilities().engine);
    }
    Ok(())
}
