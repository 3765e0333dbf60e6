//! What ends an answer, what it is held to, and what is kept of its prompt.

use std::fs;

use serde_json::json;

use super::*;

/// Each token of this model is a character, so that every longer text goes across tokens.
#[test]
fn a_stop_text_ends_an_answer_and_is_no_part_of_it() {
    let place = Place::new();
    let whole = place.generate_json(&["To be", "-n", "16"]);
    let text = whole["text"].as_str().unwrap();
    let stop = &text[6..9];
    let before = &text[..text.find(stop).unwrap()];
    let stopped = place.generate_json(&["To be", "-n", "16", "--stop", "~~~", "--stop", stop]);
    assert_eq!((&stopped["text"], &stopped["finish"]), (&before.into(), &"stop".into()));
    assert_eq!(stopped["ids"].as_array().unwrap().len(), before.len() + 3);
    // The beginning of one that does not come is held back, and comes with the last token.
    let held = format!("{}~", &text[13..]);
    assert_eq!(place.generate_json(&["To be", "-n", "16", "--stop", &held])["text"], whole["text"]);
    place.generate(&["To be", "--stop", ""]).error(1, &["stop text is empty"]);

    // Also where it began before the answer was saved.
    let (first, rest) = (before.len() + 2, "16");
    place.generate(&["To be", "-n", &first.to_string(), "--save", "half", "-q"]).out();
    let resumed = place.generate_json(&["--resume", "half", "-n", rest, "--stop", stop]);
    assert_eq!((&resumed["text"], &resumed["finish"]), (&"".into(), &"stop".into()));
}

#[test]
fn an_answer_is_held_to_a_schema_or_a_grammar() {
    let place = Place::new();
    let schema = r#"{"enum": ["it is", "it was", 1234567]}"#;
    fs::write(place.path("schema.json"), schema).unwrap();
    let given = [schema, "schema.json"].map(|schema| {
        place.generate_json(&["To be", "-n", "20", "--json-schema", schema, "--temperature", "1"])
    });
    assert_eq!(given[0]["text"], given[1]["text"]);
    assert_eq!(given[0]["finish"], "end");
    let value: Value = serde_json::from_str(given[0]["text"].as_str().unwrap()).unwrap();
    assert!([json!("it is"), json!("it was"), json!(1_234_567)].contains(&value), "{value}");

    fs::write(place.path("digits.lark"), "start: /[0-9]{3}/ \"!\"").unwrap();
    let held = place.generate_json(&["To be", "-n", "20", "--grammar", "digits.lark"]);
    let text = held["text"].as_str().unwrap();
    let digits = text.strip_suffix('!').unwrap();
    assert!(digits.len() == 3 && digits.bytes().all(|it| it.is_ascii_digit()), "{text}");

    // An answer that goes on stays within it.
    let args = ["To be", "-n", "2", "--grammar", "digits.lark", "--save", "half", "-q"];
    let begun = place.generate(&args).out();
    let rest = place.generate_json(&["--resume", "half", "--grammar", "digits.lark"]);
    assert_eq!(format!("{}{}", begun.trim_end(), rest["text"].as_str().unwrap()), text);

    for (args, words) in [
        (["--json-schema", "{nonsense"], ["--json-schema", "JSON"]),
        (["--json-schema", "none.json"], ["none.json", "No such file"]),
        (["--json-schema", r#"{"type": "nonsense"}"#], ["held to this", "nonsense"]),
        (["--grammar", "none.lark"], ["none.lark", "No such file"]),
    ] {
        place.generate(&[&["To be"][..], &args].concat()).error(1, &words);
    }
    place.generate(&["a", "--grammar", "x", "--receipt", "y"]).error(2, &["--receipt"]);
}

#[test]
fn improbable_tokens_can_be_excluded() {
    let place = Place::new();
    let args = ["To be", "-n", "12", "--temperature", "3", "--top-p", "1", "--top-k", "0"];
    let draw = |part| place.generate_json(&[&args[..], &["--min-p", part]].concat())["ids"].clone();
    let best = place.generate_json(&["To be", "-n", "12"])["ids"].clone();
    assert_ne!(draw("0"), best);
    // No other token has all of the best one's probability.
    assert_eq!(draw("1"), best);
    place.generate(&["a", "--min-p", "1.5"]).error(2, &["min_p", "1.5"]);
}

#[test]
fn an_instruction_comes_before_the_message() {
    let place = Place::new();
    let chat = place.generate_json(&["b", "-n", "4", "--chat", "--system", "<a>"]);
    // The template puts each message between angle brackets.
    let plain = place.generate_json(&["<<a>><b>", "-n", "4"]);
    assert_eq!((&chat["prompt_ids"], &chat["ids"]), (&plain["prompt_ids"], &plain["ids"]));
    place.generate(&["b", "--system", "a"]).error(2, &["--chat"]);
}

#[test]
fn a_prompt_is_evaluated_from_where_it_differs() {
    let place = Place::new();
    let run = |prompt: &str, cache: &[&str]| {
        let json = place.generate_json(&[&[prompt, "-n", "6"], cache].concat());
        let of_it = ["prompt_ids", "ids", "text", "logits_sha256"].map(|key| json[key].clone());
        (of_it, json["cached_tokens"].as_u64().unwrap())
    };
    let cached = ["--prompt-cache", "kept"];
    for (prompt, expected) in [
        ("To be, or not to be", 0),
        // All but the last token, for its logits.
        ("To be, or not to be", 18),
        ("To be, or not to be: that", 18),
        ("To be, or no", 11),
        // It had stayed as it was, as it has all of that.
        ("To be, or not to be: that", 24),
        ("To be is", 5),
        ("Another", 0),
        ("x", 0),
    ] {
        let (with, tokens) = run(prompt, &cached);
        assert_eq!((with, tokens), (run(prompt, &[]).0, expected), "{prompt}");
    }
    // A context that is given has room for what is kept.
    let short = place.generate_json(&["Anoth", "-n", "1", "--context", "5", cached[0], cached[1]]);
    assert_eq!((&short["cached_tokens"], &short["context"]), (&json!(4), &json!(6)));

    // Of another model nothing is taken, and it is replaced.
    let other = Place::with(&Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q4_0) }));
    let expected = other.generate_json(&["Another", "-n", "6"])["logits_sha256"].clone();
    fs::copy(place.path("kept"), other.path("kept")).unwrap();
    let args = ["Another", "-n", "6", "--json", cached[0], cached[1]];
    let anew = other.generate(&args);
    assert!(anew.stderr.contains("computed anew") && anew.stderr.contains("model"), "{anew:?}");
    let json: Value = serde_json::from_str(&anew.stdout).unwrap();
    assert_eq!((&json["logits_sha256"], &json["cached_tokens"]), (&expected, &json!(0)));
    let again = other.generate_json(&args[..3]);
    assert_eq!(again["logits_sha256"], expected);
    assert_eq!(other.generate(&args).json()["cached_tokens"], 6);

    // What is something else is not lost.
    fs::write(place.path("notes"), "This is not to be lost.").unwrap();
    let refused = place.generate(&["Another", "--prompt-cache", "notes"]);
    refused.error(1, &["notes", "no snapshot"]);
    assert_eq!(fs::read_to_string(place.path("notes")).unwrap(), "This is not to be lost.");
    place.generate(&["a", "--mpi", cached[0], cached[1]]).error(2, &["--prompt-cache"]);
}
