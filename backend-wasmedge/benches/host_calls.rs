//! What calls between host and guest cost, beside WasmEdge's own SDK, which knows values only. Both interpret:
//! what is measured is not the guest.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

#[path = "../../benches/host_calls/mod.rs"]
mod host_calls;

use std::collections::HashMap;

use polychord_backend_wasmedge::{Mode, WasmEdgeEngine};
use wasmedge_sdk::error::CoreError;
use wasmedge_sdk::{
    CallingFrame, ImportObjectBuilder, Instance, Module, Store, Vm, WasmValue, params,
};

fn add(
    _: &mut (),
    _: &mut Instance,
    _: &mut CallingFrame,
    args: Vec<WasmValue>,
) -> Result<Vec<WasmValue>, CoreError> {
    Ok(vec![WasmValue::from_i32(args[0].to_i32().wrapping_add(args[1].to_i32()))])
}

fn main() {
    let wasm = wat::parse_str(host_calls::GUEST).unwrap();
    let run = |export: &'static str| -> host_calls::Run<'_> {
        let mut builder = ImportObjectBuilder::new("host", ()).unwrap();
        for name in ["typed", "untyped"] {
            builder.with_func::<(i32, i32), i32>(name, add).unwrap();
        }
        // Both live as long as the process.
        let imports = Box::leak(Box::new(builder.build()));
        let instances = HashMap::from([("host".to_owned(), imports)]);
        let mut vm = Vm::new(Store::new(None, instances).unwrap());
        vm.register_module(None, Module::from_bytes(None, &wasm).unwrap()).unwrap();
        Box::new(move |times| {
            if export != "add" {
                vm.run_func(None, export, params!(times)).unwrap();
                return;
            }
            for number in 0..times {
                let results = vm.run_func(None, export, params!(number, 1_i32)).unwrap();
                assert_eq!(results[0].to_i32(), number + 1);
            }
        })
    };
    let own = ["call_typed", "call_untyped", "add", "add"].map(|export| Some(run(export)));
    host_calls::compare("wasmedge", &WasmEdgeEngine::new(Mode::Interpreter).unwrap(), own);
}
