//! Files of strangers on the command line: none of their characters commands a terminal, nothing
//! is waited for, and numbers are as large as people type them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};

use polychord::api::is_hidden;
use polychord::model::gguf::GgmlType;
use tempfile::TempDir;

use common::llama::{Llama, Shape};

/// Commands to a terminal, of both sets of control characters, and turns of direction.
const BAD: &str = "x\x1b]0;owned\x07\r\u{9b}2J\u{85}\u{202e}\u{2066}\u{200b}y";

/// What is shown of it.
const SHOWN: &str = r"x\u{1b}]0;owned\u{7}\r\u{9b}2J\u{85}\u{202e}\u{2066}\u{200b}y";

fn model() -> Llama {
    Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) })
}

fn folder(model: &Llama) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path());
    folder
}

/// A file with one more pair in front, whose value is a string; tensors stay aligned.
fn with_pair(file: &[u8], key: &str, value: &str) -> Vec<u8> {
    let mut pair = Vec::new();
    let mut put = |text: &[u8]| {
        pair.extend((text.len() as u64).to_le_bytes());
        pair.extend(text);
    };
    put(key.as_bytes());
    let len = 8 + key.len() + 4 + 8 + value.len();
    let padded = [value.as_bytes(), &vec![b'.'; len.next_multiple_of(32) - len]].concat();
    put(&padded);
    pair.splice(8 + key.len()..8 + key.len(), 8_u32.to_le_bytes());
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 1;
    [&file[..16], &count.to_le_bytes(), &pair, &file[24..]].concat()
}

fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polychord"));
    command.args(args).current_dir(folder.path());
    command.env("POLYCHORD_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/strangers-cache"));
    command.env("HF_ENDPOINT", "http://127.0.0.1:9").env_remove("POLYCHORD_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command, and checks that what it printed commands no terminal.
#[track_caller]
fn run(folder: &TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    checked(&command(folder, args).output().unwrap())
}

#[track_caller]
fn checked(output: &Output) -> (Option<i32>, String, String) {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let hidden = text.chars().find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'));
        assert_eq!(hidden, None, "{text:?}");
        text
    });
    (output.status.code(), stdout, stderr)
}

#[test]
fn inspect_shows_what_terminals_would_obey() {
    let folder = folder(&model());
    let path = folder.path().join("model.gguf");
    let file = fs::read(&path).unwrap();
    fs::write(&path, with_pair(&with_pair(&file, BAD, "v"), "general.name", BAD)).unwrap();
    for args in [&["inspect", "model.gguf"][..], &["inspect", "--full", "model.gguf", "--plan"]] {
        let (code, stdout, stderr) = run(&folder, args);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.matches(SHOWN).count() >= 1, "{stdout}");
    }

    // Names of tensors, of a model that cannot be run.
    let mut odd = model();
    odd.tensor_mut("blk.1.ffn_gate.weight").name = BAD.into();
    odd.save(folder.path());
    let (code, stdout, stderr) = run(&folder, &["inspect", "model.gguf"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(SHOWN), "{stdout}");
}

#[test]
fn errors_show_what_terminals_would_obey() {
    let odd = Llama { architecture: BAD.into(), ..model() };
    let folder = folder(&odd);
    let (code, _, stderr) = run(&folder, &["generate", "a", "--model", "model.gguf"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("owned"), "{stderr}");

    let name = format!("{BAD}.gguf");
    for args in [
        &["generate", "a", "--model", &name][..],
        &["inspect", &name],
        &["pull", &name],
        &["plan", &name],
        &["generate", "a", "--model", "model.gguf", "--plan", &name],
        &["compare", "a", "--model", &name],
    ] {
        let (code, stdout, stderr) = run(&folder, args);
        assert!(code != Some(0) && stderr.contains("owned"), "{stdout}{stderr}");
    }
    for args in [&["generate", "a", "--engine", BAD][..], &["generate", "-n", BAD], &[BAD]] {
        let (code, _, stderr) = run(&folder, args);
        assert!(code == Some(2) && stderr.contains(r"\u{202e}"), "{stderr}");
    }
}

#[test]
fn plans_and_logs_show_what_terminals_would_obey() {
    let folder = folder(&model());
    let written = run(&folder, &["plan", "model.gguf", "-o", "plan.json"]);
    assert_eq!(written.0, Some(0), "{}", written.2);
    let plan = fs::read_to_string(folder.path().join("plan.json")).unwrap();
    let bad = serde_json::to_string(BAD).unwrap();
    fs::write(folder.path().join("plan.json"), plan.replace("\"weights\"", &bad)).unwrap();
    let (code, stdout, stderr) = run(&folder, &["inspect", "model.gguf", "--plan=plan.json"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(SHOWN), "{stdout}");

    let generate = ["generate", "a", "-n", "2", "--model", "model.gguf", "--plan", "plan.json"];
    for more in [&["--stats"][..], &["--stats=json", "--profile"], &["--json", "--stats"]] {
        let mut command = command(&folder, &[&generate[..], more].concat());
        command.env("POLYCHORD_LOG", "trace");
        let (code, _, stderr) = checked(&command.output().unwrap());
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("owned") && stderr.contains("placed"), "{stderr}");
    }
    // Whatever is wrong with it.
    let doubled = plan.replace("\"weights\"", &bad).replace("\"bytes\"", "\"owned\\u009b\"");
    fs::write(folder.path().join("plan.json"), doubled).unwrap();
    let (code, _, stderr) = run(&folder, &generate);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("owned"), "{stderr}");
}

#[test]
fn plans_that_are_newer_or_too_large_are_told() {
    let folder = folder(&model());
    let path = folder.path().join("plan.json");
    let generate = ["generate", "a", "--model", "model.gguf", "--plan", "plan.json"];
    fs::write(&path, r#"{"shards": {}, "version": 3}"#).unwrap();
    let (code, _, stderr) = run(&folder, &generate);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("this plan has version 3, this program reads up to 2: update"));
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let (code, _, stderr) = run(&folder, &generate);
    assert!(code == Some(1) && stderr.contains("at most 67108864"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_models_and_no_plans() {
    let folder = folder(&model());
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    for (path, found) in [("pipe", "a pipe"), ("/dev/zero", "a device"), (".", "a directory")] {
        for args in [
            &["generate", "a", "--model", path][..],
            &["plan", path],
            &["inspect", path],
            &["compare", "a", "--model", path],
            &["pull", path],
            &["generate", "a", "--model", "model.gguf", "--plan", path],
        ] {
            let (code, _, stderr) = run(&folder, args);
            assert!(code == Some(1) && stderr.contains(found), "{args:?}: {stderr}");
        }
    }
}

#[test]
fn as_many_tokens_as_fit_may_be_asked_for() {
    let folder = folder(&model());
    let generate = |tokens: &[&str]| {
        let args = [&["generate", "To be", "--ids", "-q", "--model", "model.gguf"], tokens];
        let (code, stdout, stderr) = run(&folder, &args.concat());
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let all = generate(&["-n", "1000"]);
    assert!(all.split(' ').count() > 1, "{all}");
    for tokens in [
        &["-n", "18446744073709551615"][..],
        &["-n", "18446744073709551610"],
        &["-n", "99999999999999999999999"],
        &["-n", "9223372036854775808"],
        &["-n", "4294967295"],
        &["-n", "-1"],
        &["-n-1"],
        &["--max-tokens", "-1"],
        &["--max-tokens=-1"],
    ] {
        assert_eq!(generate(tokens), all, "{tokens:?}");
    }
    let short = generate(&["-n", "-1", "--context", "20"]);
    assert!(all.starts_with(short.trim_end()) && short.split(' ').count() <= 16, "{short}");
    for wrong in ["-2", "1e3", "", "+5", "x"] {
        let args = ["generate", "a", "--model", "model.gguf", "-n", wrong];
        let (code, _, stderr) = run(&folder, &args);
        assert_eq!(code, Some(2), "{wrong}: {stderr}");
    }
}
