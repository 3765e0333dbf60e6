//! The command line as it is typed, on a small random model.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "cli/answers.rs"]
mod answers;
mod common;
#[cfg(target_os = "linux")]
#[path = "cli/isolate.rs"]
mod isolate;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use polychord::model::gguf::GgmlType;
use serde_json::Value;
use tempfile::TempDir;

use common::llama::{Llama, Shape};
use common::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_polychord");

/// Bytes of logits of one step.
const STEP: usize = 4 * 97;

/// A folder with a model, and commands that run in it.
struct Place {
    folder: TempDir,
}

/// What a command did.
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self::with(&model())
    }

    fn with(model: &Llama) -> Self {
        let folder = tempfile::tempdir().unwrap();
        model.save(folder.path());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without terminals, without the network, and with a cache that has nothing but what
    /// WasmEdge compiles.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args);
        self.set_up(command)
    }

    fn set_up(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path());
        command.env("POLYCHORD_CACHE", cache()).env("HF_ENDPOINT", "http://127.0.0.1:9");
        command.env_remove("POLYCHORD_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args))
    }

    /// `generate` with the model of this place.
    #[track_caller]
    fn generate(&self, args: &[&str]) -> Done {
        self.run(&[&["generate", "--model", "model.gguf"], args].concat())
    }

    #[track_caller]
    fn generate_json(&self, args: &[&str]) -> Value {
        self.generate(&[args, &["--json"]].concat()).json()
    }
}

impl Done {
    #[track_caller]
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        let code = output.status.code();
        let code = code.unwrap_or_else(|| panic!("{} of {command:?}: {stderr}", output.status));
        Self { code, stdout, stderr }
    }

    /// The output of a command that must have gone well.
    #[track_caller]
    fn out(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.out()).unwrap()
    }

    /// The error of a command that must have failed: one readable paragraph with these words.
    #[track_caller]
    fn error(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        let message = self.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{self:?}"));
        if code == 1 {
            let paragraph = message.strip_suffix('\n').unwrap();
            assert!(!paragraph.contains('\n') && !paragraph.is_empty(), "{self:?}");
        }
        for word in words {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
        for noise in ["panicked", "Error {", "Err(", "Some(", "\u{1b}"] {
            assert!(!message.contains(noise), "{noise:?} in: {message}");
        }
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A model that never ends a text: the logit of that token is always 0.
fn model() -> Llama {
    let mut model = Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) });
    let output = &mut model.tensor_mut("output.weight").bytes;
    let last_row = output.len() / 97 * 96;
    output[last_row..].fill(0);
    model
}

#[cfg(target_os = "linux")]
fn has_landlock() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |lsm| lsm.contains("landlock"))
}

/// The cache of all these tests, below the build's own folder, so that it is made once.
fn cache() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-cache"))
}

#[test]
fn help_and_version() {
    let place = Place::new();
    let help = place.run(&["--help"]).out();
    for command in ["generate", "compare", "pull", "engines", "inspect"] {
        assert!(help.contains(command), "{help}");
        let help = place.run(&[command, "--help"]).out();
        assert!(help.contains("Usage: polychord"), "{help}");
    }
    assert!(!help.contains("compile-guest") && !help.contains("isolated-session"), "{help}");
    let version = place.run(&["--version"]).out();
    assert_eq!(version.trim(), concat!("polychord ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_exit_2() {
    let place = Place::new();
    assert_eq!(place.run(&[]).code, 2);
    place.run(&["sing"]).error(2, &["sing"]);
    place.generate(&["a", "--engine", "v8"]).error(2, &["v8", "wasmer", "wasmtime", "wasmedge"]);
    place.run(&["compare", "--engines", "wasmer,v8"]).error(2, &["v8", "wasmtime"]);
    place.generate(&["a", "--load", "steal"]).error(2, &["steal", "map", "copy"]);
    place.generate(&["a", "--max-tokens", "-2"]).error(2, &["-2", "-1 for as many"]);
    place.generate(&["a", "--ids", "--json"]).error(2, &["--ids", "--json"]);
    place.generate(&["a", "--temperature=-1"]).error(2, &["temperature", "-1"]);
    place.generate(&["a", "--top-p", "1.5"]).error(2, &["top_p", "1.5"]);
    place.generate(&["a", "--repeat-penalty", "0"]).error(2, &["repeat_penalty", "0"]);
    place.run(&["generate", "a", "--model", "hf:owner"]).error(2, &["hf:owner", "repository"]);
}

#[test]
fn models_that_cannot_be_used_are_named() {
    let place = Place::new();
    let no_model: &[&str] = &["none.gguf", "No such file"];
    place.run(&["generate", "a", "--model", "none.gguf"]).error(1, no_model);
    place.run(&["inspect", "none.gguf"]).error(1, no_model);
    place.run(&["pull", "none.gguf"]).error(1, no_model);
    place.run(&["compare", "a", "--model", "none.gguf"]).error(1, no_model);
    place.run(&["generate", "a", "--model", "."]).error(1, &["is a directory"]);

    fs::write(place.path("text"), "This is not a model.\n").unwrap();
    place.run(&["generate", "a", "--model", "text"]).error(1, &["text", "GGUF", "54, 68, 69, 73"]);
    place.run(&["inspect", "text"]).error(1, &["GGUF", "54, 68, 69, 73"]);

    let file = model().file();
    let half = file.len() / 2;
    fs::write(place.path("half.gguf"), &file[..half]).unwrap();
    let cut = place.run(&["generate", "a", "--model", "half.gguf"]);
    cut.error(1, &["half.gguf", &half.to_string(), "get it again"]);
}

#[test]
fn networks_that_cannot_be_computed_are_named() {
    let place = Place::with(&Llama { architecture: "mamba".into(), ..model() });
    place.generate(&["a"]).error(1, &["model.gguf", "\"mamba\"", "\"llama\""]);
    let inspected = place.run(&["inspect", "model.gguf"]).out();
    assert!(inspected.contains("cannot run this model: architecture \"mamba\""), "{inspected}");

    let mut model = model();
    let gate = model.tensor_mut("blk.1.ffn_gate.weight");
    gate.kind = GgmlType::Q8_1;
    gate.bytes.resize(64 * 128 / 32 * 36, 0);
    let place = Place::with(&model);
    place.generate(&["a"]).error(1, &["model.gguf", "blk.1.ffn_gate.weight", "Q8_1", "Q4_1"]);
    let inspected = place.run(&["inspect", "model.gguf"]).out();
    assert!(inspected.contains("cannot run this model: tensor"), "{inspected}");
}

#[test]
fn prompts_that_cannot_be_continued() {
    let place = Place::new();
    let long = "long ".repeat(20);
    place.generate(&[&long]).error(1, &["100 more tokens", "context of 64 tokens"]);
    place.generate(&["", "--quiet"]).error(1, &["prompt", "give some text"]);
    place.generate(&["a", "--context", "65"]).error(1, &["65", "1 to 64"]);
    place.generate(&["a", "--context", "0"]).error(1, &["0", "1 to 64"]);
    let mut command = place.command(&["generate", "--model", "model.gguf"]);
    command.stdin(fs::File::open(place.path("model.gguf")).unwrap());
    Done::of(command).error(1, &["prompt", "stdin", "UTF-8"]);
}

#[test]
fn engines_that_are_not_compiled_in_say_how_to_have_them() {
    let available = polychord::available();
    let place = Place::new();
    let missing = polychord::ENGINES
        .iter()
        .map(polychord::EngineEntry::name)
        .filter(|name| !available.contains(name));
    for name in missing.clone() {
        let feature = format!("--features {name}");
        place.generate(&["a", "--engine", name]).error(1, &[name, &feature, available[0]]);
        place.run(&["compare", "-m", "model.gguf", "-e", name]).error(1, &[name, &feature]);
    }
    if missing.count() == 0 {
        skip("every engine is compiled in, so none can be missing");
    }
}

#[test]
fn text_goes_to_stdout_and_the_summary_to_stderr() {
    let place = Place::new();
    let done = place.generate(&["To be", "-n", "8"]);
    assert_eq!(done.code, 0, "{done:?}");
    for word in ["engine", "resident32", "load mode", "5 prompt + 8 generated", "layer loads"] {
        assert!(done.stderr.contains(word), "{word}: {done:?}");
    }
    // No bar and no color where stderr is no terminal.
    assert!(!done.stderr.contains(['\r', '\u{1b}']), "{done:?}");
    let quiet = place.generate(&["To be", "-n", "8", "--quiet"]).out();
    assert_eq!(quiet, done.stdout);
    let json = place.generate_json(&["To be", "-n", "8"]);
    assert_eq!(format!("{}\n", json["text"].as_str().unwrap()), quiet);
}

#[test]
fn json_has_everything() {
    let place = Place::new();
    let json = place.generate_json(&["To be", "-n", "8", "--load", "copy"]);
    let engine = polychord::default_engine().unwrap();
    let expected = [("engine", engine), ("load", "copy"), ("placement", "resident32")];
    for (key, value) in expected {
        assert_eq!(json[key], value);
    }
    // `T`, `o`, a space, `b` and `e` in a vocabulary that starts with `!`.
    assert_eq!(json["prompt_ids"], serde_json::json!([51, 78, 94, 65, 68]));
    assert_eq!(json["ids"].as_array().unwrap().len(), 8);
    assert_eq!((&json["finish"], &json["context"]), (&"length".into(), &13.into()));
    assert_eq!(json["model"], "model.gguf");
    let hash = json["logits_sha256"].as_str().unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit()), "{hash}");
    for key in ["open", "tokenize", "compile", "load_layers", "ready", "first_token", "generate"] {
        assert!(json["timings_ms"][key].as_f64().unwrap() >= 0.0, "{key}");
    }
    assert!(json["tokens_per_second"].as_f64().unwrap() > 0.0);
    let loads = &json["stats"]["loads"];
    // An embedding, two blocks and an output.
    assert_eq!((loads.as_u64(), json["stats"]["maps"].as_u64()), (Some(4), Some(0)));
    let default = place.generate_json(&["To be", "-n", "8"]);
    let load = if cfg!(target_os = "linux") { "map" } else { "copy" };
    assert_eq!((&default["load"], &default["logits_sha256"]), (&load.into(), &hash.into()));
    assert_eq!(json["load_reason"], "asked for");
    assert!(default["load_reason"].as_str().is_some_and(|reason| reason != "asked for"));
    let touched = &default["touch_ahead"];
    assert_eq!(touched["bytes"], 0);
    assert_eq!(touched["reason"], "caches may hold the weights of a token");
}

/// Each memory has a row, or an object, of what is true of it.
#[test]
fn statistics_have_every_memory() {
    let place = Place::new();
    let run = ["To be", "-n", "4", "--quiet", "--load", "copy", "--split", "cache-apart"];
    let done = place.generate(&[&run[..], &["--stats"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<_> = done.stderr.lines().map(str::trim).collect();
    let head = lines.iter().position(|line| line.starts_with("guest")).unwrap();
    for column in ["memory", "regions", "backed by", "reserved", "resident", "mapped", "loads"] {
        assert!(lines[head].contains(column), "{column}: {done:?}");
    }
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (weights, cache) = (cells(lines[head + 1]), cells(lines[head + 2]));
    assert_eq!(weights[..4], ["0", "0", "weights", "Linear32"]);
    assert_eq!(cache[..4], ["0", "1", "kv", "Linear32"]);
    assert_eq!(cfg!(target_os = "linux"), done.stderr.contains("page faults of the process"));

    let json = |args: &[&str]| -> Value {
        let done = place.generate(&[&run[..], args, &["--stats=json"]].concat());
        assert_eq!(done.code, 0, "{done:?}");
        serde_json::from_str(&done.stderr).unwrap()
    };
    let all = json(&[]);
    let [weights, cache] = [0, 1].map(|memory| &all["guests"][0][memory]);
    let region = |memory: &Value| memory["regions"][0]["name"].clone();
    assert_eq!((region(weights), region(cache)), ("weights".into(), "kv".into()));
    // An embedding, two blocks and an output.
    assert_eq!((&weights["loads"], &cache["loads"]), (&4.into(), &0.into()));
    assert_eq!((&all["totals"]["loads"], &all["totals"]["maps"]), (&4.into(), &0.into()));
    assert_eq!(weights["mapped_bytes"], 0);
    let bytes = |key: &str| weights[key].as_u64().unwrap();
    if cfg!(target_os = "linux") {
        let resident = bytes("resident_bytes");
        assert!(resident > 0 && resident <= bytes("reserved_bytes"), "{all}");
        assert!(all["page_faults"]["minor"].as_u64().unwrap() > 0, "{all}");
    }
    assert!(all["paging"].is_null(), "{all}");
}

/// What a window did is among the statistics.
#[test]
fn statistics_have_what_a_window_did() {
    let place = Place::new();
    let paged = ["--placement", "paged", "--paging", "lru", "--resident", "256KiB"];
    let run = ["To be", "-n", "4", "--quiet", "--stats=json"];
    let done = place.generate(&[&run[..], &paged].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let all: Value = serde_json::from_str(&done.stderr).unwrap();
    let of = |key: &str| all["paging"][key].as_u64().unwrap();
    assert!(of("evictions") > 0 && of("evictions") < of("misses"), "{all}");
    assert_eq!(of("misses"), all["totals"]["loads"].as_u64().unwrap());
    assert!(of("prefetch_hits") <= of("prefetches"), "{all}");
    assert_eq!(all["guests"][0][0]["loads"], all["totals"]["loads"]);
}

/// What is measured adds up: the phases take no longer than the whole, and the rest is the host's.
#[test]
fn a_profile_has_all_parts_of_the_time() {
    let place = Place::new();
    check_profile(&place, &["embed", "blocks", "head", "layers", "ranks"], &[]);
    let apart = ["embed", "attention", "feed_forward", "head", "layers", "ranks"];
    check_profile(&place, &apart, &["--profile"]);
}

fn check_profile(place: &Place, stages: &[&str], args: &[&str]) {
    let one_rank = &["To be", "-n", "8", "--json", "--ranks", "1"];
    let done = place.generate(&[one_rank, args].concat());
    assert_eq!((done.code, done.stderr.is_empty()), (0, args.is_empty()), "{done:?}");
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let ms = |part: &str, phase: &str| json["profile"][part][phase].as_f64().unwrap();
    let timing = |key: &str| json["timings_ms"][key].as_f64().unwrap();
    let decoding = timing("generate") - timing("first_token");
    for (part, phases, total) in [
        ("start", &["compile", "layers"][..], timing("ready")),
        ("prompt", stages, timing("first_token")),
        ("decode", stages, decoding),
    ] {
        let sum: f64 = phases.iter().map(|phase| ms(part, phase)).sum();
        assert!(sum <= total + 1e-6, "{part}: {sum} of {total} in {json}");
        assert!((ms(part, "total") - total).abs() < 1e-6, "{part}: {json}");
        assert!((sum + ms(part, "host") - total).abs() < 1e-6, "{part}: {json}");
    }
    assert_eq!((ms("prompt", "tokens"), ms("decode", "tokens")), (5.0, 7.0));
    for part in ["prompt", "decode"] {
        let computed = stages.iter().filter(|phase| !["layers", "ranks"].contains(phase));
        assert!(computed.chain(&["host"]).all(|phase| ms(part, phase) > 0.0), "{json}");
        // All layers stay, and there is one rank.
        assert_eq!((ms(part, "layers"), ms(part, "ranks")), (0.0, 0.0), "{json}");
    }
}

#[test]
fn a_profile_tells_layers_and_ranks_apart() {
    let place = Place::new();
    let paged = ["To be", "-n", "4", "--placement", "paged", "--paging", "lru"];
    let paged = place.generate_json(&[&paged[..], &["--resident", "256KiB"]].concat());
    let ranks = place.generate_json(&["To be", "-n", "4", "--ranks", "2"]);
    for (json, phase) in [(paged, "layers"), (ranks, "ranks")] {
        for part in ["prompt", "decode"] {
            assert!(json["profile"][part][phase].as_f64().unwrap() > 0.0, "{phase}: {json}");
        }
    }
    let done = place.generate(&["To be", "-n", "4", "--quiet", "--profile"]);
    assert_eq!(done.code, 0, "{done:?}");
    let phases = ["start", "compile", "prompt", "decode", "embed", "attention", "head", "host"];
    for word in phases.iter().chain(&["feed_forward", "layers", "ranks", "total"]) {
        assert!(done.stderr.contains(word), "{word}: {done:?}");
    }
}

#[test]
fn ids_and_logits_are_those_of_the_text() {
    let place = Place::new();
    let json = place.generate_json(&["To be", "-n", "8"]);
    let ids: Vec<u64> = serde_json::from_value(json["ids"].clone()).unwrap();
    let line: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let options = ["To be", "-n", "8", "--ids", "--quiet", "--logits", "logits"];
    assert_eq!(place.generate(&options).out(), format!("{}\n", line.join(" ")));

    let bytes = fs::read(place.path("logits")).unwrap();
    assert_eq!(bytes.len(), ids.len() * STEP);
    let (logits, _) = bytes.as_chunks::<4>();
    for (step, id) in logits.chunks(STEP / 4).zip(ids) {
        let values: Vec<_> = step.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let best = (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]));
        assert_eq!(best.map(|best| best as u64), Some(id), "the best token is taken");
    }
}

#[test]
fn a_prompt_may_be_ids() {
    let place = Place::new();
    let ids = "1,5,9";
    let line = place.generate(&["--prompt-ids", ids, "-n", "4", "--ids", "-q"]).out();
    let json = place.generate_json(&["--prompt-ids", ids, "-n", "4"]);
    let found: Vec<u64> = serde_json::from_value(json["ids"].clone()).unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(line, format!("{}\n", found.join(" ")));
    place.generate(&["a", "--prompt-ids", ids]).error(2, &["--prompt-ids"]);
    place.generate(&["--prompt-ids", "1,x"]).error(2, &["--prompt-ids", "x"]);
    place.generate(&["--prompt-ids", "4000000000"]).error(1, &["4000000000"]);
}

#[test]
fn logits_that_cannot_be_written_are_an_error() {
    let place = Place::new();
    let options = ["a", "-n", "2", "-q", "--logits"];
    place.generate(&[&options[..], &["none/logits"]].concat()).error(1, &["none/logits"]);
    if Path::new("/dev/full").exists() {
        place.generate(&[&options[..], &["/dev/full"]].concat()).error(1, &["/dev/full", "space"]);
    }
}

#[test]
fn prompts_come_from_stdin_too() {
    let place = Place::new();
    let expected = place.generate(&["To be", "-n", "4", "-q"]).out();
    for dash in [&["-"][..], &[]] {
        let args = [&["generate", "--model", "model.gguf", "-n", "4", "-q"], dash].concat();
        let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"To be\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{dash:?}");
    }
}

#[test]
fn chat_uses_the_model_s_template() {
    let place = Place::new();
    let chat = place.generate_json(&["To be", "-n", "4", "--chat"]);
    let plain = place.generate_json(&["<To be>", "-n", "4"]);
    assert_eq!((&chat["prompt_ids"], &chat["ids"]), (&plain["prompt_ids"], &plain["ids"]));
}

#[test]
fn another_template_may_be_given() {
    let place = Place::new();
    let plain = |text: &str| place.generate_json(&[text, "-n", "4"]);
    let ids = |answer: Value| (answer["prompt_ids"].clone(), answer["ids"].clone());
    let chat =
        |args: &[&str]| place.generate_json(&[&["To be", "-n", "4", "--chat"], args].concat());
    fs::write(place.path("own.jinja"), "[{{ messages[0].content }}]").unwrap();
    let own = chat(&["--chat-template", "own.jinja"]);
    assert_eq!(ids(own), ids(plain("[To be]")));
    let transcript = chat(&["--chat-template", "transcript", "--system", "S"]);
    assert_eq!(ids(transcript), ids(plain("S\n\nUser: To be\n\nAssistant:")));
    let wrong = |name: &str, words: &[&str]| {
        place.generate(&["To be", "--chat", "--chat-template", name]).error(1, words);
    };
    wrong("nothing", &["--chat-template nothing", "chatml", "No such file"]);
    fs::write(place.path("text"), "no template").unwrap();
    wrong("text", &["text is no chat template"]);
    fs::write(place.path("broken"), "{% for %}").unwrap();
    wrong("broken", &["not a valid template", "line 1"]);
}

/// The template of the file, under a key that nothing reads, and a vocabulary that tells nothing.
#[test]
fn a_model_without_a_template_says_what_to_do() {
    let place = Place::new();
    let path = place.path("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let key = b"tokenizer.chat_template";
    let at = bytes.windows(key.len()).position(|it| it == key).unwrap();
    bytes[at + key.len() - 1] = b'_';
    fs::write(&path, bytes).unwrap();
    let words = ["no tokenizer.chat_template", "--chat-template", "chatml", "plain prompt"];
    place.generate(&["To be", "--chat"]).error(1, &words);
    let given = ["To be", "-n", "2", "--chat", "--chat-template", "transcript", "--system", "S"];
    place.generate_json(&given);
    let said = place.run(&["inspect", "model.gguf"]).out();
    assert!(said.contains("It has no chat template"), "{said}");
}

#[test]
fn seeds_repeat_and_differ() {
    let place = Place::new();
    let draw = |seed| {
        let options = ["To be", "-n", "16", "--temperature", "2", "--top-p", "1", "--seed", seed];
        place.generate_json(&options)["ids"].clone()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn the_model_s_end_ends_the_text() {
    let json = Place::new().generate_json(&["To be", "-n", "8"]);
    let ids: Vec<usize> = serde_json::from_value(json["ids"].clone()).unwrap();
    let end = ids[5];
    let first = ids.iter().position(|id| *id == end).unwrap();
    let json = Place::with(&Llama { end, ..model() }).generate_json(&["To be", "-n", "8"]);
    assert_eq!((&json["ids"], &json["finish"]), (&ids[..=first].into(), &"end".into()));
    let shown = json["text"].as_str().unwrap().chars().count();
    assert_eq!(shown, first, "the end itself is no text");
}

/// As many tokens as there is room for, and not an error at the end of them.
#[test]
fn a_full_context_ends_the_text() {
    let place = Place::new();
    for options in [&["To be", "-n", "500"][..], &["To be", "-n", "500", "--context", "20"]] {
        let json = place.generate_json(options);
        let context = json["context"].as_u64().unwrap();
        let ids = json["ids"].as_array().unwrap().len() as u64;
        // The last token needs no room: nothing follows it.
        assert_eq!((ids, json["finish"].as_str()), (context - 5 + 1, Some("length")));
    }
}

#[test]
fn inspect_shows_what_is_in_a_model() {
    let place = Place::new();
    let text = place.run(&["inspect", "model.gguf"]).out();
    for part in [
        "model.gguf",
        "GGUF version 3",
        "21 tensors aligned to 32 bytes",
        "llama.embedding_length",
        "blk.1",
        "2 F32, 7 Q8_0",
        "can run this model: 2 blocks of width 64, 4 heads (2 for keys and values)",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let full = place.run(&["inspect", "--full", "model.gguf"]).out();
    assert!(!text.contains("{% endfor %}") && full.contains("{% endfor %}"), "{full}");
}

#[test]
fn engines_say_what_they_can_do() {
    let place = Place::new();
    let json = place.run(&["engines", "--json"]).json();
    let all = json.as_array().unwrap();
    let mut names: Vec<_> = all.iter().map(|engine| engine["engine"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names, polychord::available());
    for engine in all {
        assert!(engine["version"].as_str().unwrap().contains('.'), "{engine}");
        assert!(engine["mapping"].is_boolean() && engine["time_limit"].is_boolean(), "{engine}");
    }
    let table = place.run(&["engines"]).out();
    for name in names {
        assert!(table.contains(name), "{table}");
    }
}

#[test]
fn compare_finds_that_engines_agree() {
    let place = Place::new();
    let args = ["compare", "To be", "--model", "model.gguf", "-n", "4"];
    let json = place.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!((&json["identical"], &json["prompt"]), (&true.into(), &"To be".into()));
    let runs = json["runs"].as_array().unwrap();
    // Each engine, mapping and copying.
    assert_eq!(runs.len(), 2 * polychord::available().len());
    for run in runs {
        let (run, requested) = (&run["run"], &run["requested_load"]);
        assert_eq!((&run["ids"], &run["load"]), (&runs[0]["run"]["ids"], requested), "{run}");
        assert!(run["profile"]["decode"]["blocks"].as_f64().unwrap() > 0.0, "{run}");
    }
    let done = place.run(&[&args[..], &["--load", "copy", "--profile"]].concat());
    let columns = polychord::available().into_iter().map(|engine| format!("{engine}, copy"));
    for part in columns.chain(["start", "attention", "host"].map(String::from)) {
        assert!(done.stderr.contains(&part), "no {part} in {done:?}");
    }
    let table = place.run(&[&args[..], &["--load", "copy"]].concat()).out();
    let verdict = format!("{} runs, one answer", polychord::available().len());
    assert!(table.contains(&verdict) && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn compare_fails_if_an_engine_does() {
    let place = Place::new();
    let long = "long ".repeat(20);
    let args = ["compare", &long, "--model", "model.gguf", "--load", "copy", "--json"];
    let done = place.run(&args);
    let runs = polychord::available().len();
    done.error(1, &[&format!("{runs} of {runs} runs failed")]);
    assert!(!done.stderr.contains("agree"), "{done:?}");
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json["identical"], false);
    for run in json["runs"].as_array().unwrap() {
        assert!(run["error"].as_str().unwrap().contains("context of 64"), "{run}");
    }
}

/// One engine that fails among others that do not.
#[test]
#[cfg(feature = "wasmedge")]
fn compare_shows_the_engine_that_fails() {
    let place = Place::new();
    fs::write(place.path("occupied"), "").unwrap();
    let mut command = place.command(&["compare", "a", "-m", "model.gguf", "--load", "copy"]);
    command.env("POLYCHORD_CACHE", place.path("occupied/cache"));
    let done = Done::of(command);
    done.error(1, &["1 of ", "runs failed"]);
    assert!(!done.stderr.contains("do not agree"), "{done:?}");
    assert!(done.stdout.contains("wasmedge (copy): "), "{}", done.stdout);
    assert!(done.stdout.contains("occupied/cache"), "{}", done.stdout);
    let others = polychord::available().len() - 1;
    assert!(done.stdout.contains(&format!("1 of {} runs failed", others + 1)), "{}", done.stdout);
}

/// As in `polychord inspect model.gguf | head -0`.
#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new();
    for args in [
        &["generate", "To be", "-m", "model.gguf", "-q"][..],
        &["generate", "To be", "-m", "model.gguf", "--json"],
        &["inspect", "model.gguf"],
        &["engines"],
        &["engines", "--json"],
        &["pull", "model.gguf"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(args);
        let child = command.stdout(writer).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn pull_prints_where_a_model_is() {
    let place = Place::new();
    assert_eq!(place.run(&["pull", "model.gguf"]).out(), "model.gguf\n");
}

/// Without its model and without a network, the default model's error names every way to it.
#[test]
fn a_model_that_cannot_be_fetched_says_what_else_to_do() {
    let place = Place::new();
    let done = place.run(&["pull", "hf:owner/repo/file.gguf"]);
    assert_eq!(done.code, 1, "{done:?}");
    for word in ["hf:owner/repo/file.gguf", "127.0.0.1"] {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
    assert!(!done.stderr.contains(['\r', '\u{1b}']), "{done:?}");
}

/// Memory that the system refuses is an error like any other, and is named: no engine is taken
/// down by it.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_cannot_be_allocated_is_an_error() {
    let place = Place::new();
    let shape = Shape { dim: 2048, ffn: 8192, blocks: 16, ..model().shape };
    let large = place.path("large.gguf");
    assert!(common::large::write(&shape, true, &large) > 700 << 20);
    let limited = |limit: &str, args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", PROGRAM]);
        command.args(args);
        Done::of(place.set_up(command))
    };
    for engine in polychord::available() {
        let generate = ["generate", "--engine", engine, "-q", "-n", "1", "--model"];
        // In KiB: too little for the weights, and too little for the reservation of a guest. WasmEdge's C++
        // ends the process where no memory is left for itself (docs/wasmedge.md).
        let limits = [("-v 3000000", "map"), ("-d 600000", "copy"), ("-d 600000", "map")];
        for &(limit, load) in &limits[..if engine == "wasmedge" { 1 } else { 3 }] {
            let args = [&generate[..], &["large.gguf", "--load", load, "x"]].concat();
            let done = limited(limit, &args);
            assert_eq!(done.code, 1, "{engine} {limit}: {}", done.stderr);
            let said = ["cannot allocate", "cannot start the guest", "cannot grow any more"];
            assert!(said.iter().any(|part| done.stderr.contains(part)), "{}", done.stderr);
        }
        let args = [&generate[..], &["model.gguf", "x"]].concat();
        assert_eq!(limited("-d 600000", &args).code, 0, "{engine} needs more for a small model");
    }
}
