//! An engine of your own: what a backend implements, here around an engine that is there already.
//!
//! A backend translates; what it claims in `Capabilities` is enforced for it. This one claims less
//! than the engine inside has. `examples/wasmi` is a whole backend, and docs/vendors.md the way
//! to it.
//!
//! cargo run --release --example own_engine
#![allow(clippy::print_stdout, reason = "an example")]

use std::sync::Arc;

use polychord::api::spi;
use polychord::api::{Capabilities, Engine, Limits, ModuleInfo, RelaxedSimd, Result, Value};
use polychord::wasmer::WasmerEngine;

#[derive(Debug)]
struct Mine {
    capabilities: Arc<Capabilities>,
    inner: WasmerEngine,
}

impl spi::Engine for Mine {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    // Gets modules that are valid and use nothing that is not claimed.
    fn translate(&self, wasm: &[u8], info: Arc<ModuleInfo>) -> Result<Arc<dyn spi::Module>> {
        println!("translating {} bytes", wasm.len());
        self.inner.translate(wasm, info)
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let inner = WasmerEngine::new()?;
    let mut capabilities = Capabilities::clone(spi::Engine::capabilities(&inner));
    capabilities.engine = "mine";
    capabilities.relaxed_simd = RelaxedSimd::Unsupported;
    // From here on it is like any other engine.
    let engine: Arc<dyn Engine> = Arc::new(Mine { capabilities: Arc::new(capabilities), inner });

    let add = r#"(module (memory (export "memory") 1)
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
    let mut guest = engine.compile(&wat::parse_str(add)?)?.instantiate(&Limits::default())?;
    assert_eq!(guest.call("add", &[Value::I32(40), Value::I32(2)])?, [Value::I32(42)]);

    let relaxed = r#"(module (memory (export "memory") 1) (func (param v128 v128) (result v128)
        (i16x8.relaxed_dot_i8x16_i7x16_s (local.get 0) (local.get 1))))"#;
    let Err(refusal) = engine.compile(&wat::parse_str(relaxed)?) else {
        return Err("what is not claimed has to be refused".into());
    };
    println!("{refusal}");
    Ok(())
}
