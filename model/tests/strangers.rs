//! Files that real tools have made and real people have given: other formats, parts of models,
//! strings as C or an old encoding has them, and far too much of everything.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Read;
use std::time::Instant;

use polychord_model::config::{self, Config};
use polychord_model::gguf::{Array, Error, Gguf, Value};
use support::{Writer, put_bytes, read, small_model, string, strings};

fn with(key: &str, value: Value) -> Writer {
    small_model().without(key).pair(key, value)
}

/// Why a file is no model that can be run.
fn refusal(file: &[u8]) -> String {
    match read(file) {
        Ok(gguf) => Config::from_gguf(&gguf).map(|_| ()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn files_of_other_formats_are_named_with_a_way_out() {
    let tar = [&[b'a'; 257][..], b"ustar\0", &[0; 300]].concat();
    let safetensors =
        [&[30, 0, 0, 0, 0, 0, 0, 0][..], b"{\"a\":{\"dtype\":\"F32\"}}         "].concat();
    let torch = [&b"PK\x03\x04\x14\0\0\0"[..], &[0; 20], b"archive/data.pklFB"].concat();
    let onnx = b"\x08\x07\x12\x07pytorch\x1a\x05".to_vec();
    let page = "\u{feff}\n  <!DOCTYPE html>\n<html><head><title>\u{e9}</title>".as_bytes().to_vec();
    // The last character is cut off where the program stops looking.
    let long = format!("<HTML>{}", "\u{e9}".repeat(400)).into_bytes();
    let files: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".into(),
            "Git LFS",
            "git lfs pull",
        ),
        (page, "web page", "download the model again"),
        (long, "web page", "/resolve/"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>".into(), "XML", "login"),
        (b"{\"error\":\"Repository not found\"}".into(), "JSON", "login"),
        (b"Access to model x is restricted.".into(), "a text file", "login"),
        (b"PK\x03\x04aaaa".into(), "zip archive", "unpack"),
        (torch, "PyTorch", "convert_hf_to_gguf.py"),
        (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9".into(), "pickle", "convert_hf_to_gguf.py"),
        (b"\x80\x04\x95\0\0\0\0".into(), "pickle", "convert_hf_to_gguf.py"),
        (safetensors, "safetensors", "convert_hf_to_gguf.py"),
        (onnx, "ONNX", "convert_hf_to_gguf.py"),
        (b"\x89HDF\r\n\x1a\n\0\0".into(), "HDF5", "convert_hf_to_gguf.py"),
        (b"lmgg\x01\0\0\0\0\0".into(), "GGML", "August 2023"),
        (b"fmgg\x01\0\0\0\0\0".into(), "GGMF", "August 2023"),
        (b"tjgg\x03\0\0\0\0\0".into(), "GGJT", "August 2023"),
        (b"FUGG\0\0\0\x03".into(), "big-endian", "gguf_convert_endian"),
        (b"\x1f\x8b\x08\0\0\0".into(), "gzip", "unpack"),
        (b"\x28\xb5\x2f\xfd\0\0".into(), "zstd", "unpack"),
        (b"\xfd7zXZ\0\0\0".into(), "xz", "unpack"),
        (b"7z\xbc\xaf\x27\x1c\0\0".into(), "7z", "unpack"),
        (tar, "tar archive", "unpack"),
        (b"MZqFpD='\n".into(), "llamafile", "unzip"),
        (vec![0; 1000], "zeros", "get the file again"),
        (b"\x01\x02\x03\xff\x05".into(), "not known", "01, 02, 03, ff"),
    ];
    for (file, found, advice) in files {
        let error = read(&file).unwrap_err();
        assert!(matches!(error, Error::Magic { .. }), "{found}: {error}");
        let error = error.to_string();
        assert!(error.contains(found) && error.contains(advice), "{found}: {error}");
    }
    for short in [&b""[..], b"G", b"GGU"] {
        assert!(refusal(short).contains("get it again"));
    }
}

#[test]
fn a_part_of_a_model_says_which_one_it_is() {
    for number in [Value::U16(1), Value::I32(1), Value::U64(1)] {
        let part = Writer::default().pair("split.no", number).pair("split.count", Value::U16(3));
        let error = refusal(&part.file());
        for words in ["part 2 of 3", "by its path", "in one folder"] {
            assert!(error.contains(words), "{error}");
        }
    }
    let first =
        small_model().pair("split.no", Value::U16(0)).pair("split.count", Value::U16(2)).file();
    assert!(refusal(&first).contains("part 1 of 2"));
    // What was merged is whole.
    let whole = small_model().pair("split.no", Value::U16(0)).pair("split.count", Value::U16(1));
    Config::from_gguf(&read(&whole.file()).unwrap()).unwrap();
    let whole = small_model().pair("split.count", Value::U16(0));
    Config::from_gguf(&read(&whole.file()).unwrap()).unwrap();
    let odd = small_model()
        .pair("split.no", Value::U64(u64::MAX))
        .pair("split.count", Value::U64(u64::MAX));
    assert!(refusal(&odd.file()).contains("split model"));
}

#[test]
fn strings_that_end_with_zeros_are_the_strings_without() {
    let mut written = with("general.architecture", string("llama\0"));
    written.pairs.iter_mut().for_each(|(key, _)| key.push(0));
    written.tensors.iter_mut().for_each(|tensor| tensor.name.extend([0, 0]));
    let gguf = read(&written.file()).unwrap();
    assert_eq!(gguf.metadata().str("general.architecture").unwrap(), Some("llama"));
    assert!(gguf.tensor("token_embd.weight").is_some());
    Config::from_gguf(&gguf).unwrap();
    // But tokens are what they are, and zeros alone are no name.
    let tokens = read(&small_model().pair("t", strings(["a\0"])).file()).unwrap();
    assert_eq!(tokens.metadata().strings("t").unwrap().unwrap().get(0), Some("a\0"));
    assert!(matches!(
        read(&small_model().pair("\0", Value::U8(1)).file()),
        Err(Error::Empty { .. })
    ));
    let twice = small_model().pair("a", Value::U8(1)).pair("a\0", Value::U8(1)).file();
    assert!(matches!(read(&twice), Err(Error::DuplicateKey { .. })));
}

/// A pair of a key and an array of two strings, the second of which is given.
fn array(key: &[u8], second: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, key);
    out.extend(9_u32.to_le_bytes());
    out.extend(8_u32.to_le_bytes());
    out.extend(2_u64.to_le_bytes());
    put_bytes(&mut out, b"first");
    put_bytes(&mut out, second);
    out
}

#[test]
fn text_in_another_encoding_matters_only_where_it_is_needed() {
    let latin1 = || Value::Bytes(b"mod\xe8le".to_vec());
    let mut shown =
        small_model().pair("general.description", latin1()).pair("general.name", latin1());
    shown.pairs.push((b"cl\xe9".to_vec(), Value::U8(1)));
    shown.pairs.push((b"cl\xe8".to_vec(), Value::U8(2)));
    let gguf = read(&shown.file()).unwrap();
    Config::from_gguf(&gguf).unwrap();
    let description = gguf.metadata().get("general.description").unwrap();
    assert_eq!(description.to_string(), r#""mod\\xE8le" (not UTF-8)"#);
    assert_eq!(gguf.metadata().get(r"cl\xE9"), Some(&Value::U8(1)));

    let needed = with("general.architecture", latin1()).file();
    let error = refusal(&needed);
    assert!(error.contains("the value of key \"general.architecture\" is not UTF-8"), "{error}");

    // Arrays, too: of tags or of tokens.
    for key in ["general.tags", "tokenizer.ggml.tokens"] {
        let empty = Writer { pair_count: Some(1), ..Writer::default() }.header();
        let file = [&empty[..], &array(key.as_bytes(), b"caf\xe9")].concat();
        let gguf = read(&file).unwrap();
        let error = gguf.metadata().strings(key).unwrap_err().to_string();
        let expected = format!("string 1 of key {key:?} is not UTF-8 (\"caf\\\\xE9\")");
        assert!(error.contains(&expected), "{error}");
        let shown = gguf.metadata().get(key).unwrap().to_string();
        assert_eq!(shown, r#"["first", "caf\\xE9"]"#);
    }
    let mut name = small_model();
    name.tensors[3].name = b"caf\xe9".to_vec();
    let error = refusal(&name.file());
    assert!(error.contains("a tensor name") && error.contains("xE9"), "{error}");
}

/// The start of a file that claims more tensors and pairs than it has, and repeats a part forever.
struct Repeated {
    start: Vec<u8>,
    part: Box<dyn FnMut(u64) -> Vec<u8>>,
    made: u64,
}

impl Read for Repeated {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.start.is_empty() {
            self.start = (self.part)(self.made);
            self.made += 1;
        }
        let len = out.len().min(self.start.len());
        out[..len].copy_from_slice(&self.start[..len]);
        self.start.drain(..len);
        Ok(len)
    }
}

fn many(
    tensors: u64,
    pairs: u64,
    part: impl FnMut(u64) -> Vec<u8> + 'static,
) -> Result<Gguf, Error> {
    let writer =
        Writer { tensor_count: Some(tensors), pair_count: Some(pairs), ..Writer::default() };
    let from = Repeated { start: writer.header(), part: Box::new(part), made: 0 };
    let start = Instant::now();
    let result = Gguf::read(std::io::BufReader::new(from), 1 << 40);
    assert!(start.elapsed().as_secs() < 20, "{tensors} {pairs}: {:?}", start.elapsed());
    result
}

fn pair(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, format!("k{number}").as_bytes());
    out.extend([0, 0, 0, 0, 1]);
    out
}

fn tensor(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // Backwards in the file.
    put_bytes(&mut out, format!("t{number}").as_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(8_u64.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.extend(((65_536 - number) * 32).to_le_bytes());
    out
}

#[test]
fn a_million_of_anything_is_read_or_refused_at_once() {
    let million = 1_000_000;
    assert!(matches!(many(0, million, pair), Err(Error::Limit { count: 1_000_000, .. })));
    assert!(matches!(many(million, 0, tensor), Err(Error::Limit { count: 1_000_000, .. })));
    assert_eq!(many(0, 65_536, pair).unwrap().metadata().len(), 65_536);
    let gguf = many(65_536, 0, tensor).unwrap();
    assert_eq!(gguf.tensors().len(), 65_536);
    let start = Instant::now();
    assert!(Config::from_gguf(&gguf).is_err());
    assert!(start.elapsed().as_secs() < 20);

    let tokens: Vec<_> = (0..million).map(|number| number.to_string()).collect();
    let file = small_model().pair("tokenizer.ggml.tokens", strings(tokens)).file();
    let start = Instant::now();
    let gguf = read(&file).unwrap();
    let tokens = gguf.metadata().get("tokenizer.ggml.tokens").unwrap();
    assert!(matches!(tokens, Value::Array(Array::String(all)) if all.len() == 1_000_000));
    assert!(tokens.to_string().len() < 200 && Config::from_gguf(&gguf).is_err());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_file_without_keys_is_no_model() {
    assert!(matches!(
        Config::from_gguf(&read(&Writer::default().file()).unwrap()),
        Err(config::Error::Missing { .. })
    ));
}
