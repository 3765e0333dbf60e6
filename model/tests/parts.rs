//! Headers of models in several files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_model::gguf::{Error, GgmlType, Gguf, Part, Value};
use proptest::prelude::*;
use support::{Writer, read, string};

const PAGE: u64 = 65_536;

/// Part `number` of `count`, with these tensors; the first has the metadata.
fn part(number: u16, count: u16, all: i32, tensors: &[&str]) -> Writer {
    let writer = if number == 0 {
        Writer::default().pair("general.architecture", string("llama"))
    } else {
        Writer::default()
    };
    let writer = writer
        .pair("split.no", Value::U16(number))
        .pair("split.count", Value::U16(count))
        .pair("split.tensors.count", Value::I32(all));
    tensors.iter().fold(writer, |writer, name| writer.tensor(name, GgmlType::F32, &[8]))
}

fn header(writer: &Writer) -> Gguf {
    read(&writer.file()).unwrap()
}

fn refused(parts: &[Writer]) -> String {
    Gguf::joined(parts.iter().map(header).collect()).unwrap_err().to_string()
}

#[test]
fn parts_are_joined_at_whole_pages_that_no_layer_crosses() {
    let parts = [part(0, 3, 3, &["a"]), part(1, 3, 3, &["b", "c"]), part(2, 3, 3, &[])];
    let headers: Vec<_> = parts.iter().map(header).collect();
    assert_eq!(headers[1].part().unwrap(), Some(Part::new(1, 3)));
    let lens: Vec<_> = headers.iter().map(Gguf::file_len).collect();
    let starts = Gguf::starts(lens.iter().copied()).unwrap();
    assert_eq!(starts, [0, 2 * PAGE, 4 * PAGE]);
    let offset = headers[1].tensors()[1].offset;
    let whole = Gguf::joined(headers).unwrap();
    let names: Vec<_> = whole.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(whole.tensors()[2].offset, starts[1] + offset);
    assert_eq!((whole.parts(), whole.file_len()), (3, lens.iter().sum()));
    assert_eq!(whole.metadata().len(), 1, "that it was split is of no interest any more");
    assert_eq!(whole.part().unwrap(), None);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let good = [part(0, 2, 2, &["a"]), part(1, 2, 2, &["b"])];
    assert!(Gguf::joined(good.iter().map(header).collect()).is_ok());
    let [first, second] = good;
    for (parts, expected) in [
        (
            vec![second.clone(), first.clone()],
            "part 1 of 2 of the model cannot be used: it is part 2",
        ),
        (vec![first.clone(), first.clone()], "it is part 1"),
        (vec![first.clone(), part(1, 3, 2, &["b"])], "it is one of 3 parts"),
        (vec![first.clone()], "it is one of 2 parts"),
        (vec![first.clone(), Writer::default()], "it has no split.count"),
        (vec![first.clone(), part(1, 2, 3, &["b"])], "\"split.tensors.count\" differs"),
        (vec![part(0, 2, 3, &["a"]), part(1, 2, 3, &["b"])], "have 2 tensors, but"),
        (vec![first.clone(), part(1, 2, 2, &["a"])], "tensor \"a\" stands twice"),
        (
            vec![first.clone(), second.pair("general.architecture", string("qwen2"))],
            "\"general.architecture\" differs",
        ),
        (vec![], "longer than 64 bits"),
    ] {
        let error = refused(&parts);
        assert!(error.contains(expected), "{error}");
    }
    let odd = Writer::default().pair("split.no", Value::U16(2)).pair("split.count", Value::U16(2));
    assert!(matches!(header(&odd).part(), Err(Error::Part { part: 3, count: 2, .. })));
    let text = Writer::default().pair("split.count", string("2"));
    assert!(matches!(header(&text).part(), Err(Error::WrongType { .. })));
    assert_eq!(Gguf::starts([1, u64::MAX]), None);
    assert_eq!(Gguf::starts([1, u64::MAX - 3 * PAGE, 1]), None);
    assert!(Gguf::starts([1, u64::MAX - 3 * PAGE]).is_some());
}

proptest! {
    #[test]
    fn any_files_start_behind_each_other(lens in prop::collection::vec(0..1_u64 << 40, 0..20)) {
        let starts = Gguf::starts(lens.iter().copied()).unwrap();
        prop_assert_eq!(starts.len(), lens.len());
        for ((start, len), next) in starts.iter().zip(&lens).zip(starts.iter().skip(1)) {
            prop_assert_eq!(next % PAGE, 0);
            prop_assert!(start + len + PAGE <= *next);
        }
    }
}
