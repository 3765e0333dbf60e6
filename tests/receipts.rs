//! Receipts: what one engine says that it computed, every other one computes again.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use polychord::api::abi::PAGE;
use polychord::api::{Engine, Policy};
use polychord::hub::{Hub, ModelRef};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, CacheType, ErrorKind, GenerateOptions, Generator, Model, Placement, Ranks,
    Sampling, SessionOptions, Transformer, Verdict, Verifier, sampling_by_name,
};
use polychord::receipts::{Receipt, ReceiptBuilder, Step};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, skip, test_name};

fn shape() -> Shape {
    Shape { rope_freqs: true, blocks: 3, context: 128, ..Shape::of(GgmlType::Q4_0) }
}

const PROMPT: [u32; 9] = [1, 50, 3, 90, 7, 7, 20, 60, 11];

fn sampling() -> Sampling {
    Sampling::new().temperature(0.9).repeat_penalty(1.2).seed(5)
}

fn options() -> SessionOptions {
    SessionOptions::new().context(100).batch(4).cache_type(CacheType::F16)
}

fn options_of_all_placements() -> [SessionOptions; 4] {
    let paged = Placement::Paged { resident_bytes: Some(3 * PAGE), policy: Policy::Lru };
    [
        SessionOptions::new().placement(Placement::resident32()),
        SessionOptions::new().placement(Placement::sharded32(2)).batch(3),
        SessionOptions::new().placement(paged).context(128),
        SessionOptions::new().placement(Placement::resident32()).ranks(Ranks::Exactly(2)),
    ]
}

/// A receipt of an answer, and a snapshot of its middle.
fn receipt(transformer: &Transformer, model: &Model) -> (Receipt, Vec<u8>) {
    let session = transformer.start(model, &options()).unwrap();
    let mut builder = session.receipt(&PROMPT, &sampling(), 0).unwrap();
    let mut generator = Generator::new(session).unwrap();
    let generate = GenerateOptions::new().sampling(sampling()).max_tokens(20);
    generator.begin(&PROMPT, &generate).unwrap();
    let mut snapshot = Vec::new();
    while let Some(token) = generator.next() {
        builder.push(token.unwrap().id, generator.logits().as_bytes());
        if generator.tokens().len() == 17 {
            generator.save(&mut snapshot).unwrap();
        }
    }
    (builder.finish(), snapshot)
}

/// Where the processes of [`every_engine_verifies_the_receipts_of_every_other`] leave receipts.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("receipts")
}

#[test]
fn every_engine_verifies_the_receipts_of_every_other() {
    _ = std::fs::remove_dir_all(folder());
    std::fs::create_dir_all(folder()).unwrap();
    Llama::random(shape()).save(&folder());
    engines_agree("part_that_writes", write_one);
    each_engine("part_that_verifies", verify_all);
    std::fs::remove_dir_all(folder()).unwrap();
}

#[test]
#[ignore = "a part of every_engine_verifies_the_receipts_of_every_other"]
fn part_that_writes() {
    if folder().exists() {
        engines_agree(test_name!(), write_one);
    }
}

#[test]
#[ignore = "a part of every_engine_verifies_the_receipts_of_every_other"]
fn part_that_verifies() {
    if folder().exists() {
        each_engine(test_name!(), verify_all);
    }
}

/// Tells what the receipts of all engines have in common: all but information.
fn write_one(engine: &Arc<dyn Engine>) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let (receipt, snapshot) = receipt(&transformer, &open(&folder().join("model.gguf"), true));
    let name = engine.capabilities().engine;
    std::fs::write(folder().join(format!("{name}.json")), receipt.to_json()).unwrap();
    std::fs::write(folder().join(format!("{name}.snapshot")), snapshot).unwrap();
    let mut head = receipt.head().clone();
    assert_eq!(head.information["engine"], name);
    head.information.clear();
    format!("{head:?} {:?}", receipt.steps())
}

fn verify_all(engine: &Arc<dyn Engine>) {
    let transformer = Transformer::new(engine).unwrap();
    let model = open(&folder().join("model.gguf"), true);
    for other in polychord::available() {
        let receipt = Receipt::read(File::open(folder().join(format!("{other}.json"))).unwrap());
        let receipt = receipt.unwrap();
        let steps = receipt.head().steps;
        assert!(steps > 8, "an answer of {steps} tokens");
        for options in options_of_all_placements() {
            let all = Verifier::new(&receipt).verify(&transformer, &model, &options).unwrap();
            assert_eq!(all, Verdict::Verified { steps: 0..steps });
            for window in [0..1, 5..9, steps - 1..steps] {
                let verifier = Verifier::new(&receipt).window(window.clone());
                let verdict = verifier.verify(&transformer, &model, &options).unwrap();
                assert_eq!(verdict, Verdict::Verified { steps: window.clone() });
                // From a snapshot of step 8, before and behind it.
                let snapshot = File::open(folder().join(format!("{other}.snapshot"))).unwrap();
                let verdict = verifier.verify_from(&transformer, &model, &options, snapshot);
                assert_eq!(verdict.unwrap(), Verdict::Verified { steps: window });
            }
        }
    }
}

/// A receipt with the same head, but for its steps, whose digests are all right.
fn forged(receipt: &Receipt, change: impl Fn(u64) -> Option<(u32, u8)>) -> Receipt {
    let head = receipt.head();
    let mut builder = ReceiptBuilder::new(
        &receipt.identity(),
        head.model.clone(),
        receipt.prompt(),
        head.vocabulary,
    )
    .sampling(head.sampling.clone(), head.drawn);
    for Step { step, id, logits, .. } in receipt.steps() {
        match change(*step) {
            Some((id, byte)) => builder.push(id, [byte]),
            None => builder.push_digest(*id, *logits),
        }
    }
    builder.finish()
}

#[test]
fn what_was_not_computed_is_found_by_computing() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let model = open(&Llama::random(shape()).save(folder.path()), false);
        let (receipt, _) = receipt(&transformer, &model);
        let verify = |receipt: &Receipt| {
            Verifier::new(receipt).verify(&transformer, &model, &SessionOptions::new())
        };
        // Other logits, of one step.
        let lie = forged(&receipt, |step| (step == 6).then_some((receipt.steps()[6].id, 1)));
        let verdict = verify(&lie).unwrap();
        assert!(matches!(verdict, Verdict::LogitsDiffer { step: 6, .. }), "{verdict}");
        assert!(verdict.to_string().starts_with("step 6 differs: its logits"), "{verdict}");
        let window = |range| {
            let verifier = Verifier::new(&lie).window(range);
            verifier.verify(&transformer, &model, &SessionOptions::new()).unwrap().is_verified()
        };
        assert!(window(0..6) && window(7..9) && !window(6..7));
        // Another token, with the logits that it was not chosen from.
        let mut builder = ReceiptBuilder::new(
            &receipt.identity(),
            receipt.head().model.clone(),
            PROMPT,
            receipt.head().vocabulary,
        );
        let other = (receipt.steps()[2].id + 1) % 97;
        for step in &receipt.steps()[..4] {
            let id = if step.step == 2 { other } else { step.id };
            builder.push_digest(id, step.logits);
        }
        let verdict = verify(&builder.clone().sampling(sampling_by_name(&sampling()), 0).finish());
        let verdict = verdict.unwrap();
        assert!(matches!(verdict, Verdict::TokenDiffers { step: 2, .. }), "{verdict}");
        // Where nothing is said about how tokens are chosen, by what follows.
        let verdict = verify(&builder.finish()).unwrap();
        assert!(matches!(verdict, Verdict::LogitsDiffer { step: 3, .. }), "{verdict}");
        // Tokens of anybody's choice, with the logits that they have: that is all that is said.
        let mut builder = ReceiptBuilder::new(
            &receipt.identity(),
            receipt.head().model.clone(),
            PROMPT,
            receipt.head().vocabulary,
        );
        let mut session = transformer.start(&model, &options()).unwrap();
        session.eval(&PROMPT).unwrap();
        for token in [90, 1, 1] {
            builder.push(token, session.logits().as_bytes());
            session.eval(&[token]).unwrap();
        }
        let verdict = verify(&builder.finish()).unwrap();
        assert_eq!(verdict, Verdict::LogitsVerified { steps: 0..3 });
        assert!(verdict.is_verified() && verdict.to_string().contains("is not in the receipt"));
        // Other random numbers.
        let head = receipt.head();
        let mut builder = forged(&receipt, |_| None);
        assert!(verify(&builder).unwrap().is_verified());
        let lie = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), PROMPT, 97)
            .sampling(sampling_by_name(&sampling().seed(6)), 0);
        builder = receipt
            .steps()
            .iter()
            .fold(lie, |mut lie, step| {
                lie.push_digest(step.id, step.logits);
                lie
            })
            .finish();
        let verdict = verify(&builder).unwrap();
        assert!(matches!(verdict, Verdict::TokenDiffers { .. }), "{verdict}");
        // Random numbers where the best token is taken.
        for (drawn, is_true) in [(0, true), (1, false), (1 << 60, false)] {
            let mut builder = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), [1], 97)
                .sampling(sampling_by_name(&Sampling::greedy()), drawn);
            let mut session = transformer.start(&model, &options()).unwrap();
            let logits = session.eval(&[1]).unwrap();
            let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
            builder.push(u32::try_from(best.0).unwrap(), logits.as_bytes());
            match verify(&builder.finish()) {
                Ok(verdict) => assert!(is_true && verdict.is_verified(), "{drawn}: {verdict}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        !is_true && text.contains(&format!("in drawn, it is {drawn}")),
                        "{text}"
                    );
                }
            }
        }
    });
}

#[test]
fn what_cannot_be_computed_here_is_refused_by_name() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let model = open(&path, false);
        let (receipt, _) = receipt(&transformer, &model);
        let head = receipt.head();
        let refused = |receipt: &Receipt, model: &Model| {
            let verdict =
                Verifier::new(receipt).verify(&transformer, model, &SessionOptions::new());
            let error = verdict.unwrap_err();
            (error.kind(), error.to_string())
        };
        // One weight of the file is another.
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let other = folder.path().join("other.gguf");
        std::fs::write(&other, bytes).unwrap();
        let (kind, text) = refused(&receipt, &open(&other, false));
        assert_eq!(kind, ErrorKind::InvalidArgument);
        assert!(text.contains("the model is ") && text.contains("the layer output"), "{text}");
        for (name, value, expected) in [
            ("cache_type", "q4_0", "cache_type is q4_0 there"),
            ("activations", "int9", "activations is int9 there"),
            ("rounding", "up", "rounding is up there and not set here"),
        ] {
            let identity = receipt.identity().option(name, value);
            let mut builder = ReceiptBuilder::new(&identity, head.model.clone(), PROMPT, 97);
            builder.push(1, [0]);
            let (kind, text) = refused(&builder.finish(), &model);
            assert_eq!(kind, ErrorKind::InvalidArgument);
            assert!(text.contains(expected), "{text}");
        }
        let mut builder = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), PROMPT, 98);
        builder.push(97, [0]);
        assert!(refused(&builder.finish(), &model).1.contains("the vocabulary is 98 there"));
        let empty = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), PROMPT, 97);
        assert!(refused(&empty.finish(), &model).1.contains("no steps 0..0"));
        let huge = 1 << 60;
        for window in [3..3, huge..huge + 1, 0..head.steps + 1, 0..u64::MAX] {
            let verifier = Verifier::new(&receipt).window(window);
            let error = verifier.verify(&transformer, &model, &SessionOptions::new()).unwrap_err();
            assert!(error.to_string().contains("there are no steps"), "{error}");
        }
        let bad = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), [], 97);
        let bad = [1, 2].into_iter().fold(bad, |mut bad, id| {
            bad.push(id, [0]);
            bad
        });
        assert!(refused(&bad.finish(), &model).1.contains("no tokens"));
        let mut bad = ReceiptBuilder::new(&receipt.identity(), head.model.clone(), [1, 97], 97);
        bad.push(1, [0]);
        assert!(refused(&bad.finish(), &model).1.contains("in the prompt, token 97 of 97"));
        let f32 = SessionOptions::new().activations(Activations::F32);
        // Options of the caller that change bits do not count.
        let verdict = Verifier::new(&receipt).verify(&transformer, &model, &f32);
        assert!(verdict.unwrap().is_verified());
    });
}

/// A device stays one, and a full one is an error; what a link names is replaced, and not the link.
#[cfg(target_os = "linux")]
fn what_is_no_file_is_written_to(folder: &Path) {
    use std::os::unix::fs::FileTypeExt as _;

    for option in ["--save", "--receipt"] {
        let generate = format!("generate -m model.gguf --prompt-ids 1 -n 2 --quiet --ids {option}");
        let (code, _, errors) = polychord(folder, &format!("{generate} /dev/full"));
        assert!(code == Some(1) && errors.contains("No space left"), "{errors}");
        assert!(std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
        assert_eq!(polychord(folder, &format!("{generate} /dev/null")).0, Some(0));
        std::fs::write(folder.join("target"), "before").unwrap();
        _ = std::fs::remove_file(folder.join("link"));
        std::os::unix::fs::symlink("target", folder.join("link")).unwrap();
        assert_eq!(polychord(folder, &format!("{generate} link")).0, Some(0));
        assert!(std::fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
        assert!(std::fs::read(folder.join("target")).unwrap() != b"before");
        let (code, _, errors) = polychord(folder, &format!("{generate} ."));
        assert!(code == Some(1) && errors.contains("cannot write ."), "{errors}");
    }
}

/// What docs/receipts.md shows is what its commands print, but for keys and digests.
#[test]
fn the_docs_show_what_the_program_prints() {
    if polychord::available().len() < 3 {
        return skip("docs/receipts.md needs every engine");
    }
    if Hub::new().unwrap().cached(&ModelRef::Default).is_none() {
        return skip("the default model is not in the cache (polychord pull)");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/receipts.md")).unwrap();
    let (mut commands, mut before) = (0, "");
    let mut lines = docs.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let name = before.strip_prefix('`').and_then(|name| name.strip_suffix("`:"));
            match (language, name) {
                ("console", _) => commands += type_block(folder.path(), &block),
                (_, Some(name)) => {
                    std::fs::write(folder.path().join(name), block.join("\n") + "\n").unwrap();
                }
                _ => {}
            }
        }
        before = if line.is_empty() { before } else { line };
    }
    assert!(commands >= 9, "docs/receipts.md has {commands} commands");
}

/// Types the commands of a block, and compares what they print with the lines that follow them.
fn type_block(folder: &Path, block: &[&str]) -> usize {
    let program = Path::new(env!("CARGO_BIN_EXE_polychord")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let commands = block;
    let starts: Vec<_> = (0..commands.len()).filter(|at| commands[*at].starts_with("$ ")).collect();
    assert_eq!(starts.first(), Some(&0), "{block:?}");
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(commands.len());
        let command = format!("exec 2>&1; {}", &commands[*start][2..]);
        let output = Command::new("bash")
            .args(["-c", &command])
            .current_dir(folder)
            .env("PATH", &path)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let shown = commands[start + 1..end].join("\n");
        assert_eq!(masked(printed.trim_end()), masked(&shown), "{command}");
    }
    starts.len()
}

/// Text with the long hexadecimal numbers in it made alike: they depend on a key, or on the guest.
fn masked(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let len = rest[start..].find(|c| !is_digit(c)).unwrap_or(rest.len() - start);
        masked += &rest[..start];
        masked += if len == 64 { "(digest)" } else { &rest[start..start + len] };
        rest = &rest[start + len..];
    }
    masked + rest
}

/// Runs the program, and returns its exit code, and what it prints to stdout and stderr.
fn polychord(folder: &Path, args: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polychord"));
    let output = command.args(args.split_whitespace()).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_saves_resumes_signs_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    Llama::random(shape()).save(folder);
    let run = |args: &str| polychord(folder, args);
    let good = |args: &str| {
        let (code, out, errors) = run(args);
        assert_eq!((code, &errors[..]), (Some(0), ""), "{args}");
        out
    };
    let generate =
        |args: &str| good(&format!("generate -m model.gguf --context 100 --ids --quiet {args}"));
    let prompt = "--prompt-ids 1,50,3,90,7";
    let whole = generate(&format!("{prompt} -n 12 -t 0.9 --seed 3"));
    let first = generate(&format!("{prompt} -n 4 -t 0.9 --seed 3 --save a.snapshot"));
    let key = good("key key");
    assert_eq!(good("key key"), key);
    let second = generate("--resume a.snapshot -n 8 --receipt b.json --sign key --save a.snapshot");
    assert_eq!(format!("{first} {second}"), whole);
    // A prompt that follows, with the random numbers that follow.
    let more = generate("--resume a.snapshot --prompt-ids 8,9 -n 3");
    let mut ids: Vec<_> = whole.split(' ').collect();
    ids.extend(["8", "9"]);
    assert_eq!(more.split(' ').count(), 3);
    for window in ["", "--window 2..5", "--window 7..8 --snapshot a.snapshot"] {
        let said =
            good(&format!("verify -m model.gguf b.json --ranks 2 --signed-by {key} {window}"));
        assert!(said.starts_with(&format!("signed by {key}\nverified: steps ")), "{said}");
    }
    std::fs::write(folder.join("text"), "no snapshot, no receipt and no key").unwrap();
    let half = std::fs::read(folder.join("a.snapshot")).unwrap();
    std::fs::write(folder.join("half"), &half[..half.len() / 2]).unwrap();
    for (args, code, expected) in [
        ("generate -m model.gguf --resume text", 1, "text: this is no snapshot"),
        ("generate -m model.gguf --resume half --ids", 1, "half: the snapshot is cut short"),
        ("generate -m model.gguf --resume none", 1, "cannot open none"),
        ("generate -m model.gguf --resume a.snapshot --seed 3", 2, "--seed"),
        (
            "generate -m model.gguf --resume a.snapshot --cache-type f16",
            1,
            "cache_type is f32 there",
        ),
        ("generate -m model.gguf --resume a.snapshot --chat x", 1, "without --chat"),
        ("generate -m model.gguf --prompt-ids 1 --sign key", 2, "--receipt"),
        ("generate -m model.gguf --prompt-ids 1 --receipt c --sign text", 1, "text"),
        (
            "generate -m model.gguf --prompt-ids 1 --save none/x --quiet --ids",
            1,
            "cannot write none/x",
        ),
        ("verify -m model.gguf text", 1, "text is not verified: this is no receipt"),
        ("verify -m none.gguf b.json", 1, "none.gguf"),
        ("verify -m model.gguf b.json --window 5..5", 2, "--window"),
        ("verify -m model.gguf b.json --window 5..99", 1, "the receipt has 0..8"),
        ("verify -m model.gguf b.json --snapshot text", 1, "this is no snapshot"),
        ("key text", 1, "text"),
    ] {
        let (found, out, errors) = run(args);
        assert_eq!(found, Some(code), "{args}: {out}{errors}");
        assert!(errors.contains(expected), "{args}: {errors}");
        assert!(!out.contains("verified"), "{args}: {out}");
    }
    assert!(!folder.join("none").exists() && !folder.join("c").exists());
    #[cfg(target_os = "linux")]
    what_is_no_file_is_written_to(folder);
    let other = "0".repeat(64);
    let (code, out, errors) = run(&format!("verify -m model.gguf b.json --signed-by {other}"));
    assert_eq!((code, &out[..]), (Some(1), ""));
    assert!(errors.contains(&format!("it is signed by {key}, not {other}")), "{errors}");
}
