//! The guests of `guest/examples/` do the same on every engine, and what a program of this machine does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use polychord::api::abi::PAGE;
use polychord::api::abi::code::{LAYER_NOT_FOUND, NOT_ENABLED};
use polychord::api::{
    Caller, CopyReason, Engine, Error, HostError, Imports, Instantiation, LayerId, LayerSpec,
    Limits, LoadMethod, Memory64, MemorySpec, Runtime, Source, SourceRange,
};
use polychord::model::gguf::GgmlType;

use common::llama::{Llama, Shape};
use common::{engines_agree, skip, test_name};

/// Set where a test runs for one engine, in a process of its own.
const RESULT: &str = "POLYCHORD_TEST_RESULT";
/// Floats of each layer.
const FLOATS: usize = 100_000;
/// Layers that are added before the first call.
const ADDED: [LayerId; 2] = [LayerId(4), LayerId(0)];
/// A layer that a guest asks for before the host has loaded it.
const LATE: LayerId = LayerId(7);
/// A layer in a memory of the host.
const IN_HOST: LayerId = LayerId(8);

/// Layers are summed where they lie and in a copy, by guests in Rust, C and C++.
#[test]
fn sums_are_the_same_everywhere() {
    let Some(guests) = built() else { return };
    let file = weights();
    engines_agree(test_name!(), |engine| {
        let mut sums = String::new();
        for language in ["rust", "c", "cpp"] {
            for address in ["wasm32", "wasm64"] {
                let path = guests.join(format!("sum-{language}-{address}.wasm"));
                let Ok(wasm) = std::fs::read(&path) else {
                    assert_eq!((language, address), ("cpp", "wasm64"), "{}", path.display());
                    continue;
                };
                if address == "wasm64" && engine.capabilities().memory64 == Memory64::Host {
                    let refused = engine.compile(&wasm);
                    assert!(matches!(refused, Err(Error::Unmet { .. })), "{language}");
                    continue;
                }
                let added = sum(engine, &wasm, file.path());
                // Not all engines run all of them: what they compute is one constant.
                assert!(sums.is_empty() || sums == added, "{language} {address}");
                sums = added;
            }
        }
        sums
    });
}

/// Functions of this program are called from Rust and from C, as they were declared there.
#[test]
fn guests_call_the_program() {
    let Some(guests) = built() else { return };
    let mut imports = Imports::new();
    imports
        .function("host", "log", |caller: &mut Caller<'_>, (text, len): (u32, u32)| {
            let text = caller.read_str(text, len)?.to_owned();
            caller.state_mut::<Vec<String>>().unwrap().push(text);
            Ok::<_, HostError>(i64::from(len))
        })
        .unwrap()
        .function("host", "name", |caller: &mut Caller<'_>, (to, max): (u32, u32)| {
            assert_eq!(max, 32);
            caller.write(to, b"polychord")?;
            Ok::<_, HostError>(9_u32)
        })
        .unwrap()
        .function("host", "scale", |_: &mut Caller<'_>, (by, number): (f64, u32)| {
            by * f64::from(number)
        })
        .unwrap();
    engines_agree(test_name!(), |engine| {
        for language in ["rust", "c"] {
            let path = guests.join(format!("hello-{language}-wasm32.wasm"));
            let module = engine.compile(&std::fs::read(path).unwrap()).unwrap();
            let limits = Limits::default();
            let start = Instantiation::new(&limits).imports(&imports).state(Vec::<String>::new());
            let mut guest = module.instantiate_with(start).unwrap();
            let told: f64 = guest.call_typed("greet", ()).unwrap();
            assert_eq!(told.to_bits(), 48.0_f64.to_bits(), "{language}");
            assert_eq!(guest.state::<Vec<String>>().unwrap()[..], ["hello, ", "polychord"]);
        }
        String::new()
    });
}

/// Programs with a standard library, in Rust and C, with the layers of a model.
#[test]
#[cfg(feature = "cli")]
fn commands_with_a_standard_library_run() {
    let Some(guests) = built() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { context: 64, ..Shape::of(GgmlType::Q8_0) };
    let model = Llama::random(shape).save(folder.path());
    engines_agree(test_name!(), |engine| {
        let run = |guest: &str, args: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_polychord"))
                .args(["run", "--engine", engine.capabilities().engine, "--model"])
                .arg(&model)
                .arg(guests.join(guest))
                .arg("--")
                .args(args)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let (code, text) = (output.status.code(), String::from_utf8(output.stdout).unwrap());
            (code, text, String::from_utf8(output.stderr).unwrap())
        };
        let (code, report, refused) = run("report.wasm", &["0", "1", "999"]);
        assert_eq!(code, Some(1), "{report} {refused}");
        assert!(report.starts_with("layer 0: "), "{report}");
        assert!(refused.contains("layer 999"), "{refused}");
        let (code, words, errors) = run("words.wasm", &[]);
        assert_eq!((code, &errors[..]), (Some(0), ""), "{words}");
        format!("{report}{words}")
    });
}

/// What docs/guests.md tells a reader to write and to type makes guests that run.
#[test]
fn docs_make_guests() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests-of-docs");
    if std::env::var_os(RESULT).is_none() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        if let Err(reason) = type_docs(&folder) {
            return skip(&format!("docs/guests.md cannot be carried out: {reason}"));
        }
    }
    let file = weights();
    engines_agree(test_name!(), |engine| {
        let mut bits = String::new();
        for name in ["target/wasm32-unknown-unknown/release/weights.wasm", "weights-c.wasm"] {
            let wasm = std::fs::read(folder.join("weights").join(name)).unwrap();
            let mut guest = engine.compile(&wasm).unwrap().instantiate(&Limits::default()).unwrap();
            let source = Source::open(file.path()).unwrap();
            let range = SourceRange::new(LayerId(0), "weights", start(1), BYTES);
            guest.add_layers(&source, [range]).unwrap();
            let sum = call_f64(&mut *guest, "sum", LayerId(0));
            assert_eq!(sum.to_bits(), native_sum(1).to_bits(), "{name}");
            assert!(call_f64(&mut *guest, "sum", LayerId(1)).is_nan(), "{name}");
            bits += &format!("{:x} ", sum.to_bits());
        }
        bits
    });
}

/// Writes the files of docs/guests.md and types its commands, in its order.
fn type_docs(folder: &Path) -> Result<(), String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let docs = std::fs::read_to_string(Path::new(root).join("docs/guests.md")).unwrap();
    let mut script = String::from("set -ex\n");
    let (mut before, mut commands, mut files) = ("", 0, 0);
    let mut lines = docs.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let name = before.strip_prefix('`').and_then(|name| name.strip_suffix("`:"));
            if language == "console" {
                commands += block.len();
                for command in block {
                    script += &format!("{}\n", command.strip_prefix("$ ").unwrap());
                    if command == "$ cd weights" {
                        // What is built of the standard library stays for the next time.
                        script += "ln -sfn \"$BUILT\" target\n";
                    }
                }
            } else if let Some(name) = name {
                files += 1;
                let copy = folder.join(format!("file-{files}"));
                std::fs::write(&copy, block.join("\n") + "\n").unwrap();
                script += &format!("cp '{}' {name}\n", copy.display());
            }
        }
        before = if line.is_empty() { before } else { line };
    }
    assert_eq!((files, commands), (2, 6), "docs/guests.md has other files and commands");
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests-of-docs-target");
    std::fs::create_dir_all(&built).unwrap();
    let status = Command::new(Path::new(root).join("scripts/with-guest-compilers"))
        .args(["bash", "-c", &script])
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .envs([("POLYCHORD", root.as_ref()), ("BUILT", built.as_os_str())])
        .env("CARGO_UNSTABLE_BUILD_STD", "core,panic_abort")
        .envs(QUICKLY)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        failed => Err(format!("{failed:?}, see above")),
    }
}

/// Runs a guest that sums, and returns the bits of the sums.
fn sum(engine: &Arc<dyn Engine>, wasm: &[u8], file: &Path) -> String {
    let mut guest = engine.compile(wasm).unwrap().instantiate(&Limits::default()).unwrap();
    let guest = &mut *guest;
    #[allow(unsafe_code, reason = "the file belongs to the test alone")]
    // SAFETY: nothing writes to it.
    let source = unsafe { Source::open_mapped(file) }.unwrap();
    let maps = engine.capabilities().mapping;

    let range = |index: usize, id: LayerId| {
        SourceRange::new(id, format!("layer {}", id.0), start(index), BYTES)
    };
    let ranges = ADDED.iter().enumerate().map(|(index, id)| range(index, *id));
    let added = guest.add_layers(&source, ranges).unwrap();
    assert_eq!(added.mapped(), if maps { ADDED.len() } else { 0 });

    let mut sums = String::new();
    for (index, id) in ADDED.into_iter().enumerate() {
        let expected = native_sum(index);
        for export in ["sum_mapped", "sum_loaded"] {
            let sum = call_f64(guest, export, id);
            assert_eq!(sum.to_bits(), expected.to_bits(), "{export}: {sum}, not {expected}");
            sums += &format!("{:x} ", sum.to_bits());
        }
    }
    let copied: u64 = guest.call_typed("copied", ()).unwrap();
    assert_eq!(copied, if maps { 0 } else { 2 });
    assert_eq!(guest.stats().copied_in_calls, 0);

    // A layer that is not loaded is copied, and that is told.
    let late = guest.create_memory64(&MemorySpec::guest(16 * PAGE)).unwrap();
    let place = start(2) % PAGE;
    guest.register_layer(LayerSpec::of(&range(2, LATE), &source, late, place)).unwrap();
    assert_eq!(call_f64(guest, "sum_mapped", LATE).to_bits(), native_sum(2).to_bits());
    assert_eq!(guest.stats().copied_in_calls, 1);
    let loaded = guest.load_layer(LATE).unwrap();
    assert_eq!((loaded.method, loaded.reason), (LoadMethod::Copied, Some(CopyReason::GuestRuns)));

    // A layer of the host has no address in the guest, but can be copied.
    let host = guest.create_memory64(&MemorySpec::host(16 * PAGE)).unwrap();
    guest.register_layer(LayerSpec::of(&range(0, IN_HOST), &source, host, 0)).unwrap();
    assert!(call_f64(guest, "sum_mapped", IN_HOST).is_nan());
    assert_eq!(call_f64(guest, "sum_loaded", IN_HOST).to_bits(), native_sum(0).to_bits());
    for (id, code) in [(LATE.0, 0), (IN_HOST.0, NOT_ENABLED), (99, LAYER_NOT_FOUND)] {
        assert_eq!(guest.call_typed::<_, i32>("refusal", (id,)).unwrap(), code);
    }
    sums
}

fn call_f64(guest: &mut dyn Runtime, export: &str, id: LayerId) -> f64 {
    guest.call_typed(export, (id.0,)).unwrap()
}

const BYTES: u64 = 4 * FLOATS as u64;

/// Where a layer begins in the file: not at the begin of a page.
fn start(index: usize) -> u64 {
    4096 + index as u64 * (BYTES + 64)
}

/// The floats of a layer: of all sizes, so that another order would give another sum.
fn floats(index: usize) -> impl Iterator<Item = f32> {
    let mut state = 1 + index as u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = u16::try_from(state >> 48).unwrap();
        (f32::from(number) - 32_768.0) * f32::from(number & 0xff)
    })
    .take(FLOATS)
}

fn native_sum(index: usize) -> f64 {
    floats(index).map(f64::from).sum()
}

/// A file with three layers.
fn weights() -> tempfile::NamedTempFile {
    let mut bytes = vec![0; usize::try_from(start(3)).unwrap()];
    for index in 0..3 {
        let at = usize::try_from(start(index)).unwrap();
        for (slot, float) in bytes[at..].chunks_exact_mut(4).zip(floats(index)) {
            slot.copy_from_slice(&float.to_le_bytes());
        }
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

/// How guests are compiled here, and what is built of the standard library with them: minutes are at stake.
const QUICKLY: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];

/// The folder of the built guests; none where they cannot be built.
fn built() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-examples");
    if std::env::var_os(RESULT).is_some() {
        return Some(folder);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/build-guest-examples");
    let mut command = Command::new(script);
    command.arg("--strict").arg("--out").arg(&folder);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-examples-target");
    command.env("POLYCHORD_GUEST_TARGET_DIR", target).envs(QUICKLY);
    match command.status() {
        Ok(status) if status.success() => Some(folder),
        failed => {
            skip(&format!("the guests of guest/examples cannot be built (see above): {failed:?}"));
            None
        }
    }
}
