//! A guest of your own that reads the weights of a model file, which are mapped into its memory.
//!
//! cargo run --release --example weights -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::api::{Limits, Source};
use polychord::model::Model;

/// Counts the bytes of a layer that are zero; docs/guests.md does such things in Rust and in C.
const GUEST: &str = r#"(module
    (import "env" "memory64_map_layer" (func $address_of (param i32) (result i64)))
    (import "env" "memory64_layer_bytes" (func $length_of (param i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "zeros") (param $layer i32) (result i64)
        (local $at i32) (local $end i32) (local $zeros i64)
        (local.set $at (i32.wrap_i64 (call $address_of (local.get $layer))))
        (local.set $end
            (i32.add (local.get $at) (i32.wrap_i64 (call $length_of (local.get $layer)))))
        (loop $again
            (local.set $zeros (i64.add (local.get $zeros)
                (i64.extend_i32_u (i32.eqz (i32.load8_u (local.get $at))))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $at) (local.get $end))))
        (local.get $zeros)))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: weights MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let mut guest = engine.compile(&wat::parse_str(GUEST)?)?.instantiate(&Limits::default())?;

    let model = Model::open(&path)?;
    let layers = &model.layers()[..3];
    // SAFETY: no program writes to the file while the guest lives.
    #[allow(unsafe_code, reason = "the contract of mapping is met here")]
    let source = unsafe { Source::open_mapped(&path)? };
    let added = guest.add_layers(&source, layers.iter().cloned())?;
    println!("{} layers are mapped, {} copied", added.mapped(), added.copied().count());
    for layer in layers {
        let zeros: u64 = guest.call_typed("zeros", (layer.id.0,))?;
        println!("{}: {zeros} of {} bytes are zero", layer.name, layer.bytes);
    }
    assert_eq!(guest.stats().copied_in_calls, 0);
    Ok(())
}
