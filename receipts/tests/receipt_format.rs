//! Receipts: what is written is read again, and whatever was changed is found.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use polychord_receipts::{
    Digest, Error, ErrorKind, Identity, Key, LayerDigest, ModelDigests, Receipt, ReceiptBuilder,
    StepProof,
};
use proptest::prelude::*;

fn builder(steps: u32) -> ReceiptBuilder {
    let identity = Identity::new(Digest::of("m"), Digest::of("g")).option("cache_type", "f32");
    let layers = [LayerDigest::new("blk.0", Digest::of("layer"))];
    let model = ModelDigests::new(identity.model, 1000, layers);
    let mut builder = ReceiptBuilder::new(&identity, model, [1, 2, 3], 97)
        .sampling([("temperature".into(), "0.8".into())].into(), 2)
        .information("engine", "wasmtime \"48\"\u{e9}");
    (0..steps).for_each(|step| builder.push(step + 40, step.to_le_bytes()));
    builder
}

fn receipt() -> Receipt {
    builder(5).finish().sign(&Key::from_seed([9; 32]))
}

#[test]
fn what_is_written_is_read_again() {
    for receipt in [builder(0).finish(), builder(1).finish(), receipt()] {
        let json = receipt.to_json();
        assert_eq!(Receipt::from_json(&json).unwrap(), receipt);
        assert_eq!(Receipt::read(format!("{json}\n").as_bytes()).unwrap(), receipt);
    }
}

/// Changes that leave the JSON well made, and what says so.
#[test]
fn what_contradicts_itself_is_named() {
    let json = receipt().to_json();
    let step = |step: u32| format!("\"step\": {step},");
    for (from, to, expected) in [
        ("\"polychord_receipt\": 1".to_owned(), "\"polychord_receipt\": 7".to_owned(), "version 7"),
        ("\"id\": 42".into(), "\"id\": 43".into(), "chain"),
        ("\"id\": 42".into(), "\"id\": 97".into(), "token 97 of 97"),
        (step(3), step(4), "step 4 stands where step 3 is due"),
        ("\"steps\": 5".into(), format!("\"steps\": {}", 1_u64 << 60), "digest"),
        ("\"drawn\": 2".into(), "\"drawn\": 3".into(), "digest"),
        ("wasmtime".into(), "wasmedge".into(), "digest"),
        ("    1,\n".into(), "    9,\n".into(), "prompt"),
        ("\"id\": 42".into(), "\"id\":  42".into(), "not written as receipts are"),
        ("\"digest\": \"".into(), "\"digest\": \"A".into(), "hexadecimal"),
        ("\"head\": {".into(), "\"head\": {\n    \"more\": 1,".into(), "unknown field"),
    ] {
        let changed = json.replacen(&from, &to, 1);
        assert_ne!(changed, json, "{from}");
        let error = Receipt::from_json(&changed).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let other = builder(5).information("more", 1).finish().sign(&Key::from_seed([9; 32]));
    let line =
        |json: &str, name: &str| json.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let forged = json.replace(&line(&json, "\"ed25519\""), &line(&other.to_json(), "\"ed25519\""));
    let error = Receipt::from_json(&forged).unwrap_err().to_string();
    assert!(error.contains("signature"), "{error}");
}

#[test]
fn steps_in_another_order_are_refused_though_their_numbers_are_right() {
    let json = receipt().to_json();
    let swapped = json.replace("\"id\": 41", "\"id\": X").replace("\"id\": 42", "\"id\": 41");
    let error = Receipt::from_json(&swapped.replace("\"id\": X", "\"id\": 42")).unwrap_err();
    assert!(error.to_string().contains("chain"), "{error}");
}

/// Each bit of each byte, of a receipt and of a proof.
#[test]
fn every_changed_bit_is_found() {
    let receipt = receipt();
    let (json, proof) = (receipt.to_json(), receipt.prove(2).unwrap().to_json());
    for bit in 0..8 {
        for at in 0..json.len() {
            let mut bytes = json.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            assert!(Receipt::read(&bytes[..]).is_err(), "bit {bit} of byte {at}");
        }
        for at in 0..proof.len() {
            let mut bytes = proof.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let text = String::from_utf8(bytes);
            let found = text.is_err() || StepProof::from_json(&text.unwrap()).is_err();
            assert!(found, "bit {bit} of byte {at} of a proof");
        }
    }
}

/// Digests are all of one form, and each stands for one thing.
#[test]
fn digests_that_change_places_are_found() {
    let json = receipt().to_json();
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let digests: Vec<_> = json.split('"').filter(is_digest).collect();
    assert!(digests.len() > 12, "{digests:?}");
    let mut pairs = 0;
    for (number, one) in digests.iter().enumerate() {
        for other in digests[number + 1..].iter().filter(|other| *other != one) {
            let swapped = json.replace(one, "X").replace(other, one).replace('X', other);
            assert_ne!(swapped, json);
            assert!(Receipt::from_json(&swapped).is_err(), "{one} and {other}");
            pairs += 1;
        }
    }
    assert!(pairs > 60, "{pairs}");
}

/// Wherever a number stands, one of 2^60 or of 2^64 is an error, and takes no room.
#[test]
fn huge_numbers_are_found() {
    let json = receipt().to_json();
    let lines: Vec<_> = json.lines().collect();
    let mut numbers = 0;
    for (at, line) in lines.iter().enumerate() {
        let is_number = |it: &char| it.is_ascii_digit();
        let end = line.trim_end_matches(',');
        let digits = end.chars().rev().take_while(is_number).count();
        if digits == 0 || end.ends_with('"') {
            continue;
        }
        for huge in ["1152921504606846976", "18446744073709551615", "18446744073709551616", "-1"] {
            let other = line.replacen(&end[end.len() - digits..], huge, 1);
            let mut changed = lines.clone();
            changed[at] = &other;
            assert!(Receipt::from_json(&changed.join("\n")).is_err(), "{other}");
        }
        numbers += 1;
    }
    assert!(numbers > 15, "{numbers}");
}

#[test]
fn what_is_no_receipt_is_refused() {
    for text in ["", "{}", "[]", "null", "receipt", "{\"polychord_receipt\": 1}", "\u{0}"] {
        let error = Receipt::from_json(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{text}: {error}");
    }
    let newer = "{\"polychord_receipt\": 2, \"whatever\": [1, {}]}";
    let error = Receipt::from_json(newer).unwrap_err();
    assert!(matches!(error, Error::Version { found: 2, known: 1, .. }), "{error}");
    let deep = "[".repeat(1_000_000);
    assert_eq!(Receipt::from_json(&deep).unwrap_err().kind(), ErrorKind::Damaged);
    let endless = std::io::repeat(b' ');
    assert!(matches!(Receipt::read(endless).unwrap_err(), Error::TooLarge { .. }));
    assert!(matches!(Receipt::read(&b"\xff"[..]).unwrap_err(), Error::Foreign { .. }));
}

#[test]
fn what_is_cut_short_is_no_receipt() {
    let json = receipt().to_json();
    for end in 0..json.len() {
        if let Some(text) = json.get(..end) {
            assert!(Receipt::from_json(text).is_err(), "{end}");
        }
    }
}

#[test]
fn a_step_is_proven_without_the_others() {
    let receipt = receipt();
    for step in 0..5 {
        let proof = receipt.prove(step).unwrap();
        let json = proof.to_json();
        let read = StepProof::from_json(&json).unwrap();
        assert_eq!(
            (read.step(), read.digest()),
            (receipt.steps()[step as usize], receipt.digest())
        );
        assert_eq!(read.signature(), receipt.signature());
        let id = format!("\"id\": {}", 40 + step);
        let changed = json.replace(&id, "\"id\": 1");
        let error = StepProof::from_json(&changed).unwrap_err().to_string();
        assert!(error.contains("path"), "{error}");
        let moved = json.replace(&format!("\"step\": {step},"), "\"step\": 5,");
        assert!(StepProof::from_json(&moved).is_err());
    }
    let error = receipt.prove(5).unwrap_err();
    assert!(matches!(error, Error::NoStep { step: 5, steps: 5 }), "{error}");
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = Key::create(&path).unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(Key::read(&path).unwrap().public(), key.public());
    assert!(
        !format!("{key:?}")
            .contains(std::fs::read_to_string(&path).unwrap().lines().nth(1).unwrap())
    );
    for wrong in [0o640, 0o604, 0o660, 0o602] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wrong)).unwrap();
        let error = Key::read(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong:o}")), "{error}");
    }
    let other = folder.path().join("other");
    for text in ["", "polychord ed25519 key 1\n", "polychord ed25519 key 2\n0", "x"] {
        std::fs::write(&other, text).unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Key::read(&other).unwrap_err().to_string().contains("no key"));
    }
    assert!(Key::read(folder.path()).is_err() && Key::read(folder.path().join("none")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn one_changed_bit_anywhere_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = receipt().to_json().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Receipt::read(&bytes[..]).is_err());
        let mut bytes = receipt().prove(2).unwrap().to_json().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        let text = String::from_utf8(bytes);
        prop_assert!(text.is_err() || StepProof::from_json(&text.unwrap()).is_err());
    }

    #[test]
    fn any_text_is_an_error(text in ".{0,200}") {
        prop_assert!(Receipt::from_json(&text).is_err());
    }
}
