//! Files that are opened as models: what is read of them, and which are refused.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../model/tests/support/mod.rs"]
mod support;

use std::time::Instant;

use polychord_model::gguf::{Error, Value};
use polychord_runtime_api::Source;
use polychord_session::{Model, read_header};
use support::{Writer, read, small_model, string};

fn with(key: &str, value: Value) -> Writer {
    small_model().without(key).pair(key, value)
}

#[test]
fn files_are_opened_and_others_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(read_header(folder.path()), Err(Error::NotAFile { .. })));
    assert!(matches!(read_header(folder.path().join("absent.gguf")), Err(Error::Open { .. })));
    assert!(matches!(read_header("/dev/zero"), Err(Error::NotAFile { found: "a device", .. })));
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, small_model().file()).unwrap();
    assert_eq!(read_header(&path).unwrap(), read(&small_model().file()).unwrap());
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(read_header(&path), Err(Error::Truncated { file_len: 0, .. })));
}

#[test]
fn a_model_of_thousands_of_blocks_is_opened_at_once() {
    let blocks = 4096;
    let mut writer = with("llama.block_count", Value::U32(blocks));
    let block: Vec<_> =
        writer.tensors.iter().filter(|it| it.name.starts_with(b"blk.")).cloned().collect();
    // Each tensor on a page of its own, and those of a block far apart: each is a layer.
    let page = 65_536;
    for (index, tensor) in (0..).zip(&mut writer.tensors) {
        tensor.offset = u64::from(blocks) * page * index;
    }
    for number in 1..blocks {
        for (index, tensor) in (0..).zip(&block) {
            let name = String::from_utf8(tensor.name.clone()).unwrap();
            let name = name.replace("blk.0.", &format!("blk.{number}.")).into_bytes();
            let offset = (index * u64::from(blocks) + u64::from(number)) * page
                + 16 * u64::from(blocks) * page;
            writer.tensors.push(support::Tensor { name, offset, ..tensor.clone() });
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, writer.header()).unwrap();
    // The tensors are a hole in the file.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 36).unwrap();
    let start = Instant::now();
    let model = Model::open(&path).unwrap();
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert!(model.layers().len() > 36_000, "{}", model.layers().len());
}

#[test]
fn header_and_weights_are_of_one_file_whatever_is_put_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["model.gguf", "other.gguf"].map(|name| folder.path().join(name));
    std::fs::write(&path, small_model().pair("general.name", string("first")).file()).unwrap();
    std::fs::write(&other, small_model().pair("general.name", string("second")).file()).unwrap();
    let source = Source::open(&path).unwrap();
    std::fs::rename(&other, &path).unwrap();
    let name =
        |model: &Model| model.gguf().metadata().str("general.name").unwrap().unwrap().to_owned();
    let opened = Model::from_source(&path, source).unwrap();
    assert_eq!(name(&opened), "first");
    assert_eq!(name(&Model::open(&path).unwrap()), "second");
}

#[test]
fn only_regular_files_are_models() {
    let folder = tempfile::tempdir().unwrap();
    for (path, found) in [(folder.path(), "directory"), ("/dev/zero".as_ref(), "device")] {
        let error = Model::open(path).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
}
