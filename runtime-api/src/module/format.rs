//! What bytes are that are no module, told by how they begin.

use crate::Error;

/// The error of bytes that are something else than a binary module; none if they begin like one.
pub(super) fn check(bytes: &[u8]) -> Result<(), Error> {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let reason = match bytes {
        [] => "there are no bytes: is the file empty?",
        // A component is explained with what is more than a module.
        _ if bytes.starts_with(MODULE) || bytes.starts_with(COMPONENT) => return Ok(()),
        _ if is_text(bytes) => {
            "it is in the text format: make a binary module of it (wasm-tools parse, wat2wasm)"
        }
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed: unpack it first",
        [0x7f, b'E', b'L', b'F', ..] => {
            "it is a program or library of this kind of machine, and not WebAssembly: build it for \
             wasm32-wasip1 or wasm32-unknown-unknown"
        }
        _ if MODULE.starts_with(bytes) => "it ends within the first 8 bytes: is it cut off?",
        [0, b'a', b's', b'm', ..] => {
            "it is WebAssembly of a version that Polychord does not know: modules have version 1"
        }
        _ => "it is no WebAssembly: a module begins with the bytes 00 61 73 6d",
    };
    Err(Error::InvalidModule { offset: 0, reason: reason.to_owned() })
}

/// Whether the bytes are a module as text: an opening parenthesis behind white space and comments.
fn is_text(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    start.starts_with(b"(") || start.starts_with(b";;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart() {
        assert!(check(b"\0asm\x01\0\0\0 whatever follows").is_ok());
        for (bytes, says) in [
            (&b""[..], "empty"),
            (b" \n(module)", "text format"),
            (b";; a comment\n(module)", "text format"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"\x7fELF\x02", "wasm32-wasip1"),
            (b"\0as", "cut off"),
            (b"\0asm\x01\0", "cut off"),
            (b"\0asm\x02\0\0\0", "version"),
            (b"#!/bin/sh", "no WebAssembly"),
        ] {
            let error = check(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
    }
}
