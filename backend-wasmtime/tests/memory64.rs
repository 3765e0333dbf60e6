//! 64-bit memories: mapped pages stay where they are when the memory grows.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(unix)]

use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LayerSpec, Limits, LoadMethod, Memory64, MemorySpec, Runtime, Source,
    Value,
};

const GIB: u64 = 1 << 30;
const WAT: &str = r#"(module (memory (export "memory") i64 1)
    (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
    (func (export "load") (param i64) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i64 i32) (i32.store8 (local.get 0) (local.get 1))))"#;

/// Wasmtime reserves as much address space as the capabilities claim. Within it a memory
/// grows in place; beyond it, Wasmtime would copy the memory to another place, and must not.
#[test]
fn a_memory_with_mapped_pages_grows_in_place_or_not_at_all() {
    let engine = WasmtimeEngine::new().unwrap();
    let Memory64::Native { max_bytes } = engine.capabilities().memory64 else { panic!() };
    let limits = Limits::default().memory_bytes(u64::MAX);
    let mut guest =
        engine.compile(&wat::parse_str(WAT).unwrap()).unwrap().instantiate(&limits).unwrap();
    let layer = map_a_layer(&mut *guest);
    let base = guest.memory().as_ptr();

    guest.create_memory64(&MemorySpec::guest(5 * GIB)).unwrap();
    assert_eq!(guest.call("grow", &[Value::I64(1)]).unwrap(), [pages(5 * GIB + 2 * PAGE)]);
    let last = 5 * GIB + 3 * PAGE - 1;
    guest.call("store", &[Value::I64(last.cast_signed()), Value::I32(9)]).unwrap();
    assert_eq!(guest.memory()[usize::try_from(last).unwrap()], 9);
    assert_eq!(guest.memory().as_ptr(), base);
    check(&mut *guest, layer);

    let beyond = max_bytes / PAGE;
    assert_eq!(guest.call("grow", &[Value::I64(beyond.cast_signed())]).unwrap(), [Value::I64(-1)]);
    let error = guest.create_memory64(&MemorySpec::guest(max_bytes)).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { asked, .. } if asked == max_bytes), "{error:?}");
    assert_eq!(guest.memory().as_ptr(), base);
    check(&mut *guest, layer);
}

/// Maps a page of sevens, and returns its address.
fn map_a_layer(guest: &mut dyn Runtime) -> u64 {
    let folder = std::env::temp_dir().join(format!("polychord-memory64-{}", std::process::id()));
    std::fs::write(&folder, vec![7; usize::try_from(PAGE).unwrap()]).unwrap();
    #[allow(unsafe_code, reason = "the file is removed, and so cannot be changed by others")]
    // SAFETY: no other program knows the file.
    let source = unsafe { Source::open_mapped(&folder).unwrap() };
    std::fs::remove_file(&folder).unwrap();
    let memory = guest.create_memory64(&MemorySpec::guest(PAGE)).unwrap();
    guest.register_layer(LayerSpec::new(LayerId(1), memory, &source).part(0, PAGE)).unwrap();
    let loaded = guest.load_layer(LayerId(1)).unwrap();
    assert_eq!(loaded.method, LoadMethod::Mapped);
    loaded.address.unwrap()
}

/// The layer is what it was, for the host and for the guest.
fn check(guest: &mut dyn Runtime, layer: u64) {
    let start = usize::try_from(layer).unwrap();
    let bytes = &guest.memory()[start..start + usize::try_from(PAGE).unwrap()];
    assert!(bytes.iter().all(|byte| *byte == 7));
    for at in [layer, layer + PAGE - 1] {
        let loaded = guest.call("load", &[Value::I64(at.cast_signed())]).unwrap();
        assert_eq!(loaded, [Value::I32(7)]);
    }
}

fn pages(bytes: u64) -> Value {
    Value::I64((bytes / PAGE).cast_signed())
}
