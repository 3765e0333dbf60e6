//! `--isolate`: the same bits from a process that may only compute, and what it says when that ends.

use serde_json::Value;

use super::{Done, Place, has_landlock};

/// What is the same with and without it.
fn of(place: &Place, args: &[&str]) -> (Value, Value, Value) {
    let json = place.generate_json(args);
    (json["ids"].clone(), json["text"].clone(), json["logits_sha256"].clone())
}

#[test]
fn it_has_the_same_bits_on_each_engine() {
    if !has_landlock() {
        return super::skip("the kernel has no Landlock");
    }
    let place = Place::new();
    let prompt = ["--prompt-ids", "1,5,9,2", "-n", "8"];
    let alone = of(&place, &prompt);
    for engine in polychord::available() {
        let ways: [&[&str]; 4] = [
            &[],
            &["--ranks", "2", "--load", "copy"],
            &["--placement", "sharded32", "--memories", "2"],
            &["--placement", "paged"],
        ];
        for way in ways {
            let args = [&prompt, way, &["--engine", engine, "--isolate"]].concat();
            assert_eq!(of(&place, &args), alone, "{args:?}");
        }
    }
    let drawn = [&prompt[..], &["--temperature", "0.9", "--seed", "3"]].concat();
    assert_eq!(of(&place, &[&drawn[..], &["--isolate"]].concat()), of(&place, &drawn));
}

#[test]
fn what_is_wrong_is_said() {
    if !has_landlock() {
        return super::skip("the kernel has no Landlock");
    }
    let place = Place::new();
    let prompt = ["--prompt-ids", "1,2", "--isolate"];
    let with = |args: &[&str]| -> Done { place.generate(&[&prompt, args].concat()) };
    with(&["--save", "state"]).error(2, &["--isolate", "--save"]);
    with(&["--model", "http://127.0.0.1:9/model.gguf"])
        .error(2, &["cannot be used multiple times"]);
    place
        .run(&["generate", "--isolate", "a", "--model", "http://127.0.0.1:9/model.gguf"])
        .error(2, &["127.0.0.1", "fetch it first"]);
    // What the other process finds out.
    place
        .generate(&["--isolate", "--prompt-ids", "1,4000"])
        .error(1, &["in the process that computes", "4000"]);
    with(&["--placement", "paged", "--resident", "1B"])
        .error(1, &["in the process that computes", "1"]);
}

#[test]
fn a_process_that_is_not_asked_by_another_one_ends_with_a_reason() {
    if !has_landlock() {
        return super::skip("the kernel has no Landlock");
    }
    let place = Place::new();
    let args =
        ["isolated-session", "--model", "model.gguf", "--vocabulary", "97", "--context", "8"];
    place.run(&[&args[..], &["--memory", "1GiB"]].concat()).error(1, &["cannot join"]);
}

/// What `run --isolate` gives to a guest: its directories, its streams and its exit code, and nothing else.
mod own_guest {
    use std::fs;
    use std::process::Stdio;

    use super::super::{Done, Place, has_landlock, skip};

    /// Copies `in` to `out` and to standard output, and ends with 7; or calls itself for ever.
    const GUEST: &str = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "inout")
        (data (i32.const 0) "\00\10\00\00\00\10\00\00")
        (func $file (param $name i32) (param $len i32) (param $create i32) (param $rights i64) (result i32)
            (if (call $open (i32.const 3) (i32.const 0) (local.get $name) (local.get $len) (local.get $create)
                (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)) (then (call $exit (i32.const 9))))
            (i32.load (i32.const 16)))
        (func (export "_start") (local $in i32)
            (local.set $in (call $file (i32.const 64) (i32.const 2) (i32.const 0) (i64.const 2)))
            (drop (call $read (local.get $in) (i32.const 0) (i32.const 1) (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
            (drop (call $write (call $file (i32.const 66) (i32.const 3) (i32.const 1) (i64.const 64))
                (i32.const 0) (i32.const 1) (i32.const 24)))
            (call $exit (i32.const 7)))
        (func $deeper (param i32) (result i32)
            (i32.store (i32.const 128) (local.get 0))
            (i32.sub (call $deeper (i32.add (local.get 0) (i32.const 1))) (i32.load (i32.const 128))))
        (func (export "deep") (result i32) (call $deeper (i32.const 0)))
        (func (export "add") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))"#;

    fn place() -> Place {
        let place = Place::new();
        fs::write(place.path("guest.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
        fs::create_dir(place.path("folder")).unwrap();
        fs::write(place.path("folder/in"), "some words\n").unwrap();
        place
    }

    #[test]
    fn it_reads_and_writes_what_it_is_given() {
        if !has_landlock() {
            return skip("the kernel has no Landlock");
        }
        let place = place();
        for engine in polychord::available() {
            let run = |args: &[&str]| -> Done {
                let all = [&["run", "guest.wasm", "--isolate", "--engine", engine], args].concat();
                let mut command = place.command(&all);
                command.stdin(Stdio::null());
                Done::of(command)
            };
            _ = fs::remove_file(place.path("folder/out"));
            let done = run(&["--dir", "folder::/"]);
            assert_eq!(
                (done.code, done.stdout.as_str(), done.stderr.as_str()),
                (7, "some words\n", ""),
                "{engine}"
            );
            assert_eq!(fs::read_to_string(place.path("folder/out")).unwrap(), "some words\n");
            // Read only: it cannot write.
            assert_eq!(run(&["--dir", "folder::/:ro"]).code, 9, "{engine}");
            assert_eq!(run(&["--invoke", "add", "--", "4"]).out(), "5\n", "{engine}");
            run(&["--invoke", "add"]).error(2, &["takes 1 arguments"]);
            run(&["--dir", "nowhere"]).error(125, &["nowhere"]);
        }
        place.run(&["run", "none.wasm", "--isolate"]).error(125, &["none.wasm"]);
    }

    /// WasmEdge does not contain this: the process ends by a signal, which is an error of the first one.
    #[test]
    fn runaway_recursion_ends_a_process_that_only_computes() {
        if !has_landlock() {
            return skip("the kernel has no Landlock");
        }
        let place = place();
        for engine in polychord::available() {
            let deep = ["run", "guest.wasm", "--isolate", "--engine", engine, "--invoke", "deep"];
            let done = place.run(&deep);
            assert_eq!(done.code, 134, "{engine}: {done:?}");
            let words: &[&str] = match engine {
                "wasmedge" => &["the process of the guest ended by signal: 11 (SIGSEGV)"],
                _ => &["stack"],
            };
            done.error(134, words);
        }
    }
}
