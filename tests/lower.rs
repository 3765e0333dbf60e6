//! `polychord lower` as it is typed: what it writes, and what it refuses, with numbers and a way out.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder with modules.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    /// What the command prints, or its error; there is no output file after an error.
    fn lower(&self, module: &str, options: &[&str]) -> Result<String, String> {
        let out = self.0.path().join("out.wasm");
        _ = std::fs::remove_file(&out);
        let done = Command::new(env!("CARGO_BIN_EXE_polychord"))
            .current_dir(self.0.path())
            .args(["lower", module, "-o", "out.wasm"])
            .args(options)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match done.status.code() {
            Some(0) => Ok(text(done.stdout)),
            code => {
                assert_eq!((code, out.exists()), (Some(1), false), "{module}");
                Err(text(done.stderr))
            }
        }
    }
}

#[test]
fn modules_are_lowered_once_or_stay_as_they_are() {
    let place = Place::new();
    let wide = r#"(module (@custom "mine" "kept") (memory (export "memory") i64 1)
        (func (export "load") (param i64) (result i32) (i32.load (local.get 0))))"#;
    place.write("wide.wasm", &wat::parse_str(wide).unwrap());
    let told = place.lower("wide.wasm", &["--max-memory", "8GiB"]).unwrap();
    assert!(
        told.contains("8.00 GiB in 2 segments") && told.contains("exported as memory"),
        "{told}"
    );
    place.write("lowered.wasm", &place.read("out.wasm"));
    assert!(place.read("lowered.wasm").windows(4).any(|it| it == b"kept"));
    let error = place.lower("lowered.wasm", &[]).unwrap_err();
    assert!(error.contains("lowered before") && error.contains("run it as it is"), "{error}");
    // All bytes, also those of sections that nothing reads.
    let narrow = r#"(module (@custom "name" "\ff\ff") (memory 1) (@custom "mine" "\00") (func))"#;
    let narrow = wat::parse_str(narrow).unwrap();
    place.write("narrow.wasm", &narrow);
    assert!(place.lower("narrow.wasm", &[]).unwrap().contains("nothing to lower"));
    assert_eq!(place.read("out.wasm"), narrow);
}

#[test]
fn what_cannot_be_lowered_says_why_and_what_to_do() {
    let place = Place::new();
    let modules = [
        ("large.wasm", "(module (memory i64 1 0x1000000000000))"),
        ("begins.wasm", "(module (memory i64 0x1000000000000))"),
        ("threads.wasm", "(module (memory i64 1 2 shared))"),
        ("component.wasm", "(component)"),
    ];
    for (name, text) in modules {
        place.write(name, &wat::parse_str(text).unwrap());
    }
    place.write("garbage.wasm", b"no module at all");
    place.write("empty.wasm", b"");
    place.write("cut.wasm", b"\0asm\x01\0\0\0\x05\x04");
    for (name, options, parts) in [
        ("large.wasm", &[][..], &["18446744073709551616", "17179869184", "cut_maximum"][..]),
        ("begins.wasm", &["--cut-maximum"], &["begins with 18446744073709551616", "max_memory"]),
        ("large.wasm", &["--max-memory", "1"], &["max_memory is 1", "65,536"]),
        ("large.wasm", &["--segment-pages", "3"], &["segment_pages is 3", "power of two"]),
        (
            "large.wasm",
            &["--cut-maximum", "--max-memories", "3"],
            &["4 memories", "engine has 3", "segment_pages"],
        ),
        ("threads.wasm", &[], &["a shared 64-bit memory (0)", "without threads"]),
        ("component.wasm", &[], &["component", "lower the modules in it"]),
        ("garbage.wasm", &[], &["not valid"]),
        ("empty.wasm", &[], &["not valid"]),
        ("cut.wasm", &[], &["not valid"]),
        (".", &[], &["no file"]),
        ("none.wasm", &[], &["none.wasm"]),
    ] {
        let error = place.lower(name, options).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "no {part} in: {error}");
        }
        assert!(!error.contains("panicked"), "{error}");
    }
    // It would never end.
    if Path::new("/dev/zero").exists() {
        let error = place.lower("/dev/zero", &[]).unwrap_err();
        assert!(error.contains("no file"), "{error}");
    }
}
