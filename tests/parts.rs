//! Models that are split over several files.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(clippy::cast_possible_wrap, reason = "small numbers")]

mod common;

use std::path::{Path, PathBuf};

use polychord::api::Policy;
use polychord::model::gguf::GgmlType;
use polychord::model::{ErrorKind, Model, Placement, SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, logits, open, test_name};

const PARTS: u16 = 3;

fn llama() -> Llama {
    let shape = Shape { blocks: 5, dim: 128, ffn: 320, vocab: 513, ..Shape::of(GgmlType::Q8_0) };
    Llama::random(Shape { rope_freqs: true, ..shape })
}

#[test]
fn a_split_model_gives_the_bits_of_a_whole_one_wherever_it_lives() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let (llama, transformer) = (llama(), Transformer::new(engine).unwrap());
        let whole = llama.save(folder.path());
        let parts = llama.save_parts(folder.path(), PARTS);
        let run = |path: &Path, mapped, placement: Placement| {
            let options = SessionOptions::new().context(64).batch(4).placement(placement);
            let mut session = transformer.start(&open(path, mapped), &options).unwrap();
            let report = session.load_report();
            (logits(&mut session, [3, 1, 4]), report.mapped, report.copied)
        };
        let (expected, ..) = run(&whole, false, Placement::resident32());
        let mut placements = vec![
            Placement::auto(),
            Placement::sharded32(3),
            Placement::multi32(),
            Placement::Paged { resident_bytes: Some(12 << 16), policy: Policy::Lru },
            Placement::Paged { resident_bytes: Some(12 << 16), policy: Policy::Pinned },
        ];
        placements.extend(common::wide(engine.capabilities().memory64));
        for placement in placements {
            for (path, mapped) in parts.iter().zip([false, true, true]) {
                let paged = matches!(placement, Placement::Paged { .. });
                let (found, maps, copies) = run(path, mapped, placement.clone());
                assert!(found == expected, "{}: {placement:?}, mapped: {mapped}", path.display());
                if !paged && mapped && engine.capabilities().mapping {
                    assert_eq!(copies, 0, "{placement:?}: {maps} are mapped");
                }
            }
        }
        // A plan is for the model, whichever part it was opened by.
        let options = SessionOptions::new().context(64);
        let [first, last] = [&parts[0], &parts[2]].map(|path| Model::open(path).unwrap());
        let plan = first.place(&options, engine.capabilities()).unwrap().plan;
        let planned = options.placement(Placement::Planned(plan));
        assert!(last.place(&planned, engine.capabilities()).is_ok());
    });
}

#[test]
fn headers_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let llama = llama();
    let (whole, parts) = (llama.save(folder.path()), llama.save_parts(folder.path(), PARTS));
    let [whole, split] = [&whole, &parts[1]].map(|path| Model::open(path).unwrap());
    assert_eq!(whole.config(), split.config());
    assert_eq!((whole.gguf().parts(), split.gguf().parts()), (1, 3));
    assert_eq!(whole.gguf().metadata(), split.gguf().metadata());
    let shape = |model: &Model| -> Vec<_> {
        let tensors = model.gguf().tensors().iter();
        tensors.map(|it| (it.name.clone(), it.dtype, it.dims.clone(), it.bytes)).collect()
    };
    assert_eq!(shape(&whole), shape(&split));
    let bytes: u64 = parts.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert_eq!(split.gguf().file_len(), bytes);
}

/// The error of opening a model whose parts something was done to.
fn refused(spoil: impl FnOnce(&[PathBuf]) -> PathBuf) -> (ErrorKind, String) {
    let folder = tempfile::tempdir().unwrap();
    let parts = llama().save_parts(folder.path(), PARTS);
    let error = Model::open(spoil(&parts)).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let check = |expected: &str, kind, spoil: &dyn Fn(&[PathBuf]) -> PathBuf| {
        let (found, message) = refused(spoil);
        assert!(message.contains(expected), "{message}");
        assert_eq!(found, kind, "{message}");
    };
    check("part 3 of 3 of the model is missing", ErrorKind::Io, &|parts| {
        std::fs::remove_file(&parts[2]).unwrap();
        parts[0].clone()
    });
    check("does not end in -00002-of-00003.gguf", ErrorKind::InvalidFile, &|parts| {
        let name = parts[1].with_file_name("part2.gguf");
        std::fs::rename(&parts[1], &name).unwrap();
        name
    });
    check(
        "part 3 of 3 of the model cannot be used: it is part 2",
        ErrorKind::InvalidFile,
        &|parts| {
            std::fs::copy(&parts[1], &parts[2]).unwrap();
            parts[0].clone()
        },
    );
    check("it is one of 2 parts", ErrorKind::InvalidFile, &|parts| {
        let other = tempfile::tempdir().unwrap();
        let others = llama().save_parts(other.path(), 2);
        std::fs::copy(&others[1], &parts[1]).unwrap();
        parts[0].clone()
    });
    check("it has no split.count", ErrorKind::InvalidFile, &|parts| {
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(llama().save(other.path()), &parts[1]).unwrap();
        parts[0].clone()
    });
    let of_blocks = |blocks| {
        let shape = Shape { blocks, dim: 128, ffn: 320, vocab: 513, ..Shape::of(GgmlType::Q8_0) };
        let folder = tempfile::tempdir().unwrap();
        let paths = Llama::random(shape).save_parts(folder.path(), PARTS);
        (folder, paths)
    };
    check("the key \"split.tensors.count\" differs", ErrorKind::InvalidFile, &|parts| {
        let (_folder, others) = of_blocks(9);
        std::fs::copy(&others[2], &parts[2]).unwrap();
        parts[0].clone()
    });
    check("not a GGUF file", ErrorKind::InvalidFile, &|parts| {
        std::fs::write(&parts[1], "<html>not found</html>").unwrap();
        parts[2].clone()
    });
}
