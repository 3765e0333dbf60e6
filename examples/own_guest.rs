//! A guest of your own, which asks the host for the address of a layer of weights.
//!
//! cargo run --release --example own_guest
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::api::{LayerId, LayerSpec, Limits, MemorySpec, Source, Value};

const GUEST: &str = r#"(module
    (import "env" "memory64_map_layer" (func $address_of (param i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "weight") (param $layer i32) (param $index i32) (result f32)
        (f32.load (i32.add
            (i32.wrap_i64 (call $address_of (local.get $layer)))
            (i32.mul (local.get $index) (i32.const 4))))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = polychord::open("wasmer")?;
    let mut guest = engine.compile(&wat::parse_str(GUEST)?)?.instantiate(&Limits::default())?;
    let weights = [0.5_f32, 0.25, 0.125].map(f32::to_le_bytes).concat();

    let (id, bytes) = (LayerId(7), weights.len() as u64);
    let memory = guest.create_memory64(&MemorySpec::guest(bytes))?;
    let source = Source::from_bytes(weights);
    guest.register_layer(LayerSpec::new(id, memory, &source).name("blk.7"))?;
    // Without this the guest would get the layer, too; but a file would be copied, and not mapped.
    let loaded = guest.load_layer(id)?;

    let weight = guest.call("weight", &[Value::I32(7), Value::I32(1)])?;
    assert_eq!(weight, [Value::F32(0.25)]);
    println!("{weight:?} of {loaded:?}\n{:?}", guest.stats());
    Ok(())
}
