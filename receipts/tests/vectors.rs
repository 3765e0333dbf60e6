//! The test vectors that docs/receipts.md describes: other implementations can be tested by them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::Path;

use polychord_receipts::snapshot::{
    AnswerState, Compression, Meta, Reader, RowHeader, State, Turn, Writer, tag,
};
use polychord_receipts::{
    Digest, Identity, Key, LayerDigest, ModelDigests, Receipt, ReceiptBuilder, StepProof,
};

fn identity() -> Identity {
    Identity::new(Digest::of("model"), Digest::of("guest"))
        .option("activations", "int8")
        .option("cache_type", "f32")
}

fn receipt() -> Receipt {
    let layers = [LayerDigest::new("token_embd", Digest::of("layer"))];
    let model = ModelDigests::new(identity().model, 1000, layers);
    let sampling = [("temperature", "0.8"), ("seed", "7")].map(|(a, b)| (a.into(), b.into()));
    let mut builder = ReceiptBuilder::new(&identity(), model, [1, 2, 3], 97)
        .sampling(sampling.into(), 2)
        .information("engine", "wasmtime")
        .information("note", "\u{e9} \" \\ \n");
    (0..5_u32).for_each(|step| builder.push(step + 40, step.to_le_bytes()));
    builder.finish().sign(&Key::from_seed([9; 32]))
}

fn snapshot() -> Vec<u8> {
    let mut state = State::new(Meta::new(identity(), 2), [5, 6, 7]);
    state.answer = Some(AnswerState::new([("seed".into(), "7".into())].into(), 1, 2));
    state.turns = Some(vec![Turn::new("user", "Hello")]);
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Compression::None).unwrap();
    state.write(&mut writer).unwrap();
    writer.begin(tag::LOGITS, 4).unwrap();
    writer.write(&1.5_f32.to_le_bytes()).unwrap();
    writer.begin(tag::ROWS, 2 * (16 + 8)).unwrap();
    for part in 0..2 {
        writer.write(&RowHeader::new(0, part, 0, 4).to_bytes()).unwrap();
        [1.0_f32, 2.0].iter().for_each(|row| writer.write(&row.to_le_bytes()).unwrap());
    }
    writer.finish().unwrap();
    bytes
}

#[test]
fn vectors_are_what_the_formats_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let made = [
        ("receipt-1.json", format!("{}\n", receipt().to_json()).into_bytes()),
        ("proof-1.json", format!("{}\n", receipt().prove(2).unwrap().to_json()).into_bytes()),
        ("snapshot-1.bin", snapshot()),
    ];
    for (name, bytes) in made {
        let path = folder.join(name);
        if std::env::var_os("POLYCHORD_WRITE_VECTORS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}");
    }
}

#[test]
fn vectors_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let receipt = Receipt::from_json(&text("receipt-1.json")).unwrap();
    assert_eq!(receipt.ids().collect::<Vec<_>>(), [40, 41, 42, 43, 44]);
    let proof = StepProof::from_json(&text("proof-1.json")).unwrap();
    assert_eq!((proof.step(), proof.digest()), (receipt.steps()[2], receipt.digest()));
    let bytes = std::fs::read(folder.join("snapshot-1.bin")).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let state = State::read(&mut reader, 3).unwrap();
    assert_eq!((state.tokens, state.meta.position), (vec![5, 6, 7], 2));
}

/// Another implementation, in another language, which is told by the docs alone.
#[test]
fn vectors_are_what_python_makes_of_the_docs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut python = std::process::Command::new("python3");
    let ran = python.arg(folder.join("independent.py")).arg(folder.join("data")).output();
    let Ok(output) = ran else {
        // CI has it (.ci/run tools).
        return println!("skipped: python3 cannot be run");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(folder.join("data/snapshot-1.bin")).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    while reader.next_section().unwrap().is_some() {}
    let expected = format!("{}\n{}\n", receipt().digest(), reader.finish().unwrap());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
