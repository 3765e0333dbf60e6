//! Files that people take for GGUF files: what they are, and how to get the right one.

/// How many bytes behind the magic number are looked at.
pub(super) const HEAD: u64 = 508;

/// What a file that starts with some bytes seems to be, and what to do about it.
pub(super) fn name(head: &[u8], file_len: u64) -> (&'static str, &'static str) {
    let found = SIGNATURES
        .iter()
        .find(|(at, bytes, ..)| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes)));
    match found {
        Some((.., found, advice)) if *found == ZIP && contains(head, b"data.pkl") => {
            ("a PyTorch model (a zip archive with pickled data)", advice)
        }
        Some((.., found, advice)) => (found, advice),
        None => by_contents(head, file_len),
    }
}

const ZIP: &str = "a zip archive";

const CONVERT: &str = "convert the model with convert_hf_to_gguf.py of llama.cpp, or download one \
                       that was converted: a file that ends in .gguf";
const UNPACK: &str = "unpack it first, and give the .gguf file that is in it";
const AGAIN: &str = "download the model again, and look at what the address really returns: it may \
                     need a login, or the address of the file itself (on Hugging Face with \
                     /resolve/ and not /blob/)";
const OLD: &str = "llama.cpp reads and writes no such files since August 2023: download the model \
                   as GGUF, or convert it again from its original";
const OTHER: &str = "give the .gguf file of a model";

/// Where some bytes are in files of a kind, what such files are, and what to do.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, which stands for the model in a repository",
        "fetch the model itself with `git lfs pull`, or download the file",
    ),
    (0, b"lmgg", "a GGML file from before GGUF", OLD),
    (0, b"fmgg", "a GGMF file from before GGUF", OLD),
    (0, b"tjgg", "a GGJT file from before GGUF", OLD),
    (0, b"algg", "a GGLA adapter from before GGUF", OLD),
    (0, b"ggml", "a GGML file from before GGUF", OLD),
    (0, b"ggjt", "a GGJT file from before GGUF", OLD),
    (
        0,
        b"FUGG",
        "a GGUF file in big-endian order",
        "convert it to little endian, for example with gguf-py's gguf_convert_endian",
    ),
    (
        0,
        b"PK\x03\x04",
        ZIP,
        "if it is a PyTorch or Keras model, convert it with \
                             convert_hf_to_gguf.py of llama.cpp; if it has a .gguf file in it, \
                             unpack it first",
    ),
    (0, b"PK\x05\x06", ZIP, UNPACK),
    (0, b"\x1f\x8b", "compressed by gzip", UNPACK),
    (0, b"BZh", "compressed by bzip2", UNPACK),
    (0, b"\xfd7zXZ\0", "compressed by xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (4, b"TFL3", "a TensorFlow Lite model", CONVERT),
    (0, b"\0asm", "a WebAssembly module", OTHER),
    (0, b"\x7fELF", "a program", OTHER),
    (0, b"\xcf\xfa\xed\xfe", "a program", OTHER),
    (
        0,
        b"MZ",
        "a program; if its name ends in .llamafile, a model may be in it",
        "take the .gguf file out of a llamafile with `unzip`",
    ),
    (0, b"%PDF", "a PDF document", OTHER),
    (0, b"\x89PNG", "a picture", OTHER),
    (0, b"\xff\xd8\xff", "a picture", OTHER),
];

/// What a file is that has no signature, by its contents, and what to do about it.
fn by_contents(head: &[u8], file_len: u64) -> (&'static str, &'static str) {
    if is_safetensors(head, file_len) {
        return ("a safetensors file, as Hugging Face's own tools write them", CONVERT);
    }
    if matches!(head, [0x80, 2..=5, ..]) {
        return ("a Python pickle, as PyTorch writes models", CONVERT);
    }
    if head.starts_with(&[0x08]) && (contains(head, b"pytorch") || contains(head, b"onnx")) {
        return ("an ONNX model", CONVERT);
    }
    if head.iter().all(|byte| *byte == 0) {
        let advice = "the download has not arrived, or was broken off: get the file again";
        return ("full of zeros", advice);
    }
    match text(head) {
        Some(text) => by_text(text),
        None => ("of a kind that is not known", "convert the model to GGUF first, or get it again"),
    }
}

fn by_text(text: &str) -> (&'static str, &'static str) {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let starts =
        |with: &str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if ["<!doctype html", "<html", "<head", "<body"].into_iter().any(starts) {
        return ("a web page (HTML)", AGAIN);
    }
    if starts("<") {
        return ("an XML document, perhaps the message of a server", AGAIN);
    }
    if starts("{") || starts("[") {
        return ("a JSON document, perhaps the message of a server or a model's index", AGAIN);
    }
    ("a text file", AGAIN)
}

/// The longest part of the start of a file that is text, if it is text.
fn text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut off, but no more than that.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_text).then_some(text)
}

/// The length of a JSON object, and its start.
fn is_safetensors(head: &[u8], file_len: u64) -> bool {
    let Some((len, rest)) = head.split_first_chunk() else { return false };
    let len = u64::from_le_bytes(*len);
    (2..file_len).contains(&len) && rest.starts_with(b"{")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
