use polychord_backend_wasmedge::Mode;
use polychord_runtime_api::{Limits, MemorySpec, Value};
mod common;
#[test]
fn both() {
    for mode in [Mode::Interpreter, Mode::Aot] {
        let dir = tempfile::tempdir().unwrap();
        let engine = common::engine(mode, &dir);
        let mut guest = common::start(&engine, r#"(module
          (import "env" "memory64_is_enabled" (func $e (result i32)))
          (import "env" "memory64_write" (func $w (param i64 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
          (func (export "enabled") (result i32) (call $e))
          (func (export "write") (param i64 i32 i32) (result i32) (call $w (local.get 0) (local.get 1) (local.get 2))))"#, &Limits::default()).unwrap();
        assert_eq!(guest.call("add", &[2.into(), 3.into()]).unwrap(), [Value::I32(5)]);
        assert_eq!(guest.call("enabled", &[]).unwrap(), [Value::I32(0)]);
        guest.create_memory64(&MemorySpec::guest(100)).unwrap();
        assert_eq!(guest.call("enabled", &[]).unwrap(), [Value::I32(1)]);
        guest.memory_mut()[8] = 7;
        assert_eq!(
            guest.call("write", &[0i64.into(), 8.into(), 4.into()]).unwrap(),
            [Value::I32(4)]
        );
        let mut b = [0];
        guest.read_memory64(polychord_runtime_api::MemoryId(0), 0, &mut b).unwrap();
        assert_eq!(b, [7]);
    }
}
