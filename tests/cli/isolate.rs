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
